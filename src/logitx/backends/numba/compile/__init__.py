"""How Python becomes machine code."""
