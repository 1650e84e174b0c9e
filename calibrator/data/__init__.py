"""Bring in: sources of bars behind one gate, quality rules, and the catalogue of stress events."""
