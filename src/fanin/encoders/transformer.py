"""Loading and saving transformers and their tokenizers with Hugging Face's transformers.

The one place that imports transformers, and only when a transformer is asked for. Weights are read from safetensors
files alone, and no code that comes with a model is ever run.
"""

from __future__ import annotations

import contextlib
import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from fanin.encoders.storage import widened
from fanin.encoders.transformer_encoder import TransformerEncoder, without_pooler
from fanin.encoders.transformer_tokens import TransformerTokenizer, check_numbers, saved_max_length
from fanin.errors import CheckpointError, ConfigError
from fanin.tensor_files import first_complaint, load_into, tensor_shapes, write_tensors

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from torch import nn

MODEL_FOLDER, TAIL_FILE = "transformer", "encoder.safetensors"
_WEIGHTS, _PARTS = "*.safetensors", "model.safetensors.index.json"
_MODEL_FILES = {"config.json", "generation_config.json", _PARTS}  # what the library writes beside weights
_SAFE = {"trust_remote_code": False}
_WANTED = (
    "give a folder with config.json, model.safetensors and the tokenizer's files, or the name of a model on the Hugging"
    " Face hub"
)


class Pretrained(NamedTuple):
    """Somebody's model.

    Attributes:
        transformer: a ``PreTrainedModel`` with float32 weights, in evaluation mode.
        tokenizer: its tokenizer.
    """

    transformer: nn.Module
    tokenizer: TransformerTokenizer


def load_pretrained(name: str, max_length: int) -> Pretrained:
    """A pretrained transformer with its tokenizer.

    Nothing larger than the files of a folder is laid out, whatever they promise.

    Args:
        name: a folder of Hugging Face files, or a name on the hub (fetched once, then read from its cache), with ``@``
            and a commit behind it where it is not to change.
        max_length: tokens of a text, special ones included.

    Raises:
        ConfigError: transformers is not installed; the model cannot be had, has no safetensors weights, is no encoder
            of texts, or reads no texts that long.
    """
    with _pretrained(name) as (library, config, tokenizer, source):
        _check_length(max_length, config, tokenizer)
        transformer, missing = _weights(library, source)
        if missing:
            raise ConfigError(f"its files hold no weights for {missing[0]}; they are of another model")
        return _fitting(transformer, TransformerTokenizer(tokenizer, max_length))


def lay_out_pretrained(name: str, max_length: int) -> Pretrained:
    """A pretrained transformer with its tokenizer, but without memory for its weights, which are not read.

    Raises:
        ConfigError: as :func:`load_pretrained`.
    """
    with _pretrained(name) as (library, config, tokenizer, _):
        _check_length(max_length, config, tokenizer)
        return _fitting(_laid_out(library, config), TransformerTokenizer(tokenizer, max_length))


def save_transformer(encoder: TransformerEncoder, folder: Path) -> None:
    """Write the transformer's own files into ``transformer/``, and the projection beside it.

    Raises:
        OSError: the folder cannot be written; so does a SafetensorError.
    """
    transformer: Any = encoder.transformer
    with _quiet(_library()):
        transformer.save_pretrained(folder / MODEL_FOLDER, state_dict=widened(transformer.state_dict()))
    write_tensors(widened(encoder.tail.state_dict()), folder / TAIL_FILE)


def load_transformer(folder: Path, settings: Mapping[str, Any]) -> TransformerEncoder:
    """Read what :func:`save_transformer` wrote.

    Nothing larger than its files is laid out, whatever the configuration promises.

    Raises:
        CheckpointError: a file is missing or damaged, or the files do not fit each other.
        ConfigError: transformers is not installed.
    """
    library, source = _library(), folder / MODEL_FOLDER
    shapes = [shape for path in sorted(source.glob(_WEIGHTS)) for shape in tensor_shapes(path).values()]
    try:
        with _quiet(library):
            _check_files(source)
            _check_counts(source, shapes)
            config = library.AutoConfig.from_pretrained(source, local_files_only=True, **_SAFE)
            _check_config(config)
            _check_promise(library, config, shapes, whole=True)
            transformer, missing = _weights(library, _Source(str(source), local=True))
        encoder = TransformerEncoder(transformer, **settings)
    except Exception as error:  # as in load_pretrained
        raise CheckpointError(
            f"{source}: no transformer that fits its description ({first_complaint(error)}); restore the model folder"
        ) from error
    if missing:
        raise CheckpointError(f"{source}: the weights of {missing[0]} are missing; restore the model folder")
    load_into(encoder.tail, folder / TAIL_FILE)
    return encoder


def load_tokenizer(folder: Path) -> TransformerTokenizer:
    """Read what :meth:`TransformerTokenizer.save` wrote.

    Raises:
        CheckpointError: a file is missing or damaged.
        ConfigError: transformers is not installed.
    """
    library = _library()
    max_length = saved_max_length(folder)
    check_numbers(folder / "tokenizer.json")
    try:
        with _quiet(library):
            tokenizer = library.AutoTokenizer.from_pretrained(folder, local_files_only=True, **_SAFE)
        return TransformerTokenizer(tokenizer, max_length)
    except Exception as error:  # as in load_pretrained
        raise CheckpointError(
            f"{folder}: not a transformer's tokenizer ({first_complaint(error)}); restore the model folder"
        ) from error


class _Source(NamedTuple):
    """Where a model is read from.

    Attributes:
        name: a folder, or a name on the hub.
        local: whether it is a folder, so that nothing is fetched.
        revision: a commit, tag or branch on the hub; by default the newest state of its main branch.
    """

    name: str
    local: bool
    revision: str = "main"

    @classmethod
    def named(cls, name: str) -> _Source:
        """The source of a recipe's ``encoder.model``."""
        if Path(name).is_dir():
            return cls(name, local=True)
        if name.startswith(("/", ".", "~")):
            raise ConfigError(f"encoder.model: there is no folder {name!r}; {_WANTED}")
        repository, _, revision = name.partition("@")
        return cls(repository, local=False, revision=revision) if revision else cls(repository, local=False)

    @property
    def state(self) -> dict[str, Any]:
        """What ``from_pretrained`` is told of it besides the name."""
        return {"local_files_only": self.local, "revision": self.revision}


def _library() -> Any:
    try:
        import transformers
    except ImportError as error:
        raise ConfigError(
            "an encoder of kind 'transformer' needs the package transformers; install it with: "
            "pip install 'fanin[text]'"
        ) from error
    return transformers


@contextlib.contextmanager
def _quiet(library: Any) -> Iterator[None]:
    """Without the library's progress bars and reports: what matters of them is checked, and told as our errors."""
    logging = library.utils.logging
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity(logging.CRITICAL)
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


@contextlib.contextmanager
def _pretrained(name: str) -> Iterator[tuple[Any, Any, Any, _Source]]:
    """The library, a model's configuration, its tokenizer, and where its weights are; errors become ours."""
    library, source = _library(), _Source.named(name)
    if source.local and not any(Path(name).glob(_WEIGHTS)):
        pickled = " (its .bin weights are pickles, which are never read; convert them)" if _pickles(name) else ""
        raise ConfigError(f"encoder.model: the folder {name!r} holds no .safetensors weights{pickled}")
    try:
        with _quiet(library):
            shapes = _checked_folder(Path(name)) if source.local else None
            config = library.AutoConfig.from_pretrained(source.name, **source.state, **_SAFE)
            _check_config(config)
            if shapes is not None:
                _check_promise(library, config, shapes, whole=False)
            tokenizer = library.AutoTokenizer.from_pretrained(source.name, **source.state, **_SAFE)
            _check_fast(tokenizer)
            yield library, config, tokenizer, source
    except ConfigError as error:
        raise ConfigError(f"encoder.model {name!r}: {error}") from error
    except Exception as error:  # what the library raises for files that are missing or damaged is of many kinds
        raise ConfigError(f"encoder.model: {name!r} cannot be loaded ({first_complaint(error)}); {_WANTED}") from error


def _checked_folder(folder: Path) -> list[tuple[int, ...]]:
    """The shapes of all weights in somebody's folder, once its other files promise nothing beyond its size."""
    shapes = [shape for path in sorted(folder.glob(_WEIGHTS)) for shape in tensor_shapes(path).values()]
    _check_parts(folder)
    _check_counts(folder, shapes)
    check_numbers(folder / "tokenizer.json")
    return shapes


def _fitting(transformer: Any, tokenizer: TransformerTokenizer) -> Pretrained:
    tokens, rows = tokenizer.vocabulary_size, transformer.get_input_embeddings().weight.shape[0]
    if tokens > rows:
        raise ConfigError(
            f"its tokenizer has {tokens} tokens, but the transformer knows {rows}; give files of one model"
        )
    return Pretrained(transformer, tokenizer)


def _weights(library: Any, source: _Source) -> tuple[nn.Module, list[str]]:
    """The model, and the names of its parameters that the files do not hold."""
    # Parameters that are missing would be drawn at random.
    with torch.random.fork_rng(devices=[]):
        transformer, report = library.AutoModel.from_pretrained(
            source.name,
            use_safetensors=True,
            dtype=torch.float32,
            output_loading_info=True,
            **source.state,
            **_SAFE,
        )
    faulty = {*report["missing_keys"], *(str(key) for key in report["mismatched_keys"])}
    return without_pooler(transformer.eval()), sorted(name for name in faulty if not name.startswith("pooler."))


def _check_config(config: Any) -> None:
    if getattr(config, "is_encoder_decoder", False):
        raise ConfigError("it is an encoder with a decoder; give a model that is an encoder alone")
    if getattr(config, "quantization_config", None) is not None:
        raise ConfigError("its weights are quantised; give a model with float weights")
    for name in ("num_hidden_layers", "hidden_size"):
        if type(getattr(config, name, None)) is not int:
            raise ConfigError(f"its configuration has no {name}; give an encoder of texts, such as BERT")
    # Names of this form are code on the hub.
    attention = getattr(config, "_attn_implementation", None)
    if attention is not None and not (isinstance(attention, str) and "/" not in attention):
        raise ConfigError(f"it asks for the attention {attention!r}, which is code from elsewhere")


def _check_files(folder: Path) -> None:
    """Refuse what the library would read besides a model, and weights that are to be read from elsewhere."""
    other = sorted(
        path.name for path in folder.iterdir() if path.suffix != ".safetensors" and path.name not in _MODEL_FILES
    )
    if other:
        raise ConfigError(f"it holds {other[0]}, which is no part of a model")
    _check_parts(folder)


def _check_parts(folder: Path) -> None:
    """Refuse an index that names files of weights elsewhere."""
    if (folder / _PARTS).exists():
        parts = json.loads((folder / _PARTS).read_text(encoding="utf-8"))["weight_map"].values()
        elsewhere = next((part for part in parts if Path(part).name != part), None)
        if elsewhere is not None:
            raise ConfigError(f"{_PARTS} names weights outside the folder, {elsewhere!r}")


def _check_counts(folder: Path, shapes: list[tuple[int, ...]]) -> None:
    """Refuse numbers in ``config.json`` by which the library would make lists before anything can be asked of it."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    _check_layers(config, shapes)
    labels, longest = config.get("num_labels"), max((size for shape in shapes for size in shape), default=0)
    if isinstance(labels, int) and labels > longest:
        raise ConfigError(f"config.json promises {labels} labels, but no weights are there for so many")


def _check_layers(config: Mapping[str, Any], shapes: list[tuple[int, ...]]) -> None:
    counts = [value for name, value in config.items() if "layer" in name and isinstance(value, int | float)]
    if max(counts, default=0) > len(shapes):
        raise ConfigError(f"config.json promises {max(counts)} layers, but the files hold {len(shapes)} tensors")


def _check_promise(library: Any, config: Any, shapes: list[tuple[int, ...]], *, whole: bool) -> None:
    """Refuse a configuration of more weights than the files hold; where they are the ``whole`` of it, of fewer too."""
    _check_layers(config.to_dict(), shapes)
    transformer = _laid_out(library, config)
    tensors = transformer.state_dict().values() if whole else transformer.parameters()
    promised, held = sum(tensor.numel() for tensor in tensors), sum(math.prod(shape) for shape in shapes)
    if promised > held or (whole and promised < held):
        raise ConfigError(f"config.json promises {promised} weights, but the files hold {held}")


def _laid_out(library: Any, config: Any) -> nn.Module:
    """A transformer without memory for its weights."""
    with torch.device("meta"):
        return without_pooler(library.AutoModel.from_config(config, **_SAFE).eval())


def _check_fast(tokenizer: Any) -> None:
    if not getattr(tokenizer, "is_fast", False):
        raise ConfigError("its tokenizer has no tokenizer.json, which is needed")


def _check_length(max_length: int, config: Any, tokenizer: Any) -> None:
    told = {
        "model_max_length": tokenizer.model_max_length,
        "max_position_embeddings": getattr(config, "max_position_embeddings", None) or math.inf,
    }
    for name, limit in told.items():
        if type(limit) not in (int, float) or math.isnan(limit):
            raise ConfigError(f"its {name} is {limit!r}, not a number of tokens")
    longest = min(told.values())
    if max_length > longest:
        raise ConfigError(f"encoder.max_length is {max_length}; this transformer reads at most {longest} tokens")


def _pickles(folder: str) -> bool:
    return any(Path(folder).glob("*.bin"))
