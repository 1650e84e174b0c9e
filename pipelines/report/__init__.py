"""The report: one self-contained page for a risk committee, and its figures."""
