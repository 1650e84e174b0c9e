"""Decide: loss tails, margins, haircuts, speed limits and the plan."""
