"""Recipes, and the loop that turns them into published versions."""
