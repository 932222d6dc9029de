"""Everything compiled. Kernels trust their arguments: the face has checked them.

Numba is imported in this folder only. A kernel cached on disk is not rebuilt when a function that
it calls *in another file* changes; after such an edit, touch the callers or clear ``__pycache__``.
"""
