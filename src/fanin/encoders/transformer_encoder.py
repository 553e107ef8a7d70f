"""The transformer encoder: any encoder model of Hugging Face's transformers, pooled to one vector a text.

The one place that imports transformers, and only when a transformer is asked for.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from fanin.encoders.batch_share import OwnNoise
from fanin.encoders.dense_only import DenseOnly
from fanin.encoders.features import FeatureEncoder
from fanin.encoders.pooling import length_chunks, pad_rows, pool
from fanin.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fanin.encoders.interface import Setting
    from fanin.encoders.pooling import Pooling

VECTORS_VERSION = 1
"""To be raised whenever other vectors come out of the same transformer."""

# Places of a chunk outside training: on a CPU small ones stay in its caches (222 texts/s, 134 with 8192).
_CPU_CHUNK, _GPU_CHUNK = 1024, 32_768


class TransformerEncoder(DenseOnly):
    """Flat tokens to x (B, D): transformer, pooling, then layer norm, projection and dropout of the pooled vector.

    Made by :func:`fanin.encoders.transformer.load_pretrained` from somebody's model. A frozen one has vectors
    that never change: they can be computed once (:meth:`vectors`) and given to it instead of the tokens.

    Args:
        transformer: a ``PreTrainedModel`` whose output has ``last_hidden_state``.
        padding: the token that fills rows up.
        pooling: "mean" over the tokens, or "cls", the first token.
        last_layers: n, how many of the last layers' pooled vectors are joined into one.
        out_features: D; the pooled vectors (n * H) are projected where it differs, and D is n * H where it is None.
        layer_norm: bring each pooled vector to mean 0 and variance 1.
        dropout: share of x set to zero in training.
        frozen: train nothing of the transformer, and keep its own dropout off.
        freeze_embeddings: do not train the embeddings.
        freeze_layers: do not train so many of the first layers.
        gradient_checkpointing: compute activations again in the backward pass instead of keeping them.
        autocast: "bfloat16" computes in it where torch holds that to be safe.
        seed: of the projection's weights.

    Raises:
        ConfigError: a setting does not fit the transformer.
    """

    def __init__(
        self,
        transformer: nn.Module,
        *,
        padding: int = 0,
        pooling: Pooling = "mean",
        last_layers: int = 1,
        out_features: int | None = None,
        layer_norm: bool = True,
        dropout: float = 0.1,
        frozen: bool = False,
        freeze_embeddings: bool = False,
        freeze_layers: int = 0,
        gradient_checkpointing: bool = False,
        autocast: Literal["none", "bfloat16"] = "none",
        seed: int = 0,
    ) -> None:
        super().__init__()
        config: Any = transformer.config
        self.transformer = without_pooler(transformer)
        _check(config.num_hidden_layers, pooling, last_layers, freeze_layers, autocast)
        pooled = config.hidden_size * last_layers
        self.tail = FeatureEncoder(pooled, out_features, layer_norm=layer_norm, dropout=dropout, seed=seed)
        self.out_features = self.tail.out_features
        self._settings: dict[str, Setting] = {
            "padding": padding,
            "pooling": pooling,
            "last_layers": last_layers,
            "out_features": self.tail.out_features,
            "layer_norm": layer_norm,
            "dropout": dropout,
            "frozen": frozen,
            "freeze_embeddings": freeze_embeddings,
            "freeze_layers": freeze_layers,
            "gradient_checkpointing": gradient_checkpointing,
            "autocast": autocast,
            "seed": seed,
        }
        self.frozen = frozen
        self._noise = OwnNoise()
        self._padding, self._pooling, self._last_layers, self._autocast = padding, pooling, last_layers, autocast
        for part in _frozen_parts(self.transformer, freeze_layers, everything=frozen, embeddings=freeze_embeddings):
            part.requires_grad_(requires_grad=False)
        if gradient_checkpointing and not frozen:
            _checkpoint(self.transformer)
        self.train(self.training)

    @property
    def settings(self) -> Mapping[str, Setting]:
        """The keyword arguments that build this encoder again around its transformer."""
        return dict(self._settings)

    @property
    def vocabulary_size(self) -> int:
        """Rows of the token embeddings: every token must be below it."""
        embeddings: Any = self.transformer.get_input_embeddings
        return int(embeddings().weight.shape[0])

    @property
    def key(self) -> str:
        """32 hex digits of everything but the tokens that :meth:`vectors` depend on."""
        config: Any = self.transformer.config
        parts = [
            VECTORS_VERSION,
            self._padding,
            self._pooling,
            self._last_layers,
            self._autocast,
            config.to_json_string(),
        ]
        content = hashlib.blake2b(repr(parts).encode(), digest_size=16)
        for name, tensor in sorted(self.transformer.state_dict().items()):
            content.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            content.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
        return content.hexdigest()

    def forward(self, tokens: Tensor, offsets: Tensor | None = None) -> Tensor:
        """Vectors of a batch of texts.

        Args:
            tokens: (N,) int32 or int64, all texts one after the other; without offsets the texts' :meth:`vectors`.
            offsets: (B + 1,) int64, text b is ``tokens[offsets[b]:offsets[b + 1]]``.

        Returns:
            x (B, D) float32.
        """
        x: Tensor = self.tail(tokens if offsets is None else self.vectors(tokens, offsets))
        return x

    def vectors(self, tokens: Tensor, offsets: Tensor) -> Tensor:
        """The pooled vectors (B, n * H) float32, in front of layer norm and projection."""
        device = next(self.transformer.parameters()).device
        if torch.is_grad_enabled() and not self.frozen:
            with self._noise.drawn(self.transformer, device):
                return self._pooled(tokens.long(), offsets, device)
        with torch.no_grad():
            found = torch.empty(len(offsets) - 1, self.tail.in_features, device=device)
            for rows in length_chunks(offsets, _CPU_CHUNK if device.type == "cpu" else _GPU_CHUNK):
                begins, lengths = offsets[rows], offsets.diff()[rows]
                own = torch.cat([lengths.new_zeros(1), lengths.cumsum(0)])  # (rows + 1,)
                places = torch.arange(int(own[-1]), device=own.device)
                places = places + torch.repeat_interleave(begins - own[:-1], lengths)
                found[rows] = self._pooled(tokens[places].long(), own, device)
        return found

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """What is trained of the transformer as "layers", and the projection."""
        layers = [parameter for parameter in self.transformer.parameters() if parameter.requires_grad]
        return {"layers": layers, **self.tail.parameter_groups()}

    def train(self, mode: bool = True) -> TransformerEncoder:
        """Turns dropout on or off; a frozen transformer's own stays off."""
        super().train(mode)
        if self.frozen:
            self.transformer.eval()
        return self

    def _pooled(self, tokens: Tensor, offsets: Tensor, device: torch.device) -> Tensor:
        if len(offsets) == 1:  # of a batch with fewer rows than processes; models cannot shape what is empty
            return torch.empty(0, self.tail.in_features, device=device)
        rows = pad_rows(tokens, offsets, self._padding).to(device)
        several = self._last_layers > 1
        with torch.autocast(device.type, torch.bfloat16, enabled=self._autocast == "bfloat16"):
            output = self.transformer(rows.tokens, attention_mask=rows.mask, output_hidden_states=several)
        states = output.hidden_states[-self._last_layers :] if several else [output.last_hidden_state]
        return pool(states, rows.mask, self._pooling)


def without_pooler(transformer: nn.Module) -> nn.Module:
    """A model without the layer that some put on the first token's state for a task of their own: nothing reads it."""
    if isinstance(getattr(transformer, "pooler", None), nn.Module):
        transformer.pooler = None  # type: ignore[assignment]
    return transformer


def _check(layers: int, pooling: str, last_layers: int, freeze_layers: int, autocast: str) -> None:
    for name, value in (("last_layers", last_layers), ("freeze_layers", freeze_layers)):
        if not (name == "last_layers") <= value <= layers:
            raise ConfigError(f"encoder.{name} is {value}; the transformer has {layers} layers")
    if pooling not in ("mean", "cls"):
        raise ConfigError(f"encoder.pooling is {pooling!r}; choose 'mean' or 'cls'")
    if autocast not in ("none", "bfloat16"):
        raise ConfigError(f"encoder.autocast is {autocast!r}; choose 'none' or 'bfloat16'")


def _checkpoint(transformer: Any) -> None:
    # The library has given it a new name.
    enable = getattr(transformer, "activation_checkpointing_enable", None) or transformer.gradient_checkpointing_enable
    try:
        enable({"use_reentrant": False})
    except ValueError as error:
        raise ConfigError(
            f"encoder.gradient_checkpointing: a {type(transformer).__name__} cannot do that; set it to false"
        ) from error


def _frozen_parts(transformer: nn.Module, layers: int, *, everything: bool, embeddings: bool) -> list[nn.Module]:
    if everything:
        return [transformer]
    parts = []
    if embeddings:
        own = getattr(transformer, "embeddings", None)  # with positions and norm, where the model has them in one
        parts.append(own if isinstance(own, nn.Module) else transformer.get_input_embeddings())  # type: ignore[operator]
    if layers:
        count = transformer.config.num_hidden_layers  # type: ignore[union-attr]
        lists = [m for m in transformer.modules() if isinstance(m, nn.ModuleList) and len(m) == count]
        if not lists:
            raise ConfigError(
                f"encoder.freeze_layers: the layers of a {type(transformer).__name__} cannot be told apart; set it to 0"
            )
        parts += list(lists[0])[:layers]
    return parts
