"""A transformer of a few thousand weights, drawn at random, whose vocabulary is the words of the planted data set."""

import pytest

WORDS = [f"word{i}" for i in range(40)] + [f"noise{i}" for i in range(50)]


@pytest.fixture(scope="session")
def tiny_transformer(tmp_path_factory):
    """The folder of its Hugging Face files; skips where transformers is not installed."""
    transformers = pytest.importorskip("transformers")
    import tokenizers
    import torch

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    backend = tokenizers.Tokenizer(
        tokenizers.models.WordLevel({word: i for i, word in enumerate([*special, *WORDS])}, unk_token="[UNK]")
    )
    backend.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    backend.post_processor = tokenizers.processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]"
    )
    config = transformers.BertConfig(
        vocab_size=100,
        hidden_size=32,
        num_hidden_layers=3,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=24,
    )
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("tiny-transformer")
    transformers.BertModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
