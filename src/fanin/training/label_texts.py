"""Label names as texts to train on: each is relevant to its own label and to no other."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fanin.data.building import BLOCK_TEXTS
from fanin.data.store import TokenizedSplit

if TYPE_CHECKING:
    from fanin.encoders.interface import TextTokenizer
    from fanin.labels.vocabulary import LabelVocabulary
    from fanin.training.progress import ProgressDisplay


def label_texts(tokenizer: TextTokenizer, names: LabelVocabulary, display: ProgressDisplay) -> TokenizedSplit:
    """The tokens of the label names; names of which the tokenizer leaves nothing are left out.

    They are tokenised anew by every run: some seconds for a million short names.

    Args:
        tokenizer: of the training texts.
        names: of all labels.
        display: told of the progress.

    Returns:
        At most L rows, in the order of the labels.
    """
    display.start("tokenising label names", len(names))
    tokens, lengths = [np.empty(0, np.int32)], [np.empty(0, np.int64)]
    for start in range(0, len(names), BLOCK_TEXTS):
        block = names[start : start + BLOCK_TEXTS]
        flat, offsets = tokenizer.encode_flat(block)
        tokens.append(flat)
        lengths.append(np.diff(offsets))
        display.advance(len(block))
    length = np.concatenate(lengths)  # (L,)
    labels = np.flatnonzero(length).astype(np.int32)
    indptr = np.concatenate([[0], np.cumsum(length[labels])]).astype(np.int64)
    return TokenizedSplit(indptr, np.concatenate(tokens), np.arange(len(labels) + 1, dtype=np.int64), labels)
