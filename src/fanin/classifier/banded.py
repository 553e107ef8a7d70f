"""Label-wise fan-in by frequency: a few bands of labels, the fan-in of each its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fanin.classifier.label_bands import LabelBands
from fanin.classifier.sparse import SparseLinear
from fanin.classifier.storage import rounding_seed_or, storage_settings
from fanin.errors import ConfigError
from fanin.kernels.drawing import mix_seed

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Unpack

    from fanin.classifier.label_bands import BandOptions


class BandedLinear(LabelBands):
    """One classifier of several fixed fan-in layers, which serve bands of its internal order: each band has its own F.

    A frequent label has the texts to learn many weights from, a rare one has not; and frequent labels are few, so that
    their weights cost little.

    Args:
        in_features: D.
        out_features: L.
        bands: (labels, fan-in) of every band, in the order of the places; the labels add up to L. Which labels a band
            serves is for ``order.assign`` to say: places follow one another, and groups and clusters are consecutive
            within a band.
        group_size: G of all bands, as in :class:`fanin.classifier.sparse.SparseLinear`.
        cluster_size: labels of a band that share one dense vector, 0 for none.
        cluster_inputs: inputs that the clusters' vectors read, the first ones; None for all.
        cluster_rate: learning rate of the clusters' vectors, as in ``SparseLinear``.
        seed: of index sets and weights.
        rounding_seed: of the stochastic rounding of weights in fewer bits; None for one that ``seed`` determines.
        backend: "reference", "cpu" or "triton" to force one; None takes FANIN_BACKEND, else the fastest.
        options: bias, reference_fan_in, initial_scale, device and dtype of all bands, as in ``SparseLinear``; F is the
            band's there.

    Attributes:
        band0, band1, ...: the layers.

    Raises:
        ConfigError: a setting cannot be.
        BackendError: the backend asked for cannot serve.

    >>> layer = BandedLinear(16, 1000, [(10, 16), (990, 4)])
    >>> layer.connections
    4120
    >>> layer.band0.fan_in, layer.band1.fan_in
    (16, 4)
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bands: Sequence[tuple[int, int]],
        group_size: int = 1,
        *,
        cluster_size: int = 0,
        cluster_inputs: int | None = None,
        cluster_rate: float = 1.0,
        seed: int = 0,
        rounding_seed: int | None = None,
        backend: str | None = None,
        **options: Unpack[BandOptions],
    ) -> None:
        super().__init__(in_features, out_features)
        sizes = [labels for labels, _ in bands]
        if not sizes or min(sizes) < 1 or sum(sizes) != out_features:
            raise ConfigError(
                f"bands of {sizes} labels: each needs one at least, and together they must be all {out_features}"
            )
        self.rounding_seed = rounding_seed_or(rounding_seed, seed)
        layers = {
            f"band{number}": SparseLinear(
                in_features,
                labels,
                fan_in,
                group_size,
                cluster_size=cluster_size,
                cluster_inputs=cluster_inputs,
                cluster_rate=cluster_rate,
                seed=mix_seed(seed, number),
                rounding_seed=mix_seed(self.rounding_seed, number),
                backend=backend,
                **options,
            )
            for number, (labels, fan_in) in enumerate(bands)
        }
        self._set_bands(options.get("device"), **layers)

    def settings(self) -> dict[str, Any]:
        """Constructor arguments that fix the shapes."""
        layers = [band for band in self.bands if isinstance(band, SparseLinear)]
        # A layer smaller than a group has a group of its own size.
        whole = max(layers, key=lambda layer: layer.group_size).settings()
        shared = {name: whole[name] for name in ("in_features", "group_size", "bias", "cluster_size", "cluster_inputs")}
        bands = [[layer.out_features, layer.fan_in] for layer in layers]
        storage = storage_settings(layers[0].weight.dtype, self.rounding_seed)
        return shared | {"out_features": self.out_features, "bands": bands} | storage
