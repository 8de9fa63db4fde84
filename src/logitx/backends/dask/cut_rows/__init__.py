"""Rows whose classes lie in several chunks: reduce each chunk, merge the pairs, finish each chunk."""
