"""Product quantization: each run of d weights of a row together, to a vector of a codebook."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quant.base.config import Config, check_choice, check_int
from quant.base.matrix import as_matrix
from quant.base.tensor import QuantizedTensor
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

Array = NDArray[Any]
Matrix = NDArray[np.float32]


@dataclass(frozen=True, eq=False, kw_only=True)
class ProductBook:
    """What a weight is quantized with.

    Attributes
    ----------
    codebook : (K, d) float32, or (S, K, d)
        Vectors for all S = ceil(C / d) sub-spaces, or for each its own.
    scales : (R or 1, 1) float32 > 0
        What the rows are divided by.
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
    """Codes of d weights each: a sub-space is d neighbouring columns.

    Where d does not divide the columns, the last sub-space is filled up with columns of zeros to
    fit codebooks, and its codes are those of the vectors nearest in the columns that there are:
    ceil(C / d) codes a row.

    Attributes
    ----------
    dim : int in 1..64
        Weights that share a code, d. Codebooks are fitted by k-means; if d = 1, by `lloyd_max`.
    k : int in 2..256
        Vectors of a codebook, at most: as many as differ.
    shared : bool
        Whether one codebook serves all sub-spaces; else each has its own, and S times the bytes.
    scale : str
        Of a row: "rms", the root of the mean square; "absmax", the largest magnitude; "none".
    scale_dtype : str
        "float16" or "float32", in which scales are stored.
    n_train : int >= 1
        Vectors that a codebook is fitted to, at most; drawn from all.
    iterations : int in 1..10000
        Of k-means, at most.
    seed : int >= 0
        Of the draws.
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
        check_int(self.dim, "dim", 1, 64)
        check_int(self.k, "k", 2, 256)
        if type(self.shared) is not bool:
            raise ValueError(f"shared must be True or False, got {self.shared!r}; correct it")
        check_choice(self.scale, "scale", RULES)
        check_choice(self.scale_dtype, "scale_dtype", DTYPES)
        check_int(self.n_train, "n_train", 1, 2**31 - 1)
        check_int(self.iterations, "iterations", 1, 10_000)
        check_int(self.seed, "seed", 0, 2**63 - 1)

    def fit(self, matrix: Matrix) -> ProductBook:
        """Codebook and scales for a matrix (R, C) float32, finite."""
        scales = make_scales(matrix, self.scale, matrix.shape[1], self.scale_dtype)
        used = used_scales(scales)
        if not scales.any():
            vectors, weights = np.zeros((1, matrix.shape[1]), np.float32), np.ones((1, 1))
        else:  # rows of zeros do not count; an error of the others' quotients by the square
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

    def cluster(self, vectors: Matrix, weights: NDArray[np.float64]) -> Matrix:
        """Codebook (K, d) for vectors (N, d), or for a sample of them; if d = 1, the best."""
        if self.dim == 1:
            values = lloyd_max(vectors[:, 0], self.k, weights=weights)
            return values.astype(np.float32)[:, None]
        if len(vectors) > self.n_train:
            rng = np.random.default_rng(self.seed)
            chosen = np.sort(rng.choice(len(vectors), self.n_train, replace=False, shuffle=False))
            vectors, weights = vectors[chosen], weights[chosen]
        return kmeans(vectors, self.k, weights=weights, seed=self.seed, iterations=self.iterations)

    def split(self, matrix: Matrix) -> Matrix:
        """(R, S, d): the sub-vectors of a matrix (R, C), the last filled up with zeros."""
        rows, columns = matrix.shape
        missing = -columns % self.dim
        if missing:
            matrix = np.pad(matrix, ((0, 0), (0, missing)))
        return matrix.reshape(rows, -1, self.dim)

    def encode(self, matrix: Matrix, book: ProductBook) -> Array:
        """Codes (R, S) uint8 of a matrix (R, C) float32: of the nearest vectors."""
        divided = matrix / book.scales
        rows, columns = divided.shape
        codes = np.empty(self.codes_shape(divided.shape), np.uint8)
        n_whole = columns // self.dim
        whole = divided[:, : n_whole * self.dim].reshape(rows, n_whole, self.dim)
        if self.shared and n_whole:
            found = nearest(whole.reshape(-1, self.dim), book.codebook)
            codes[:, :n_whole] = found.reshape(rows, n_whole)
        elif not self.shared:
            for s in range(n_whole):
                codes[:, s] = nearest(whole[:, s], book.codebook[s])
        if rest := columns % self.dim:  # what was filled up is dropped: it does not count
            last = book.codebook if self.shared else book.codebook[-1]
            codes[:, -1] = nearest(divided[:, -rest:], last[:, :rest])
        return codes

    def arrays(self, book: ProductBook) -> dict[str, Array]:
        """What is stored: the codebook, and the scales if there are any."""
        if self.scale == "none":
            return {"codebook": book.codebook}
        return {
            "codebook": book.codebook,
            "scales": stored_scales(book.scales, self.scale_dtype),
        }

    def codes_shape(self, shape: tuple[int, int]) -> tuple[int, int]:
        """(R, S): a code for each sub-vector."""
        return shape[0], -(-shape[1] // self.dim)

    def reach(self, arrays: Mapping[str, Array]) -> float:
        """The largest magnitude that a weight can have."""
        return float(np.abs(arrays["codebook"]).max()) * float(np.max(arrays.get("scales", 1)))

    def decode(self, codes: Array, arrays: Mapping[str, Array], shape: tuple[int, int]) -> Matrix:
        """The matrix (R, C) float32: vectors times scales, without what was filled up."""
        codebook = arrays["codebook"]
        parts = codebook[codes] if self.shared else codebook[np.arange(codes.shape[1]), codes]
        matrix: Matrix = parts.reshape(shape[0], -1)[:, : shape[1]]
        return matrix * np.asarray(arrays.get("scales", 1), np.float32)

    def check(self, codes: Array, arrays: Mapping[str, Array], shape: tuple[int, int]) -> None:
        """Raise ValueError unless `decode` can take these."""
        is_scaled = self.scale != "none"
        check_names(arrays, {"codebook", "scales"} if is_scaled else {"codebook"})
        if is_scaled:
            check_scales(arrays["scales"], self.scale_dtype, (shape[0], 1))
        codes_shape = self.codes_shape(shape)
        before = () if self.shared else codes_shape[1:]
        check_codebook(arrays["codebook"], self.k, before, (self.dim,))
        check_reach(self.reach(arrays))
        check_codes(codes, codes_shape, arrays["codebook"].shape[-2])


class ProductQuantizer:
    """Quantizes runs of weights to the vectors of a codebook.

    Parameters
    ----------
    config : ProductConfig, optional
    fields
        Fields of `ProductConfig`, in place of those of `config`.

    Examples
    --------
    >>> quantizer = ProductQuantizer(dim=2, k=4, scale="none")
    >>> q = quantizer.encode(np.array([[1.0, 2.0, 5.0, 6.0], [5.0, 6.0, 1.0, 2.0]]))
    >>> q.codes.shape
    (2, 2)
    >>> q.dequantize().tolist()
    [[1.0, 2.0, 5.0, 6.0], [5.0, 6.0, 1.0, 2.0]]
    """

    def __init__(self, config: ProductConfig | None = None, /, **fields: Any) -> None:
        self.config = replace(config or ProductConfig(), **fields)

    def fit(self, weight: Any, *, transposed: bool = False) -> ProductBook:
        """Codebook and scales for a weight.

        ValueError if it is no finite matrix (`as_matrix`), or a scale does not fit
        its dtype.
        """
        return self.config.fit(as_matrix(weight, transposed=transposed)[0])

    def encode(
        self, weight: Any, fitted: ProductBook | None = None, *, transposed: bool = False
    ) -> QuantizedTensor:
        """The weight quantized, with what `fit` gave, or else with what fits it.

        Raises
        ------
        ValueError
            As `fit`; and if `fitted` is not of this configuration and shape.
        """
        matrix, layout = as_matrix(weight, transposed=transposed)
        book = self.config.fit(matrix) if fitted is None else fitted
        arrays = self.config.arrays(book)
        if fitted is not None:
            self._check_fitted(fitted, arrays, matrix.shape)
        return QuantizedTensor(
            codes=self.config.encode(matrix, book),
            code_bits=max(1, (book.codebook.shape[-2] - 1).bit_length()),
            arrays=arrays,
            layout=layout,
            config=self.config,
        )

    def decode(self, q: QuantizedTensor) -> Any:
        """The weight again: ``q.dequantize()``."""
        return q.dequantize()

    def _check_fitted(
        self, fitted: ProductBook, arrays: dict[str, Array], shape: tuple[int, int]
    ) -> None:
        used = used_scales(arrays.get("scales", np.ones((1, 1))))
        try:
            self.config.check(np.zeros(self.config.codes_shape(shape), np.uint8), arrays, shape)
            is_same = np.array_equal(used, fitted.scales)
        except ValueError:
            is_same = False
        if not is_same:
            raise ValueError(
                f"fitted must be of {self.config} for shape {shape}, got a codebook of shape "
                f"{fitted.codebook.shape} and scales of shape {fitted.scales.shape}; fit it with "
                "this quantizer"
            )
