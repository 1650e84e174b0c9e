"""Predict: causal stress labels, their probability, and the regime with hysteresis."""
