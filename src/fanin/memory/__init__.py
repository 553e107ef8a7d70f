"""How much memory a run takes, before anything is allocated; what there is, and the ways out of a budget."""
