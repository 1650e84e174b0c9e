"""Sign: the parameter document, its constraints and the signed repository."""
