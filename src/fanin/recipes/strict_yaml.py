"""Plain YAML: values only; no tags, anchors, aliases or duplicate keys."""

from __future__ import annotations

from typing import Any

import yaml

from fanin.errors import ConfigError


def parse_yaml(text: str, source: str) -> Any:
    """The value of a YAML document.

    Aliases are refused because a few lines of them stand for billions of values, tags because a recipe needs none.

    Args:
        text: the document.
        source: stands in front of the error's message.

    Raises:
        ConfigError: it is not plain YAML.

    >>> parse_yaml("{epochs: 3}", "mine.yaml")
    {'epochs': 3}
    """
    try:
        return yaml.load(text, _StrictLoader)  # noqa: S506 - a SafeLoader
    except RecursionError as error:
        raise ConfigError(f"{source} not plain YAML (nested too deeply)") from error
    # Beside its own errors PyYAML lets through those of int(), of date() and of its table of booleans.
    except (yaml.YAMLError, ValueError, KeyError, AttributeError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(
            f"{source} not plain YAML ({reason}); tags, anchors, aliases and duplicate keys are refused"
        ) from error


class _StrictLoader(yaml.SafeLoader):
    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        line = event.start_mark.line + 1
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) is not None:
            raise yaml.YAMLError(f"an anchor or alias in line {line}")
        if getattr(event, "tag", None) is not None:
            raise yaml.YAMLError(f"a tag in line {line}")
        node: yaml.Node | None = super().compose_node(parent, index)
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key_node, _ in node.value:
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, yaml.ScalarNode):
                raise yaml.YAMLError(f"a key that is a list or mapping in line {line}")
            key = self.construct_object(key_node)
            if key in seen:
                raise yaml.YAMLError(f"the key {key_node.value[:60]!r} stands twice, again in line {line}")
            seen.add(key)
        return super().construct_mapping(node, deep)
