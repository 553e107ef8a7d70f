"""Precomputed text features in a ``.npy`` file, checked before anything is computed with them."""

from __future__ import annotations

import tokenize
import warnings
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from fanin.errors import DataError
from fanin.mapped_arrays import forget

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

BLOCK_VALUES = 1 << 22
"""Values that are checked at a time."""


@dataclass(frozen=True)
class FeatureStatistics:
    """What a feature file holds.

    Attributes:
        rows: N, the texts.
        features: D.
        dtype: of the stored values.
        zero_rows: texts whose features are all zero.
        smallest: value of all.
        largest: value of all.
        mean_norm: mean Euclidean length of a row.
    """

    rows: int
    features: int
    dtype: str
    zero_rows: int
    smallest: float
    largest: float
    mean_norm: float

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def open_features(path: Path) -> NDArray[np.floating[Any]]:
    """Memory-map a feature matrix (N, D) of float16, float32 or float64; nothing is read but the header.

    Raises:
        DataError: the file is missing, no ``.npy`` file, truncated, holds pickled objects, or is not such a matrix.
    """
    try:
        with warnings.catch_warnings(), np.errstate(over="raise"):  # in the size of a shape that cannot be
            warnings.simplefilter("ignore")  # of headers as old versions wrote them; what is no matrix is refused below
            features = np.load(path, mmap_mode="r", allow_pickle=False)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from error
    except (ValueError, EOFError, SyntaxError, tokenize.TokenError, MemoryError, ArithmeticError) as error:
        raise DataError(
            f"{path}: not a whole .npy file of numbers ({' '.join(str(error).split())}); save the array with a numeric "
            "dtype, pickled objects are refused"
        ) from error
    if not isinstance(features, np.ndarray):
        raise DataError(f"{path}: an .npz archive; give a single array saved with numpy.save")
    if features.ndim != 2 or 0 in features.shape:
        raise DataError(f"{path}: has shape {features.shape}; features are one row a text, at least 1 x 1")
    if features.dtype not in (np.float16, np.float32, np.float64):
        raise DataError(f"{path}: holds {features.dtype}; features must be float16, float32 or float64")
    return features


def check_finite(features: NDArray[np.floating[Any]], source: str) -> Iterator[int]:
    """Read features (N, D) block by block, and tell after each how many rows were read.

    Raises:
        DataError: a value is NaN or infinite as float32; the message names ``source``, row and column.
    """
    done = 0
    for block in _finite_blocks(features, source):
        done += len(block)
        yield done


def describe_features(path: Path) -> FeatureStatistics:
    """Read a whole feature file, block by block, and check that every value is finite.

    Raises:
        DataError: as :func:`open_features`, or a value is NaN or infinite; the message names row and column.
    """
    features = open_features(path)
    N, D = features.shape
    zero_rows, norms, smallest, largest = 0, 0.0, np.inf, -np.inf
    for block in _finite_blocks(features, str(path)):
        zero_rows += int((block == 0).all(axis=1).sum())
        norms += float(np.linalg.norm(block, axis=1).sum())
        smallest, largest = min(smallest, float(block.min())), max(largest, float(block.max()))
    return FeatureStatistics(N, D, str(features.dtype), zero_rows, smallest, largest, norms / N)


def _finite_blocks(features: NDArray[np.floating[Any]], source: str) -> Iterator[NDArray[np.float64]]:
    """Blocks (n, D) of rows as float64."""
    step = max(1, BLOCK_VALUES // features.shape[1])
    for start in range(0, len(features), step):
        with np.errstate(invalid="ignore"):  # numpy warns of a signalling NaN that it widens; it is refused below
            block = np.asarray(features[start : start + step], dtype=np.float64)
        bad = ~(np.abs(block) <= np.finfo(np.float32).max)
        if bad.any():
            row, column = np.argwhere(bad)[0]
            raise DataError(
                f"{source}, row {start + row}, column {column}: the value is {block[row, column]}; features must be "
                "finite, as float32 too"
            )
        yield block
        forget(features)
