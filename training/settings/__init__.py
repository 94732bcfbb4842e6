"""What a recipe can say: one class for each algorithm. training/recipe.py chooses the class by the objective."""
