"""The passes that kernels are made of: blocks, copies, reduce, finish, and what losses add."""
