"""From files to texts, positives and batches: readers, the tokenised store, and what is in a data set."""

from fanin.data.batches import Batch, Batches
from fanin.data.building import build_store
from fanin.data.content import content_key
from fanin.data.dataset import Dataset
from fanin.data.formats import open_dataset
from fanin.data.label_rows import LabelRows
from fanin.data.store import Store, TokenizedSplit

__all__ = [
    "Batch",
    "Batches",
    "Dataset",
    "LabelRows",
    "Store",
    "TokenizedSplit",
    "build_store",
    "content_key",
    "open_dataset",
]
