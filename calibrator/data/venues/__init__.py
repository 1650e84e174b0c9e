"""One module per venue: what it serves, how it is asked, and pure parsers from bytes to a canonical frame."""
