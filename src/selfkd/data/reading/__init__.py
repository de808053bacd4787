"""From files and tables of images to RGB images."""
