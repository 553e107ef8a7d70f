"""Whatever the files of a saved transformer hold, loading them gives an encoder or one of our errors."""

import json

import torch

from fanin.encoders.files import load_encoder, save_encoder
from fanin.encoders.transformer import lay_out_pretrained, load_pretrained
from fanin.encoders.transformer_encoder import TransformerEncoder
from fuzzing import Folder, inputs, try_inputs
from mutations import mutated, mutated_json


@inputs(100, 10_000)
def test_a_folder_that_a_recipe_names(count, tiny_transformer, scratch):
    """Loaded for a run, or laid out for its plan."""
    files = {path.name: path.read_bytes() for path in tiny_transformer.iterdir()}
    folder = Folder(scratch / "source", files)

    def check(rng):
        name = rng.choice(sorted(files))
        content = files[name]
        changed = mutated_json(rng, json.loads(content)) if name.endswith(".json") else mutated(rng, content)
        with folder.with_changed({name: changed}) as path:
            if rng.random() < 0.5:
                assert lay_out_pretrained(str(path), 20).tokenizer.max_length == 20
                return
            transformer, tokenizer = load_pretrained(str(path), 20)
            encoder = TransformerEncoder(transformer, padding=tokenizer.padding, out_features=8).eval()
            tokens, offsets = map(torch.from_numpy, tokenizer.encode_flat(["word1 noise2 \u00e9", ""]))
            with torch.inference_mode():
                assert len(encoder(tokens, offsets)) == 2

    try_inputs(count, check)


@inputs(100, 10_000)
def test_folders(count, tiny_transformer, scratch):
    """Few, since the library takes a hundredth of a second for each."""
    loaded = load_pretrained(str(tiny_transformer), 20)
    encoder = TransformerEncoder(loaded.transformer, out_features=8, pooling="cls", dropout=0.0)
    (scratch / "saved").mkdir()
    save_encoder(encoder, loaded.tokenizer, scratch / "saved")
    paths = [path for path in (scratch / "saved").rglob("*") if path.is_file()]
    files = {path.relative_to(scratch / "saved").as_posix(): path.read_bytes() for path in paths}
    folder, settings = Folder(scratch / "model", files), dict(encoder.settings)

    def check(rng):
        name = rng.choice(sorted(files))
        content = files[name]
        changed = mutated_json(rng, json.loads(content)) if name.endswith(".json") else mutated(rng, content)
        with folder.with_changed({name: changed}) as path:
            found, tokenizer = load_encoder("transformer", settings, path)
            tokens, offsets = map(torch.from_numpy, tokenizer.encode_flat(["word1 noise2 \u00e9", ""]))
            with torch.inference_mode():
                assert len(found.eval()(tokens, offsets)) == 2

    try_inputs(count, check)
