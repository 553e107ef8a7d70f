"""Sparse features read once, with their values and labels, as memory-mapped arrays."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from fanin.data.feature_rows import SparseFeatures
from fanin.data.label_rows import MAX_COLUMNS
from fanin.data.label_store import FLOAT32, INT32, INT64, LabelStore
from fanin.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Mapping


class SparseStore(LabelStore):
    """The sparse features and labels of some splits, opened read-only; see :class:`LabelStore`.

    Args:
        folder: a folder written by :func:`fanin.data.building.build_sparse_store`.

    Raises:
        DataError: the folder is missing, damaged, of another version, or holds something else.
    """

    holds: ClassVar[str] = "features"
    parts: ClassVar[Mapping[str, tuple[str, ...]]] = {
        **LabelStore.parts,
        "features_indptr": (INT64,),
        "features": (INT32,),
        "values": (FLOAT32,),
    }

    @property
    def columns(self) -> int:
        """D0, the number of features."""
        return int(self._meta["columns"])

    def features(self, name: str) -> SparseFeatures:
        """The features of the rows of a split, mapped anew.

        Raises:
            DataError: there is no such split, or its arrays do not fit each other.
        """
        self.check_split(name)
        indptr, indices = self.rows(name, "features")
        values = self.array(name, "values")
        if len(values) != len(indices):
            raise DataError(f"{self.folder}: {name}.values.bin does not fit the features; delete the folder")
        return SparseFeatures(indptr, indices, values, self.columns)

    def _describes_a_store(self, meta: dict[str, Any]) -> bool:
        columns = meta["columns"]
        return type(columns) is int and 0 <= columns <= MAX_COLUMNS and super()._describes_a_store(meta)
