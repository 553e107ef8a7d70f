"""Arithmetic on arrays: the sparse layer's operations and their backends. Knows nothing of text, files or loops."""
