"""Data for training: where it is found, how it is read, and the data sets that a recipe can name."""
