"""Data files of a source, pinned: local ones put into the store, globs replaced by what they stand for now."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from kd_core.config.data import FilesSource
from kd_core.config.rules import paths_of
from kd_core.runtime.errors import InvalidDataError
from kd_core.tables.listing import Listing, choose, expand, is_pattern, matching, noted
from kd_ops.resolving.addresses import Addresses, s3_objects, s3_revision


def pinned_files(source: FilesSource, values: dict[str, Any], where: str, addresses: Addresses) -> dict[str, Any]:
    """What the source's files are now: `etags` of `s3://` addresses, and `left_out`, files that globs do not read.

    `values`, the source as params.yaml has it, gets the addresses at which a stage finds the files; an address stays as
    it was given where it stands for one. `where` is its params key. Raises InvalidDataError for what is not there.
    """
    placed: dict[str | None, list[str]] = {}
    left_out: list[str] = []
    for split, paths in paths_of(source).items():
        key = f"{where}.path" if split is None else f"{where}.path.{split}"
        for path in paths:
            listing = _meant(path, addresses)
            left_out += listing.left_out
            placed.setdefault(split, []).extend(addresses.data(each, key) for each in listing.files)
    by_split = {split: found[0] if len(found) == 1 else found for split, found in placed.items()}
    values["path"] = by_split.get(None, by_split)
    etags = {each: s3_revision(each) for found in placed.values() for each in found if each.startswith("s3://")}
    return {"revision": None} | ({"etags": etags} if etags else {}) | ({"left_out": left_out} if left_out else {})


def _meant(path: str, addresses: Addresses) -> Listing:
    """The files of a glob; anything else is taken as it is."""
    if not is_pattern(path) or addresses.local(path) is not None:
        return Listing((path,), ())
    if path.startswith("s3://"):
        return _objects(path)
    *first, last = addresses.places(path)
    for place in first:
        with suppress(InvalidDataError):
            return expand(place)
    return expand(last)


def _objects(pattern: str) -> Listing:
    bucket, _, inside = pattern.removeprefix("s3://").partition("/")
    fixed = inside[: next(at for at in range(len(inside)) if is_pattern(inside[at : at + 1]))]
    names = matching(s3_objects(bucket, fixed, pattern), inside)
    listing = choose(names, pattern)
    if not listing.files:
        raise InvalidDataError(f"{pattern}: no object that is read matches ({noted(listing.left_out)}); correct it")
    return Listing(*(tuple(f"s3://{bucket}/{name}" for name in part) for part in (listing.files, listing.left_out)))
