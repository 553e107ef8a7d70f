"""From a recipe and a data set to a trained model: the objects of a run, the loop, and going on after a stop."""
