"""Challenge: coverage tests, comparator policies and the replay of accounts."""
