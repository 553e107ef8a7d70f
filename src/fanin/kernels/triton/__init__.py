"""The Triton backend: every operation of :mod:`fanin.kernels.spec` on a GPU. Triton is imported in here alone."""
