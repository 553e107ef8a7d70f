"""Approximate prediction: building a beam for a model, measuring it, and its files."""
