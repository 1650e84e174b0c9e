"""Predict: forecasters of the variance over the next horizon, behind one contract."""
