"""What a comparison is asked for, read from words: recipes with changed settings, seeds, and a budget."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from fanin.errors import ConfigError

# [NAME=]RECIPE[:key=value,...]; a colon belongs to the settings only where a key and an equals sign follow.
_RECIPE = re.compile(r"(?:(?P<name>[^=:]+)=)?(?P<recipe>[^=]+?)(?::(?P<settings>[A-Za-z_][\w.]*=.*))?", re.DOTALL)
_NOT_IN_FOLDERS = re.compile(r"[^\w.=,+-]+")
_LONGEST_FOLDER = 80
_MOST_SEEDS = 1000


@dataclass(frozen=True)
class RecipeChoice:
    """A recipe with settings changed, under a name.

    Attributes:
        name: in tables, pictures and folders.
        recipe: a shipped recipe's name or a YAML file.
        settings: each "section.key=value".
        spec: the words it was read from.
    """

    name: str
    recipe: str
    settings: tuple[str, ...]
    spec: str

    @property
    def folder(self) -> str:
        """The name as a folder's name: without separators, and not too long."""
        safe = _NOT_IN_FOLDERS.sub("_", self.name)
        if len(safe) <= _LONGEST_FOLDER:
            return safe
        return f"{safe[:_LONGEST_FOLDER]}-{hashlib.sha256(self.name.encode()).hexdigest()[:8]}"


@dataclass(frozen=True)
class Budget:
    """How long every run may train.

    Attributes:
        unit: "steps", "seconds", or "own": as long as each recipe says itself.
        amount: how many; 0 for "own".
    """

    unit: Literal["own", "steps", "seconds"] = "own"
    amount: int = 0

    def __str__(self) -> str:
        return "own" if self.unit == "own" else f"{self.unit}={self.amount}"


def parse_recipes(specs: list[str]) -> list[RecipeChoice]:
    """Recipes from ``[NAME=]RECIPE[:key=value,...]`` each; without NAME the words name it, of a file its name alone.

    A comma inside brackets or quotes belongs to a value.

    Raises:
        ConfigError: a recipe is not of that form, sets the seed, or has the name of another.

    >>> first, second = parse_recipes(["dense", "F16=default:classifier.fan_in=16,training.epochs=3"])
    >>> second.name, second.recipe, second.settings
    ('F16', 'default', ('classifier.fan_in=16', 'training.epochs=3'))
    """
    choices = [_parse_recipe(spec) for spec in specs]
    for i, choice in enumerate(choices):
        # Folders must differ on file systems that know no capitals, too.
        if any(choice.folder.casefold() == other.folder.casefold() for other in choices[:i]):
            raise ConfigError(
                f"--recipe {choice.spec!r}: two recipes are called {choice.name!r}, or nearly so; name them apart, "
                "for instance --recipe small=default:classifier.fan_in=16"
            )
    return choices


def parse_seeds(text: str) -> tuple[int, ...]:
    """Seeds from "0,1,2".

    Raises:
        ConfigError: a seed is not a whole number from 0 on, or stands there twice.
    """
    words = [word.strip() for word in text.split(",")]
    if not all(re.fullmatch(r"[0-9]{1,18}", word) for word in words) or len(words) > _MOST_SEEDS:
        raise ConfigError(f"--seeds {text[:60]!r}: give whole numbers from 0 on with commas between, such as 0,1,2")
    seeds = tuple(int(word) for word in words)
    if len(set(seeds)) < len(seeds):
        raise ConfigError(f"--seeds {text[:60]!r}: a seed stands there twice; its runs would be the same")
    return seeds


def parse_budget(text: str | None) -> Budget:
    """A budget from "steps=N" or "seconds=N"; None or "own" for each recipe's own.

    Raises:
        ConfigError: it is of another form.

    >>> parse_budget("steps=2000")
    Budget(unit='steps', amount=2000)
    """
    if text is None or text == "own":
        return Budget()
    unit, _, amount = text.partition("=")
    if unit in ("steps", "seconds") and re.fullmatch(r"[1-9][0-9]{0,8}", amount):
        return Budget("steps" if unit == "steps" else "seconds", int(amount))
    raise ConfigError(f"--budget {text[:60]!r}: give steps=N or seconds=N with a whole number from 1 on, or none")


def _parse_recipe(spec: str) -> RecipeChoice:
    found = _RECIPE.fullmatch(spec)
    if found is None:
        raise ConfigError(
            f"--recipe {spec[:100]!r}: give [NAME=]RECIPE[:key=value,...], for instance default:classifier.fan_in=16"
        )
    recipe, settings = found["recipe"], tuple(_split(found["settings"] or ""))
    if any(setting.partition("=")[0].strip() == "training.seed" for setting in settings):
        raise ConfigError(f"--recipe {spec[:100]!r}: leave training.seed out; the seeds are those of --seeds")
    path = Path(recipe)
    short = path.stem if path.suffix in (".yaml", ".yml") else recipe
    name = found["name"] or ":".join([short, *([",".join(settings)] if settings else [])])
    if not name[0].isalnum():
        raise ConfigError(f"--recipe {spec[:100]!r}: its name {name[:60]!r} must begin with a letter or a digit")
    return RecipeChoice(name, recipe, settings, spec)


def _split(settings: str) -> list[str]:
    """Split at the commas that stand in no bracket and no quotes."""
    parts, depth, quote = [""], 0, ""
    for letter in settings:
        if quote:
            quote = "" if letter == quote else quote
        elif letter in "'\"":
            quote = letter
        else:
            depth += (letter in "[{(") - (letter in "]})")
        if letter == "," and depth <= 0 and not quote:
            parts.append("")
        else:
            parts[-1] += letter
    return [part for part in parts if part.strip()]
