"""Small models of every kind, as they are before training."""

import numpy as np
import torch

from fanin.classifier.kinds import CLASSIFIERS
from fanin.encoders.bag import BagEncoder
from fanin.encoders.features import FeatureEncoder, SparseFeatureEncoder
from fanin.encoders.intermediate import IntermediateLayer
from fanin.encoders.tokenization import Tokenizer
from fanin.kernels.spec import Loss
from fanin.labels.vocabulary import LabelVocabulary
from fanin.model import TextModel

D, L = 8, 12
TEXTS = ["green tea", "black coffee", "milk and sugar", "a pot of tea"] * 3
BAG = {"embedding_dim": 4, "block_width": 4, "lexical_features": 0}
MODELS = {  # unit of the tokenizer or kind of features, kind and settings of the classifier
    "sparse": ("word", "sparse", {"fan_in": 3, "cluster_size": 4, "ordered": True}),
    "groups": ("subword", "sparse", {"fan_in": 3, "group_size": 5}),
    "bfloat16": ("dense features", "sparse", {"fan_in": 3, "dtype": "bfloat16"}),
    "float8": ("sparse features", "dense", {"dtype": "float8_e4m3fn"}),
    "dense": ("intermediate", "dense", {}),
    "head and tail": ("word", "head_tail", {"fan_in": 3, "head_labels": 4, "cluster_size": 2}),
    "bands": ("word", "banded", {"bands": [(4, 6), (8, 3)]}),
    "bottleneck": ("word", "bottleneck", {"width": 2}),
    "mask": ("word", "masked", {"fan_in": 3}),
    "autograd": ("word", "dense_autograd", {}),
}


def made(name):
    """A model as it is before training."""
    reads, kind, settings = MODELS[name]
    tokenizer = None
    if reads == "dense features":
        encoder = FeatureEncoder(5, D)
    elif reads == "sparse features":
        encoder = SparseFeatureEncoder(5, D)
    else:
        unit = "subword" if reads == "subword" else "word"
        tokenizer = Tokenizer.train(TEXTS, unit=unit, vocabulary_size=30, min_count=1, unknown_buckets=3)
        encoder = BagEncoder(tokenizer.vocabulary_size, D, **{**BAG, "lexical_features": 3 * (kind == "sparse")})
        encoder = IntermediateLayer(encoder, 9) if reads == "intermediate" else encoder
    torch.manual_seed(0)
    classifier = CLASSIFIERS[kind](encoder.out_features, L, **settings)
    labels = LabelVocabulary(f"label {i}" for i in range(L))
    return TextModel(tokenizer, encoder.eval(), classifier, labels, np.arange(L), 12, Loss.BCE)
