"""The targets: every kind of array and of transformation that the cases run on."""
