"""How good a generator is: figures, and the features that they are measured on."""
