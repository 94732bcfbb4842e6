"""Training and evaluation of generators: data, algorithms, the loop, recipes. Imports models/ alone."""
