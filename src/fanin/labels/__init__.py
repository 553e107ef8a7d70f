"""What is known of the labels themselves: their names and their propensities."""
