"""How good ranked predictions are: precision, nDCG, recall, propensity-scored versions, coverage, label groups."""
