"""One pass over a split, metrics as functions of what it gives, and scores with their unit."""
