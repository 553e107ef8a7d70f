"""Several recipes and seeds under one budget: what is to be run, and the running of it."""
