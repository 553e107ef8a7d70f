"""From files to texts, positives and batches: readers, the tokenised store, and what is in a data set."""
