"""What a recipe can say: one class for each algorithm. training/recipes/load.py chooses the class by the objective."""
