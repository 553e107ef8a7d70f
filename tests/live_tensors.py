"""Counts the memory of tensors that are made inside a block, on any device: ``with LiveTensors(x, weight) as made``."""

import torch
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode


class LiveTensors(TorchDispatchMode):
    """The most bytes that tensors made inside hold at a time, and the largest of them.

    Args:
        known: tensors that were there before.
    """

    def __init__(self, *known):
        super().__init__()
        self._before = {tensor.untyped_storage()._cdata for tensor in known}
        self._live = {}
        self.most = self.largest = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        found = function(*args, **(kwargs or {}))
        for tensor in found if isinstance(found, tuple | list) else [found]:
            if isinstance(tensor, torch.Tensor):
                self._count(tensor.untyped_storage())
        return found

    def now(self):
        """Bytes of those that are still there."""
        self._live = {place: own for place, own in self._live.items() if not own[0].expired()}
        return sum(size for _, size in self._live.values())

    def _count(self, storage):
        if storage._cdata in self._before:
            return
        self._live[storage._cdata] = StorageWeakRef(storage), storage.nbytes()
        self.most = max(self.most, self.now())
        self.largest = max(self.largest, storage.nbytes())
