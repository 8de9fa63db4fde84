"""The kernels, and `compiled`, which makes them for a combination of dtypes."""
