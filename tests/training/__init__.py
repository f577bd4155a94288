"""Training: data, recipes, the loop, export and the command line."""
