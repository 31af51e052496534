"""The embedded data: the documentation in botocore's service models, as three data sets.

- operations: an operation's first sentence → its service;
- members: first sentences of the shapes' members, without labels;
- pairs: (request made from an operation's name, description) → relevant or irrelevant, where an irrelevant description
  is the same service's nearest by word overlap, so that shared words alone do not give the answer away.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas as pd

from kd_core.config.data import BotocoreSource
from kd_core.data.sources.prose import first_sentence
from kd_core.data.sources.service_models import ServiceModel, installed_folder, read_services
from kd_core.data.splits.components import Components
from kd_core.data.splits.near_duplicates import near_duplicate_groups
from kd_core.data.splits.words import Words, normalised_words, stable_order, word_set
from kd_core.runtime.errors import InvalidDataError

RELEVANT, IRRELEVANT = "relevant", "irrelevant"

_HUMP = re.compile(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z]+|[A-Z]+|\d+")
_VENDORS = ("Amazon", "AWS")
_TWIN_SIMILARITY = 0.8
"""Descriptions at least this similar (Jaccard) are no negatives of each other, and stay on one side of a split."""


def read_models(source: BotocoreSource, location: Path | None = None) -> list[ServiceModel]:
    """The service models that `source` names; `location`: a folder or wheel of them; None: the installed botocore's."""
    return read_services(location or installed_folder(), source.services)


def read_botocore(source: BotocoreSource, location: Path | None = None) -> pd.DataFrame:
    """`rows_of` the service models that `source` names."""
    return rows_of(read_models(source, location), source)


def rows_of(models: Sequence[ServiceModel], source: BotocoreSource) -> pd.DataFrame:
    """The data set that `source` names: id, text, text_pair (pairs only), label, link (pairs only).

    `limit` keeps the rows (of pairs: the requests) that come first in a stable hash of their ids, so that a new release
    changes few of them.
    """
    frame = {"operations": _operations, "members": _members, "pairs": _pairs}[source.dataset](models)
    if frame.empty:
        raise InvalidDataError(f"data source botocore: {source.dataset} of {', '.join(source.services)} has no rows")
    if source.limit is None or len(frame) <= source.limit:
        return frame
    keys = [str(key).split("#")[0] for key in frame["id"]]
    return frame.iloc[sorted(stable_order(0, keys)[: source.limit])].reset_index(drop=True)


def label_names(models: Sequence[ServiceModel], source: BotocoreSource) -> dict[str, list[str]]:
    """Label → the names by which a text gives it away, words apart; empty where labels are no services."""
    if source.dataset != "operations":
        return {}
    return {model.name: _names(model) for model in models}


def _names(model: ServiceModel) -> list[str]:
    """Its id and titles: "Amazon Simple Storage Service" without "Amazon" and without "Service", too; lower case."""
    words = [_HUMP.findall(title) for title in (model.name, *model.titles)]
    words += [each[1:] for each in words if each[0] in _VENDORS]
    words += [each[:-1] for each in words if each[-1] == "Service"]
    return sorted({" ".join(each).lower() for each in words if each})


def _descriptions(models: Sequence[ServiceModel]) -> list[tuple[str, str, str]]:
    """(service, operation, first sentence), exact twins set aside.

    Of twins within one service the first stays; a sentence that stands in several services answers for none of them.
    """
    found = [
        (model.name, name, first_sentence(operation.get("documentation", "")))
        for model in models
        for name, operation in sorted(model.operations.items())
    ]
    services: defaultdict[tuple[str, ...], set[str]] = defaultdict(set)
    for service, _, text in found:
        services[tuple(normalised_words(text))].add(service)
    seen: set[tuple[str, ...]] = set()
    kept = []
    for service, name, text in found:
        key = tuple(normalised_words(text))
        if key and key not in seen and len(services[key]) == 1:
            seen.add(key)
            kept.append((service, name, text))
    return kept


def _operations(models: Sequence[ServiceModel]) -> pd.DataFrame:
    rows = [(f"{service}/{name}", text, service) for service, name, text in _descriptions(models)]
    return pd.DataFrame(rows, columns=["id", "text", "label"], dtype=object)


def _members(models: Sequence[ServiceModel]) -> pd.DataFrame:
    rows: dict[tuple[str, ...], tuple[str, str, None]] = {}
    for key, documentation in _member_documentation(models):
        text = first_sentence(documentation)
        words = tuple(normalised_words(text))
        if len(words) >= 3:
            rows.setdefault(words, (key, text, None))
    return pd.DataFrame(list(rows.values()), columns=["id", "text", "label"], dtype=object)


def _member_documentation(models: Sequence[ServiceModel]) -> Iterator[tuple[str, str]]:
    for model in models:
        for shape, content in sorted(model.shapes.items()):
            for name, member in sorted(content.get("members", {}).items()):
                if member.get("documentation"):
                    yield f"{model.name}/{shape}.{name}", member["documentation"]


def request_from(operation: str) -> str:
    """What a user would ask for: "ListPreparedStatements" → "list prepared statements"."""
    words = _HUMP.findall(operation)
    return " ".join(word if word.isupper() and len(word) > 1 else word.lower() for word in words)


def _pairs(models: Sequence[ServiceModel]) -> pd.DataFrame:
    """Two rows a request: its own description, and the nearest other one of the service. `link` keeps both together."""
    descriptions = _descriptions(models)
    sets = [word_set(text) for _, _, text in descriptions]
    twins = near_duplicate_groups(sets, _TWIN_SIMILARITY)
    links = Components(len(descriptions))
    for position, twin in enumerate(twins):
        links.join(position, twin)
    rows: list[tuple[str, str, str, str, int]] = []
    for request, negative in _negatives(descriptions, sets, twins):
        links.join(request, negative)
        service, name, text = descriptions[request]
        asked = request_from(name)
        rows.append((f"{service}/{name}#{RELEVANT}", asked, text, RELEVANT, request))
        rows.append((f"{service}/{name}#{IRRELEVANT}", asked, descriptions[negative][2], IRRELEVANT, request))
    frame = pd.DataFrame(rows, columns=["id", "text", "text_pair", "label", "link"], dtype=object)
    frame["link"] = [str(links.find(position)) for position in frame["link"]]
    return frame


def _negatives(
    descriptions: Sequence[tuple[str, str, str]], sets: Sequence[Words], twins: Sequence[int]
) -> Iterator[tuple[int, int]]:
    """(request, position of the description with the greatest word overlap with it that is not its answer)."""
    by_service: defaultdict[str, list[int]] = defaultdict(list)
    for position, (service, _, _) in enumerate(descriptions):
        by_service[service].append(position)
    for positions in by_service.values():
        for position in positions:
            asked = word_set(request_from(descriptions[position][1]))
            others = [other for other in positions if twins[other] != twins[position]]
            if others:
                yield position, min(others, key=lambda other: (-_overlap(asked, sets[other]), other))


def _overlap(request: Words, description: Words) -> float:
    """Shared words, and among equals the share of the description that they make up."""
    shared = len(request & description)
    return shared + shared / max(len(description), 1)
