"""Tensors of modules: each stored once, and taken back only where they fit."""

import struct

import pytest
import torch
from torch import nn

from fanin.errors import CheckpointError
from fanin.tensor_files import copy_into, distinct_tensors, read_tensors, write_tensors


class Tied(nn.Module):
    """Two layers with one weight, as encoders have that read and write the same words."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(3, 3)
        self.second = nn.Linear(3, 3)
        self.second.weight = self.first.weight
        self.register_buffer("none", torch.empty(0))
        self.register_buffer("no_rows", torch.empty(0))


def test_what_a_module_knows_by_two_names_is_stored_once(tmp_path):
    one, other = Tied(), Tied()
    tensors = distinct_tensors(one)
    assert list(tensors) == ["none", "no_rows", "first.weight", "first.bias", "second.bias"]
    write_tensors(tensors, tmp_path / "file")
    memory = other.first.weight.data_ptr()
    copy_into(other, read_tensors(tmp_path / "file"))
    assert other.second.weight.data_ptr() == other.first.weight.data_ptr() == memory
    for name, tensor in one.state_dict().items():
        assert torch.equal(tensor, other.state_dict()[name]), name


@pytest.mark.parametrize("shift", [0, 1, 2, 3, 5])
def test_values_stand_at_multiples_of_their_size(shift, tmp_path):
    """Writers fill up the header; whoever does not must bring no kernel to read where its processor cannot."""
    tensors = {"weight": torch.arange(6.0).view(2, 3), "index": torch.tensor([[1, 2]], dtype=torch.uint16)}
    write_tensors(tensors, tmp_path / "file")
    content = (tmp_path / "file").read_bytes()
    [size] = struct.unpack("<Q", content[:8])
    header = content[8 : 8 + size].rstrip() + b" " * shift
    (tmp_path / "file").write_bytes(struct.pack("<Q", len(header)) + header + content[8 + size :])
    for name, tensor in read_tensors(tmp_path / "file").items():
        assert torch.equal(tensor, tensors[name])
        assert tensor.data_ptr() % tensor.element_size() == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weight": None}, "tensor 'weight' is missing"),
        ({"more": torch.ones(1)}, "tensor 'more' is unknown"),
        ({"weight": torch.ones(2, 2)}, "size mismatch for weight"),
        ({"weight": torch.ones(2, 3, dtype=torch.float64)}, "tensor 'weight' is torch.float64, expected torch.float32"),
    ],
)
def test_what_does_not_fit_is_refused(change, message):
    layer = nn.Linear(3, 2)
    tensors = {name: tensor for name, tensor in {**distinct_tensors(layer), **change}.items() if tensor is not None}
    with pytest.raises(CheckpointError, match=message):
        copy_into(layer, tensors)
