"""The kernels: what each takes, its entry function, and what the passes of the loop do for it."""
