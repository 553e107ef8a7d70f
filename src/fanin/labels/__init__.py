"""What is known of the labels: names, frequencies and propensities, the texts that mark them, and which are related."""
