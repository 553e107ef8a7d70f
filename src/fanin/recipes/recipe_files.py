"""Reading recipes: by shipped name or from a file, with a base to extend and single settings changed."""

from __future__ import annotations

import difflib
import reprlib
from collections.abc import Iterable, Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from fanin.errors import ConfigError
from fanin.recipes.recipe import Recipe
from fanin.recipes.strict_yaml import parse_yaml

_BASE_KEY = "extends"
_MOST_LEVELS = 8  # of a setting's name; recipes have four
_MOST_PROBLEMS = 20  # named in one message


def shipped_recipes() -> list[str]:
    """Names of the recipes that come with fanin.

    >>> "default" in shipped_recipes()
    True
    """
    return sorted(p.name.removesuffix(".yaml") for p in _folder().iterdir() if p.name.endswith(".yaml"))


def load_recipe(name_or_path: str | Path = "default", settings: Iterable[str] = ()) -> Recipe:
    """A validated recipe.

    Args:
        name_or_path: a shipped recipe's name, or a YAML file. The file's key ``extends`` names a shipped recipe whose
            settings it changes; a section that names another ``kind`` replaces the base's section as a whole.
        settings: changes of single settings, each "section.key=value" with the value in YAML. Their order matters
            only where one setting is changed twice.

    Raises:
        ConfigError: the file cannot be read, or settings are unknown or invalid; all of them are named at once.

    >>> load_recipe("default", ["classifier.fan_in=16"]).classifier.fan_in
    16
    """
    return recipe_from_values(_with_settings(_read(name_or_path), settings), str(name_or_path))


def changed_recipe(recipe: Recipe, settings: Iterable[str]) -> Recipe:
    """A recipe with some settings changed.

    Args:
        recipe: the recipe, which stays as it is.
        settings: as of :func:`load_recipe`.

    Raises:
        ConfigError: a setting is unknown or invalid, or does not fit the others.

    >>> changed_recipe(load_recipe("default"), ["training.epochs=1"]).training.epochs
    1
    """
    return recipe_from_values(_with_settings(recipe.model_dump(mode="json"), settings), "with changes")


def recipe_from_values(values: Mapping[str, Any], source: str) -> Recipe:
    """Validate plain values as a recipe; ``source`` stands in the error's first line.

    Raises:
        ConfigError: naming every unknown or invalid setting.
    """
    try:
        return Recipe.model_validate(values)
    except ValidationError as error:
        problems = error.errors()
        lines = [_describe(dict(problem)) for problem in problems[:_MOST_PROBLEMS]]
        if len(problems) > _MOST_PROBLEMS:
            lines.append(f"and {len(problems) - _MOST_PROBLEMS} more mistakes")
        raise ConfigError(f"recipe {source}: " + "; ".join(lines)) from error


def recipe_text(recipe: Recipe) -> str:
    """The resolved recipe as YAML, every setting spelled out."""
    return yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False)


def _folder() -> Any:
    return resources.files("fanin.recipes") / "shipped"


def _with_settings(values: Mapping[str, Any], settings: Iterable[str]) -> dict[str, Any]:
    changes: dict[str, Any] = {}
    for setting in settings:
        changes = _joined(changes, _parse_setting(setting))
    return _merged(values, changes, Recipe())


def _read(name_or_path: str | Path) -> dict[str, Any]:
    name = str(name_or_path)
    if name in shipped_recipes():
        text = (_folder() / f"{name}.yaml").read_text(encoding="utf-8")
    else:
        path = Path(name_or_path)
        if path.suffix not in (".yaml", ".yml") and not path.is_file():
            raise ConfigError(
                f"there is no recipe {name!r}{_nearest(name, shipped_recipes())}; shipped are "
                f"{', '.join(shipped_recipes())}, or give a .yaml file"
            )
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"recipe {name}: cannot be read as a UTF-8 file ({error})") from error
    values = _parse(text, name)
    base = values.pop(_BASE_KEY, None)
    if base is None:
        return values
    if base not in shipped_recipes():
        raise ConfigError(
            f"recipe {name}: extends {_shown(base)}, which is not shipped; use one of {', '.join(shipped_recipes())}"
        )
    return _merged(_read(base), values, Recipe())


def _parse(text: str, source: str) -> dict[str, Any]:
    values = parse_yaml(text, f"recipe {source}:")
    if values is None:
        return {}
    if not isinstance(values, dict) or not all(isinstance(key, str) for key in values):
        raise ConfigError(
            f"recipe {source}: must be a mapping of sections such as 'classifier:', found {type(values).__name__}"
        )
    return values


def _parse_setting(setting: str) -> dict[str, Any]:
    path, equals, value = setting.partition("=")
    keys = path.strip().split(".")
    if not equals or not all(keys) or len(keys) > _MOST_LEVELS:
        raise ConfigError(f"--set {_shown(setting)}: write section.key=value, such as classifier.fan_in=64")
    if keys == [_BASE_KEY]:
        raise ConfigError(f"--set {_shown(setting)}: name the recipe itself instead, with --recipe")
    parsed = parse_yaml(value, f"--set {_shown(setting)}: the value is")
    for key in reversed(keys):
        parsed = {key: parsed}
    return dict(parsed)


def _joined(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    """Both changes as one; where they meet the second counts."""
    result = dict(first)
    for key, value in second.items():
        old = result.get(key)
        if isinstance(old, Mapping) and isinstance(value, Mapping):
            result[key] = _joined(old, value)
        else:
            result[key] = value
    return result


def _merged(base: Mapping[str, Any], change: Mapping[str, Any], defaults: object) -> dict[str, Any]:
    """A section with the settings of ``change``; ``defaults`` tells which kind it is of where it does not say so."""
    result = dict(base)
    for key, value in change.items():
        old = result.get(key)
        default = (
            getattr(defaults, key) if isinstance(defaults, BaseModel) and key in type(defaults).model_fields else None
        )
        section = default is None or isinstance(default, BaseModel)  # a mapping that is a plain value is replaced
        if section and isinstance(old, Mapping) and isinstance(value, Mapping):
            kind = old.get("kind", getattr(default, "kind", None))
            result[key] = _merged(old, value, default) if value.get("kind", kind) == kind else value
        else:
            result[key] = value
    return result


def _describe(problem: dict[str, Any]) -> str:
    path, kind = [str(part) for part in problem["loc"]], ""
    if path[:1] in (["classifier"], ["encoder"]):
        kind = "".join(path[1:2])  # the tag of the union; people know the section by its name alone
        del path[1:2]
    where = ".".join(path)
    if problem["type"] == "extra_forbidden":
        return f"unknown setting {_shown(where)}{_instead(path, kind)}"
    if problem["type"] == "union_tag_invalid":
        context = problem["ctx"]
        return f"{where}.kind: must be one of {context['expected_tags']}, found {_shown(context['tag'])}"
    if problem["type"] == "union_tag_not_found":
        sections = _models_in(Recipe.model_fields[where].annotation)
        kinds = " or ".join(repr(section.model_fields["kind"].default) for section in sections)
        return f"{where}: must be a section of kind {kinds}, found {_shown(problem['input'])}"
    message = problem["msg"].removeprefix("Value error, ")
    if not where:
        return str(message)
    if problem["type"] in ("missing", "value_error"):
        return f"{where}: {message}"
    return f"{where}: {message[0].lower()}{message[1:]}, found {_shown(problem['input'])}"


def _instead(path: list[str], kind: str) -> str:
    """What may have been meant by an unknown setting."""
    known = _known_keys(path[:-1])
    if kind and path[-1] in known:  # of another kind of this section
        return f": this kind of {path[0]}, {kind}, has none"
    return _nearest(path[-1], known)


def _shown(value: object) -> str:
    """A value in a message: never long, whatever was given."""
    try:
        return _SHORT.repr(value)
    except ValueError:  # an integer beyond Python's limit of digits
        return f"a huge {type(value).__name__}"


_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = 100


def _known_keys(path: list[str]) -> list[str]:
    """All settings that the section at a path may have."""
    models: list[type[BaseModel]] = [Recipe]
    for part in path:
        if part.isdigit():  # an item of a list; its models are the list's
            continue
        found = [model.model_fields[part].annotation for model in models if part in model.model_fields]
        models = [model for annotation in found for model in _models_in(annotation)]
    return sorted({key for model in models for key in model.model_fields} | ({_BASE_KEY} if not path else set()))


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type):
        return [annotation] if issubclass(annotation, BaseModel) else []
    return [model for part in getattr(annotation, "__args__", ()) for model in _models_in(part)]


def _nearest(word: str, known: list[str]) -> str:
    close = difflib.get_close_matches(word[:60], known, n=1, cutoff=0.5)
    return f" (did you mean {close[0]!r}?)" if close else ""
