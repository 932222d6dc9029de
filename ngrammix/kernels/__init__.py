"""Everything compiled; the one folder with numba. Kernels trust what the face has checked."""
