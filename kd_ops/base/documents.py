"""YAML documents, written so that every reader sees the same values.

PyYAML reads YAML 1.1, DVC reads 1.2: a plain `0o17` or `1:30` means different things to them. Strings that do not begin
with a letter are therefore always quoted.
"""

from __future__ import annotations

from typing import Any

import yaml

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""libyaml's where it is installed: several times as fast."""


class _Dumper(yaml.SafeDumper):
    """Writes no anchors and quotes what could be taken for a number."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    style = None if value[:1].isalpha() and value.isascii() else '"'
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)


_Dumper.add_representer(str, _text)


def to_yaml(value: Any) -> bytes:
    """`value` as YAML, keys in their order."""
    text = yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)
    return text.encode("utf-8")


def in_flow(value: Any) -> str:
    """`value` as YAML in one line, for a text that has comments beside it."""
    text = yaml.dump(
        [value], Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=float("inf"), default_flow_style=True
    )
    return text.strip()[1:-1]


def from_yaml(data: bytes) -> Any:
    """The value of a YAML document."""
    return yaml.load(data.decode("utf-8"), Loader=_LOADER)  # noqa: S506 -- a safe loader
