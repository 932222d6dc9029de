"""Everything compiled in quant; its one folder with numba. Kernels trust what the face checked."""
