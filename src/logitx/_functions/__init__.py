"""The public functions. START HERE: each is a signature and a docstring; the body checks its arguments and runs."""
