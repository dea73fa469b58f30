"""Model card: training data, metrics on held-out photographs, and limits of a bundle."""
