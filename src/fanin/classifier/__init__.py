"""The output layer and everything that changes it."""
