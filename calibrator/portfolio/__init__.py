"""NET: what a portfolio may lose, and the margin it therefore needs."""
