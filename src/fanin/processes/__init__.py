"""Several processes that train one model together: what they send to each other."""
