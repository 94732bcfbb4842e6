"""What a recipe can say: a class for each kind of algorithm, from which training/recipe.py chooses by the objective."""
