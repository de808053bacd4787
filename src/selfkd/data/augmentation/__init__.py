"""What changes training images: augmentation, and the regularisation of papers."""
