"""Lists and decodes images, in class folders and in tables. An image becomes RGB with 8 bits, or an error names it."""
