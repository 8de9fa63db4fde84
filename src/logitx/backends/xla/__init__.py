"""The kernels as XLA calls them: call frames, threads, handlers."""
