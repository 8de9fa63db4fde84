"""Memory as kernels see it: arguments, loads and stores, scratch memory, prefetches."""
