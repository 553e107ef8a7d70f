"""Weights in safetensors files: read with an error that names the file, and loaded only where they fit."""

from __future__ import annotations

import json
import textwrap
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

from fanin.errors import CheckpointError, ConfigError
from fanin.processes.spread import SpreadTensors

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import Tensor, nn


_DTYPES = {  # as the format calls them
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.float8_e4m3fn: "F8_E4M3",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.uint16: "U16",
    torch.uint8: "U8",
}


def write_tensors(tensors: Mapping[str, Tensor] | SpreadTensors, path: Path) -> None:
    """Write tensors by name.

    Tensors that are spread over processes are written block by block; this is called by the first process alone.

    Raises:
        OSError: the file cannot be written; so does a SafetensorError.
    """
    if isinstance(tensors, SpreadTensors):
        _write_spread(tensors, path)
        return
    save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, path)


def _write_spread(tensors: SpreadTensors, path: Path) -> None:
    header, end = {}, 0
    for name, (dtype, shape) in tensors.whole.items():
        start, end = end, end + dtype.itemsize * torch.Size(shape).numel()
        header[name] = {"dtype": _DTYPES[dtype], "shape": list(shape), "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name in tensors.whole:
            for block in tensors.blocks(name):
                file.write(block.contiguous().reshape(-1).view(torch.uint8).numpy().data)


def read_tensors(path: Path, whole: str = "the model folder") -> dict[str, Tensor]:
    """All tensors of a file by name.

    Args:
        path: the file.
        whole: what it is part of, for the message.

    Raises:
        CheckpointError: it is missing or damaged.
    """
    try:
        return {name: _aligned(tensor) for name, tensor in load_file(path).items()}
    except (OSError, SafetensorError, ValueError) as error:
        raise CheckpointError(f"{path}: damaged ({error}); restore {whole}") from error


def tensor_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """The shapes of a file's tensors by name, by its header alone.

    Raises:
        CheckpointError: it is missing or damaged.
    """
    try:
        with safe_open(path, framework="pt") as file:
            return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118 - no mapping
    except (OSError, SafetensorError, ValueError) as error:
        raise CheckpointError(f"{path}: damaged ({error}); restore the model folder") from error


def load_into(module: nn.Module, path: Path) -> None:
    """Give a module, which may be without memory (device "meta"), the tensors of a file.

    Raises:
        CheckpointError: the file is damaged, or its names, shapes or dtypes are not the module's.
    """
    tensors = read_tensors(path)
    try:
        _check_dtypes(module, tensors)
        module.load_state_dict(tensors, assign=True)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error
    except (RuntimeError, ConfigError) as error:
        raise CheckpointError(f"{path}: does not fit the model's description ({first_complaint(error)})") from error


def distinct_tensors(module: nn.Module) -> dict[str, Tensor]:
    """The tensors of a module by name; those that it knows under several names by the first one.

    >>> import torch
    >>> layer = torch.nn.Linear(2, 2)
    >>> list(distinct_tensors(torch.nn.ModuleDict({"one": layer, "other": layer})))
    ['one.weight', 'one.bias']
    """
    found, known = {}, set()
    for name, tensor in module.state_dict().items():
        place = (tensor.data_ptr(), tensor.shape)
        if not tensor.data_ptr() or place not in known:  # an empty tensor is at no place
            found[name] = tensor
        known.add(place)
    return found


def copy_into(module: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Give a module the values of :func:`distinct_tensors`, in the memory that it has.

    Raises:
        CheckpointError: names, shapes or dtypes are not the module's.
    """
    _check_dtypes(module, tensors)
    wrong = sorted(tensors.keys() ^ distinct_tensors(module).keys())
    if wrong:
        raise CheckpointError(f"tensor {wrong[0]!r} is {'unknown' if wrong[0] in tensors else 'missing'}")
    try:
        module.load_state_dict(dict(tensors), strict=False)
    except RuntimeError as error:
        raise CheckpointError(first_complaint(error)) from error


def _aligned(tensor: Tensor) -> Tensor:
    """A tensor whose values stand at multiples of their size, as kernels expect; a file may have them anywhere."""
    return tensor if tensor.data_ptr() % tensor.element_size() == 0 else tensor.clone()


def _check_dtypes(module: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    expected = {name: tensor.dtype for name, tensor in module.state_dict().items()}
    for name, tensor in tensors.items():
        if tensor.dtype != expected.get(name, tensor.dtype):
            raise CheckpointError(f"tensor {name!r} is {tensor.dtype}, expected {expected[name]}")


def first_complaint(error: Exception) -> str:
    """The first line of a long error that says something, shortened."""
    # Torch writes a heading that ends with a colon, a line a complaint, and sometimes a stack of its own.
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    told = next((line for line in lines if not line.endswith(":")), type(error).__name__)
    return textwrap.shorten(told, 300, placeholder=" ...")
