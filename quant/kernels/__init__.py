"""Compiled kernels of quant, the only folder with numba. Callers check all arguments."""
