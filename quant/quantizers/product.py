"""Product quantization: round each d neighbouring weights of a row to a vector of a codebook."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from quant.base.config import Config, QuantizedTensor, check_bool, check_choice
from quant.base.matrix import Layout
from quant.io.validation import (
    MAX_FLOAT32,
    check_codebook,
    check_codes,
    check_names,
    check_reach,
    check_scales,
)
from quant.numerics.group_scales import DTYPES, RULES, make_scales, stored_scales, used_scales
from quant.numerics.kmeans import kmeans, nearest
from quant.numerics.lloyd_max_1d import lloyd_max
from quant.types import Array, Float64, Matrix


@dataclass(frozen=True, eq=False, kw_only=True)
class ProductBook:
    """Codebooks and scales, fitted to a weight.

    Attributes
    ----------
    codebook : (K, d) float32, or (S, K, d)
        Vectors for all S = ceil(C / d) sub-spaces, or for each sub-space.
    scales : (R or 1, 1) float32 > 0
        Divisors of the rows.

    Raises
    ------
    ValueError
        If a level is not finite in float32.
    """

    codebook: Matrix
    scales: Matrix

    def __post_init__(self) -> None:
        largest = float(self.scales.max()) * float(np.abs(self.codebook).max())
        if not largest <= MAX_FLOAT32:
            raise ValueError(
                f"levels must be finite in float32, got {largest:.4g}; the weights are too large"
            )


@dataclass(frozen=True, kw_only=True)
class ProductConfig(Config, kind="product"):
    """Round to vectors of d weights; a sub-space is d neighbouring columns.

    There are S = ceil(C / d) codes a row. Where d does not divide C, the last sub-space is padded
    with columns of zeros to fit codebooks; its codes minimize the error of the columns that exist.
    `fit` returns a `ProductBook`. `fit` and `encode` take neither a Hessian nor column weights.

    Attributes
    ----------
    dim : int in 1..64
        Weights per code, d. Codebooks are fitted by k-means; by `lloyd_max` if d = 1.
    k : int in 2..256
        Vectors of a codebook, at most; fewer where fewer sub-vectors differ.
    shared : bool
        Whether all sub-spaces share one codebook; else there are S codebooks, S times the bytes.
    scale : str
        Scale of a row: "rms", the root mean square; "absmax", the largest magnitude; "none".
    scale_dtype : str
        Dtype of stored scales: "float16" or "float32".
    n_train : int >= 1
        Sub-vectors that a codebook is fitted to, at most: a random sample.
    iterations : int in 1..10000
        Iterations of k-means, at most.
    seed : int >= 0
        Seed of the random samples.

    Examples
    --------
    >>> config = ProductConfig(dim=2, k=4, scale="none")
    >>> q = config.encode(np.array([[1.0, 2.0, 5.0, 6.0], [5.0, 6.0, 1.0, 2.0]]))
    >>> q.codes.shape
    (2, 2)
    >>> q.dequantize().tolist()
    [[1.0, 2.0, 5.0, 6.0], [5.0, 6.0, 1.0, 2.0]]
    """

    dim: int = 4
    k: int = 256
    shared: bool = True
    scale: str = "rms"
    scale_dtype: str = "float32"
    n_train: int = 65_536
    iterations: int = 25
    seed: int = 0

    def __post_init__(self) -> None:
        self.check_ints(dim=(1, 64), k=(2, 256))
        check_bool(self.shared, "shared")
        check_choice(self.scale, "scale", RULES)
        check_choice(self.scale_dtype, "scale_dtype", DTYPES)
        self.check_ints(n_train=(1, 2**31 - 1), iterations=(1, 10_000), seed=(0, 2**63 - 1))

    def fit_matrix(
        self, matrix: Matrix, hessian: Any = None, *, column_weights: Any = None
    ) -> ProductBook:
        """Return codebooks and scales for a matrix (R, C); see `Config.fit`."""
        self.refuse(hessian=hessian, column_weights=column_weights)
        scales = make_scales(matrix, self.scale, matrix.shape[1], self.scale_dtype)
        used = used_scales(scales)
        if not scales.any():
            vectors, weights = np.zeros((1, matrix.shape[1]), np.float32), np.ones((1, 1))
        else:  # without rows of zeros; the error of a quotient is weighted by its squared scale
            is_counted = np.broadcast_to(scales > 0, (len(matrix), 1))[:, 0]
            vectors = matrix[is_counted] / (used[is_counted] if len(used) > 1 else used)
            squares = np.square(used / used.max(), dtype=np.float64)
            weights = np.broadcast_to(squares, (len(matrix), 1))[is_counted]
        parts = self.split(vectors)
        if self.shared:
            everything = parts.reshape(-1, self.dim)
            mass = np.broadcast_to(weights, parts.shape[:2]).ravel()
            return ProductBook(codebook=self.cluster(everything, mass), scales=used)
        books = [self.cluster(parts[:, s], weights[:, 0]) for s in range(parts.shape[1])]
        n = max(len(book) for book in books)
        filled = [np.concatenate([book, np.repeat(book[-1:], n - len(book), 0)]) for book in books]
        return ProductBook(codebook=np.stack(filled), scales=used)

    def encode_matrix(
        self,
        matrix: Matrix,
        layout: Layout,
        hessian: Any = None,
        *,
        column_weights: Any = None,
        fitted: Any = None,
    ) -> QuantizedTensor:
        """Quantize a matrix (R, C); see `Config.encode`."""
        self.refuse(hessian=hessian, column_weights=column_weights)
        if fitted is None:
            book = self.fit_matrix(matrix)
        else:
            self.check_fitted(fitted, matrix.shape)
            book = fitted
        return QuantizedTensor(
            codes=self.nearest_codes(matrix, book),
            code_bits=max(1, (book.codebook.shape[-2] - 1).bit_length()),
            arrays=self.arrays(book),
            layout=layout,
            config=self,
        )

    def cluster(self, vectors: Matrix, weights: Float64) -> Matrix:
        """Fit a codebook (K, d) to vectors (N, d) with weights (N,), or to a sample of them."""
        if self.dim == 1:
            values = lloyd_max(vectors[:, 0], self.k, weights=weights)
            return values.astype(np.float32)[:, None]
        if len(vectors) > self.n_train:
            rng = np.random.default_rng(self.seed)
            chosen = np.sort(rng.choice(len(vectors), self.n_train, replace=False, shuffle=False))
            vectors, weights = vectors[chosen], weights[chosen]
        return kmeans(vectors, self.k, weights=weights, seed=self.seed, iterations=self.iterations)

    def split(self, matrix: Matrix) -> Matrix:
        """Split a matrix (R, C) into sub-vectors (R, S, d); the last is padded with zeros."""
        rows, columns = matrix.shape
        missing = -columns % self.dim
        if missing:
            matrix = np.pad(matrix, ((0, 0), (0, missing)))
        return matrix.reshape(rows, -1, self.dim)

    def nearest_codes(self, matrix: Matrix, book: ProductBook) -> Array:
        """Return the codes (R, S) uint8 of the vectors nearest to a matrix (R, C) float32."""
        divided = matrix / book.scales
        rows, columns = divided.shape
        codes = np.empty(self.codes_shape(divided.shape), np.uint8)
        n_whole = columns // self.dim
        whole = divided[:, : n_whole * self.dim].reshape(rows, n_whole, self.dim)
        if self.shared and n_whole:
            indices = nearest(whole.reshape(-1, self.dim), book.codebook)
            codes[:, :n_whole] = indices.reshape(rows, n_whole)
        elif not self.shared:
            for s in range(n_whole):
                codes[:, s] = nearest(whole[:, s], book.codebook[s])
        if rest := columns % self.dim:  # padding does not count
            last = book.codebook if self.shared else book.codebook[-1]
            codes[:, -1] = nearest(divided[:, -rest:], last[:, :rest])
        return codes

    def arrays(self, book: ProductBook) -> dict[str, Array]:
        """Return ``codebook``, and ``scales`` if there are any."""
        if self.scale == "none":
            return {"codebook": book.codebook}
        return {
            "codebook": book.codebook,
            "scales": stored_scales(book.scales, self.scale_dtype),
        }

    def codes_shape(self, shape: tuple[int, int]) -> tuple[int, int]:
        """Return the shape of the codes, (R, S)."""
        return shape[0], -(-shape[1] // self.dim)

    def reach(self, arrays: Mapping[str, Array]) -> float:
        """Return the largest magnitude that a decoded weight can have."""
        return float(np.abs(arrays["codebook"]).max()) * float(np.max(arrays.get("scales", 1)))

    def decode(self, codes: Array, arrays: Mapping[str, Array], shape: tuple[int, int]) -> Matrix:
        """Decode to vectors times scales, a matrix (R, C) float32, without padding."""
        codebook = arrays["codebook"]
        parts = codebook[codes] if self.shared else codebook[np.arange(codes.shape[1]), codes]
        matrix: Matrix = parts.reshape(shape[0], -1)[:, : shape[1]]
        return matrix * np.asarray(arrays.get("scales", 1), np.float32)

    def check(self, codes: Array, arrays: Mapping[str, Array], shape: tuple[int, int]) -> None:
        """Raise ValueError unless `decode` accepts these arrays."""
        is_scaled = self.scale != "none"
        check_names(arrays, {"codebook", "scales"} if is_scaled else {"codebook"})
        if is_scaled:
            check_scales(arrays["scales"], self.scale_dtype, (shape[0], 1))
        codes_shape = self.codes_shape(shape)
        before = () if self.shared else codes_shape[1:]
        check_codebook(arrays["codebook"], self.k, before, (self.dim,))
        check_reach(self.reach(arrays))
        check_codes(codes, codes_shape, arrays["codebook"].shape[-2])

    def check_fitted(self, fitted: Any, shape: tuple[int, int]) -> None:
        """Raise ValueError unless codebooks and scales equal those decoded from their arrays."""
        is_stored = False
        if isinstance(fitted, ProductBook):
            arrays = self.arrays(fitted)
            used = used_scales(arrays.get("scales", np.ones((1, 1))))
            try:
                self.check(np.zeros(self.codes_shape(shape), np.uint8), arrays, shape)
                is_stored = np.array_equal(used, fitted.scales)
            except ValueError:  # another shape or other settings
                pass
        if not is_stored:
            raise ValueError(
                f"fitted must be the codebooks of {self} for a matrix of shape {shape}, got "
                f"{type(fitted).__name__} of other settings or another shape; use what fit returns"
            )
