"""How a generator is made: data, objectives, the loop and the recipes. Uses models/ alone."""
