"""What a recipe can say: a class for each kind of game, from which training/recipe.py chooses by the objective."""
