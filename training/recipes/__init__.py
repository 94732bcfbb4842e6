"""Recipes: their settings, and the files that come with latentd."""
