"""Array families: what the library knows of each kind of array."""
