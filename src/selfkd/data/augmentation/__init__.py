"""Random changes of training images. `augmentations` holds crops and flips; `regularization` holds all others."""
