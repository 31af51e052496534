"""Starts a run: merges and validates the params and pins everything that could change its meaning.

What the stages need to know of the outside (versions of libraries, hub commits, etags, registry versions, content of
local files, the split ledger) is written into the run's own params.yaml under `resolved`, with exactly the keys that
dvc.yaml lists; so nothing hits the cache by mistake, and what is the same hits it on any machine. Local files and the
code are put into the store and named there by their content: what is edited while a run goes on is not in that run.
"""

from __future__ import annotations

import argparse
import json
import re
import secrets
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from kd_core.config.data import BotocoreSource, HuggingFaceSource
from kd_core.config.params import Params
from kd_core.runtime.errors import ParamsError
from kd_core.runtime.files import to_json
from kd_core.runtime.fingerprint import of_value
from kd_ops.base.documents import to_yaml
from kd_ops.base.entry import ended, stop_on_signals
from kd_ops.base.remembered import remembered
from kd_ops.base.settings import Settings
from kd_ops.lineage.provenance import git_state
from kd_ops.lineage.reuse import settle
from kd_ops.resolving.addresses import Addresses, hub_commit
from kd_ops.resolving.data_files import pinned_files
from kd_ops.resolving.lengths import check_lengths
from kd_ops.resolving.live_teacher import check_live_teacher
from kd_ops.resolving.merge import merged_params, recipe_path
from kd_ops.resolving.split_ledgers import ROLES, data_key, starting_ledger
from kd_ops.runs.notes import note_run
from kd_ops.runs.runs import Run
from kd_ops.runs.store_check import check_store
from kd_ops.stages import graph
from kd_ops.stages.code_snapshot import Code, contents, digest, keep, project_code
from kd_ops.stages.graph import Graph
from kd_ops.stages.versions import installed_versions, release
from kd_ops.stages.workspace import workspace

ANSWER_BYTES = 4000
"""A pod hands over 4 KiB."""

_SCHEDULER_NAMES = re.compile(r"(manual|scheduled|backfill|asset_triggered)__")


def resolve(
    recipe: str | Path | None = None,
    overrides: Sequence[str] = (),
    revision: str | None = None,
    name: str | None = None,
    settings: Settings | None = None,
    variants: Sequence[str] = (),
) -> Run:
    """A run that is ready for its first stage.

    `recipe` is a name in recipes/ or a file; `variants` are names in recipes/variants/, later ones over earlier ones.
    `name` names the run's folder; a run that exists under it is returned if it was asked for with the same words, so
    that a scheduler may try again. Raises ParamsError before anything is
    written, InvalidDataError for data that is not there, TryAgainError for a place that does not answer.
    """
    settings = settings or Settings()
    path = recipe_path(recipe, settings.project)
    params = merged_params(settings.project, path, overrides, revision, variants)
    request = {
        "recipe": _shown(path, settings),
        "variants": list(variants),
        "overrides": list(overrides),
        "revision": revision,
    }
    run = Run.named(_run_name(name, params.recipe), settings)
    if run.exists():
        if run.info().get("request") != request:
            raise ParamsError(f"run {run.id} exists and was started with other params; choose another name")
        return run
    check_store(settings.store_uri)
    code = project_code(settings)
    document = resolved_document(params, settings, path, digest(code))
    stages = _graph(document, settings, code)
    keep(code, settings.store_uri)
    run.storage.write("run.json", to_json(_about(run, params, request, settings)))
    note_run(run, settings.store_uri)
    stages.keep(run)
    run.storage.write("params.yaml", document)
    return run


def resolved_document(params: Params, settings: Settings, recipe: Path | None, code: str | None) -> bytes:
    """The run's params.yaml: the params with local addresses replaced by their content's, and `resolved`.

    `code` is the digest of the run's code; None for a plan, which looks at the code as it lies in the project.
    """
    bases = [Path.cwd(), *([recipe.resolve().parent] if recipe else []), settings.project]
    addresses = Addresses(settings, bases)
    values = params.model_dump(mode="json")
    resolved: dict[str, Any] = {
        "data": {role: _source(params, role, values, addresses) for role in ROLES},
        "teachers": {name: _teacher(values["teachers"][name], name, addresses) for name in params.teachers},
        "student": addresses.model(params.student.base, "student.base"),
        "versions": installed_versions(),
        "code": code,
    }
    check_lengths(params, resolved, addresses.read)
    check_live_teacher(params, resolved, addresses.read)
    values["student"]["base"] = _address(params.student.base, resolved["student"])
    for role in ROLES:
        source = resolved["data"][role]
        source["ledger"] = starting_ledger(params.recipe, role, data_key(values["data"][role], source), settings)
    return to_yaml({**values, "resolved": resolved})


def _source(params: Params, role: str, values: dict[str, Any], addresses: Addresses) -> dict[str, Any]:
    """Ids of one role's source; local paths in `values` are replaced by their content's names."""
    source = params.data.reference.source if role == "reference" else params.data.pretraining.source
    where = f"data.{role}.source"
    if isinstance(source, BotocoreSource):
        # A release on the index is immutable: its version says it all.
        return {"revision": release("botocore") if source.revision == "installed" else source.revision}
    if isinstance(source, HuggingFaceSource):
        if (path := addresses.local(source.name)) is None:
            return {"revision": hub_commit(source.name, source.revision, "dataset")}
        values["data"][role]["source"]["name"] = addresses.data(str(path), f"{where}.name")
        return {"revision": None}
    return pinned_files(source, values["data"][role]["source"], where, addresses)


def _teacher(teacher: dict[str, Any], name: str, addresses: Addresses) -> dict[str, Any]:
    record = dict(addresses.model(teacher["weights"], f"teachers.{name}.weights"))
    teacher["weights"] = _address(teacher["weights"], record)
    if teacher["tokenizer"] is not None:
        tokenizer = addresses.model(teacher["tokenizer"], f"teachers.{name}.tokenizer")
        teacher["tokenizer"] = _address(teacher["tokenizer"], tokenizer)
        record["tokenizer"] = tokenizer
    if teacher["labels"] is not None:  # DVC leaves labels called `size` or `nfiles` out of a stage's key
        record["labels"] = of_value(teacher["labels"])
    return record


def _address(given: str, record: dict[str, Any]) -> str:
    """A path of this machine must not stand in a key; names that others understand too may stay, an alias may not."""
    if given.startswith("models:/"):
        return f"models:/{record['revision']}"
    return given if "://" in given else str(record["address"])


def _shown(recipe: Path | None, settings: Settings) -> str | None:
    """A recipe's file, the same whether it was named or taken by default, here or in a copy of the project."""
    if recipe is None:
        return None
    path = recipe.resolve()
    return str(path.relative_to(settings.project) if path.is_relative_to(settings.project) else path)


def _graph(document: bytes, settings: Settings, code: Code) -> Graph:
    """The stages; those of the last run on this machine if its params.yaml and dvc.yaml were the same."""
    inputs = [contents({"dvc.yaml": code["dvc.yaml"], "params.yaml": document}), release("dvc")]
    return Graph.from_document(
        remembered("graph", inputs, (graph,), lambda: _loaded(document, settings, code), settings)
    )


def _loaded(document: bytes, settings: Settings, code: Code) -> dict[str, Any]:
    with workspace(settings, document, code) as folder:
        return Graph.load(folder).document()


def _about(run: Run, params: Params, request: dict[str, Any], settings: Settings) -> dict[str, Any]:
    return {
        "run": run.id,
        "recipe": params.recipe,
        "variants": request["variants"],
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "git": git_state(settings.project),
        "request": request,
    }


def _run_name(name: str | None, recipe: str) -> str:
    """A folder's name: as given, made harmless; a scheduler's, which two recipes may share, gets the recipe's."""
    if not name:
        return f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{recipe}-{secrets.token_hex(3)}"
    safe = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip(".-")
    if not safe:
        raise ParamsError(f"run {name!r}: a name needs letters or digits")
    return f"{recipe}-{safe}" if _SCHEDULER_NAMES.match(name) else safe


def answer(run: Run, settled: Sequence[str] = ()) -> dict[str, Any]:
    """What a scheduler has to know of a run, to map its tasks; `settled` are the stages that need no process.

    Of many stages only as many are named as fit: the others' processes find out that there is nothing to do.
    """
    params = run.params()
    told: dict[str, Any] = {
        "run": run.id,
        "run_uri": run.uri,
        "recipe": params["recipe"],
        "teachers": list(params["teachers"]),
        "pretraining_teachers": params["pretrain"]["teachers"],
        "reference_teachers": params["finetune"]["teachers"],
        "settled": [],
    }
    for name in settled:
        if len(json.dumps(told)) + len(json.dumps(name)) + 2 > ANSWER_BYTES:
            break
        told["settled"].append(name)
    return told


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; the answer goes as JSON to the file that is named, or to standard output. The exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m kd_ops.resolving.resolve", description="Start a run and take over what the store has of it."
    )
    parser.add_argument("--recipe", help="a name in recipes/ or a file")
    parser.add_argument(
        "--variant", dest="variants", action="append", default=[], help="a name in recipes/variants/, repeatable"
    )
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--revision", help="of the data sets; as the recipe says by default")
    parser.add_argument("--run", help="the run's name; a new one by default")
    parser.add_argument("--answer", type=Path, help="a file for the answer; what is printed may be mixed with it")
    options = parser.parse_args(argv)

    def start() -> None:
        asked = (options.recipe, options.overrides, options.revision, options.run)
        run, settings = resolve(*asked, variants=options.variants), Settings()
        said = json.dumps(answer(run, settle(run, settings)))
        if options.answer is None:
            print(said)
        else:
            options.answer.write_text(said + "\n", encoding="utf-8")

    return ended(start)


if __name__ == "__main__":
    stop_on_signals()
    sys.exit(main())
