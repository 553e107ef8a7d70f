"""docs/recipes.md names every setting of a recipe, with its default, and every shipped recipe."""

import re
from collections import defaultdict
from pathlib import Path
from typing import Literal, get_args, get_origin

import pytest
import yaml
from pydantic import BaseModel
from pydantic_core import to_jsonable_python

from fanin.recipes import (
    checkpoint_recipe,
    classifier_recipe,
    optimizer_recipe,
    recipe,
    remedies_recipe,
    rewiring_recipe,
)
from fanin.recipes.recipe_files import shipped_recipes
from fanin.recipes.recipe_section import Section

PAGE = Path(__file__).parents[1] / "docs" / "recipes.md"
ROW = re.compile(r"\| `(\w+)` \| `(.+?)` \| ")  # setting, default
SECTION_OF_HEADING = {
    "Sections": recipe.Recipe,
    "tokenizer": recipe.TokenizerSection,
    "encoder": recipe.EncoderSection,
    "encoder of kind bag": recipe.BagSection,
    "encoder of kind transformer": recipe.TransformerSection,
    "encoder of kind features": recipe.FeaturesSection,
    "intermediate": remedies_recipe.IntermediateSection,
    "classifier": classifier_recipe.ClassifierSection,
    "classifier of kind sparse, head_tail or dense": classifier_recipe.StoredWeightsSection,
    "classifier of kind dense or dense_autograd": classifier_recipe.DenseStartSection,
    "classifier of kind sparse or head_tail": classifier_recipe.FixedFanInSection,
    "classifier of kind sparse": classifier_recipe.SparseSection,
    "classifier.fan_in_by_frequency": classifier_recipe.FrequencyBandSection,
    "classifier of kind head_tail": classifier_recipe.HeadTailSection,
    "classifier of kind bottleneck": classifier_recipe.BottleneckSection,
    "classifier of kind masked": classifier_recipe.MaskedSection,
    "classifier.rewiring": rewiring_recipe.RewiringScheduleSection,
    "what goes and what comes": rewiring_recipe.RewiringSection,
    "classifier.rewiring.history": rewiring_recipe.HistorySection,
    "auxiliary": remedies_recipe.AuxiliarySection,
    "training": recipe.TrainingSection,
    "training.checkpoint": checkpoint_recipe.CheckpointSection,
    "evaluation": recipe.EvaluationSection,
    "Schedules": optimizer_recipe.ScheduleSection,
    "Update rules": optimizer_recipe.UpdateSection,
}


def documented():
    """By heading, the default of every setting in its tables."""
    tables, heading = defaultdict(dict), None
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        if line.startswith("#"):
            heading = line.lstrip("# ")
        elif row := ROW.match(line):
            tables[heading][row[1]] = row[2]
    return tables


def own_fields(section):
    """The settings that a section adds to its base, or gives another default, but for the word that names its kind."""
    base = section.__base__.model_fields
    return {
        name: field
        for name, field in section.model_fields.items()
        if (name not in base or base[name].default != field.default) and not is_tag(field)
    }


def is_tag(field):
    return get_origin(field.annotation) is Literal and len(get_args(field.annotation)) == 1


def reachable(section):
    """A section and all sections in it."""
    found = {section}
    for field in section.model_fields.values():
        found |= {inner for part in parts(field.annotation) for inner in reachable(part)}
    return found


def parts(annotation):
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [part for argument in get_args(annotation) for part in parts(argument)]


@pytest.mark.parametrize("heading", SECTION_OF_HEADING)
def test_its_tables_hold_the_settings_and_their_defaults(heading):
    fields, rows = own_fields(SECTION_OF_HEADING[heading]), documented()[heading]
    assert rows.keys() == fields.keys()
    for name, field in fields.items():
        if field.is_required():
            assert rows[name] == "required", name
            continue
        value = yaml.safe_load(rows[name])
        if isinstance(field.default, Section):
            assert type(field.default).model_validate(value) == field.default, name
        else:
            assert value == to_jsonable_python(field.default), name


def test_no_section_is_left_out():
    sections = reachable(recipe.Recipe)
    assert len(sections) > 15
    for section in sections:
        has = {heading for heading, documented in SECTION_OF_HEADING.items() if issubclass(section, documented)}
        named = {name for heading in has for name in own_fields(SECTION_OF_HEADING[heading])}
        tags = {name for name, field in section.model_fields.items() if is_tag(field)}
        assert section.model_fields.keys() == named | tags, section


def test_kinds_are_named():
    page = PAGE.read_text(encoding="utf-8")
    kinds = [field.default for s in reachable(recipe.Recipe) for field in s.model_fields.values() if is_tag(field)]
    assert len(kinds) == 9
    assert [kind for kind in kinds if f"`{kind}`" not in page] == []


def test_shipped_recipes_are_named():
    chapter = PAGE.read_text(encoding="utf-8").split("## Shipped recipes")[1].split("\n## ")[0]
    first_column = [line.split("|")[1] for line in chapter.splitlines() if line.startswith("| `")]
    assert sorted(re.findall(r"`([^`]+)`", " ".join(first_column))) == shipped_recipes()
