"""Whatever a beam's files hold, also with a digest that fits, it predicts or is refused with one of our errors."""

import hashlib
import json

import torch

from fanin.beams.files import DESCRIPTION, TENSORS, load_beam, save_beam
from fanin.classifier.beam import Beam
from fanin.classifier.label_clusters import LabelClusters
from fanin.classifier.router import Router
from fanin.model_files import save_model
from fuzzing import Folder, inputs, try_inputs
from mutations import mutated_json, mutated_tensors
from untrained_models import made

TEXTS = ["green tea with x", ""]


@inputs(1_000, 100_000)
def test_beams(count, scratch):
    model = made("sparse")
    save_model(model, scratch / "model")
    D, units = model.classifier.in_features, 3  # labels that share a cluster's vector are one unit
    members, bounds = torch.arange(units, dtype=torch.int32), torch.tensor([0, 1, units])
    clusters = LabelClusters(members, bounds, torch.zeros(2, dtype=torch.int64))
    fold = torch.tensor([1, -2, 2], dtype=torch.int32)
    router = Router(torch.randn(2, 3).bfloat16(), torch.randn(2), torch.randn(3, D - 1))
    save_beam(Beam(clusters, router, fold, 1), scratch / "model", {})
    paths = [path for path in (scratch / "model").rglob("*") if path.is_file()]
    files = {path.relative_to(scratch / "model").as_posix(): path.read_bytes() for path in paths}
    folder, description = Folder(scratch / "folder", files), json.loads(files[DESCRIPTION])

    def check(rng):
        if rng.random() < 0.3:
            contents = {DESCRIPTION: mutated_json(rng, description)}
        else:
            tensors = mutated_tensors(rng, files[TENSORS])
            told = description | {"sha256": hashlib.sha256(tensors).hexdigest()}
            contents = {TENSORS: tensors, DESCRIPTION: json.dumps(told).encode()}
        with folder.with_changed(contents) as path:
            assert len(model.predict(TEXTS, 3, beam=load_beam(path, model.classifier))) == 2

    assert len(model.predict(TEXTS, 3, beam=load_beam(folder.path, model.classifier))) == 2
    try_inputs(count, check)
