"""Recipes: the sections of settings, their files, and those that are shipped."""
