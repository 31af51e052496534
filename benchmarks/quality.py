"""Distillation against its baselines: accuracies over seeds, what they prove, and where they prove nothing.

    python -m benchmarks.quality --data banking77 --variants alone,tfidf,one_o_one,m_o_m,mkd,tkd,tmkd --seeds 1,2,3 \\
        --labels-per-class 5,20,all --exits tmkd,tmkd+self_attention

Everything is computed once and kept in the work folder: data, teachers and their scores serve all arms and seeds, a
killed command goes on where it was, and a second one computes nothing. docs/benchmarks.md says what each table means.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import signal
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks import tables
from benchmarks.arms import Arm, Setting
from benchmarks.claims import TEACHER, compared
from benchmarks.comparison import Comparison, Request, compare
from benchmarks.datasets import recipe_of
from benchmarks.progress import Board
from benchmarks.workbench import Workbench
from components.base import WAIT_POLICY
from kd_core.runtime.errors import KDError, ParamsError
from kd_core.runtime.quiet import QUIET
from kd_ops.base.settings import PROJECT, Settings
from kd_ops.lineage.provenance import git_state
from kd_ops.stages.machine import machine

STUDENTS = {
    "recipe": (),
    "copy3": (
        "student.layers=[1, 3, 5]",
        "student.hidden=null",
        "student.heads=null",
        "student.intermediate=null",
        "pretrain.optimisation.learning_rate=0.0003",
        "finetune.optimisation.learning_rate=0.0002",
        *(f"{stage}.optimisation.threads=null" for stage in ("pretrain", "finetune", "baseline")),
    ),
}
"""`recipe`: the one that params.yaml or the recipe names; copy3: half the layers of MiniLM-L6, copied."""

VARIANTS = "alone,frozen,tfidf,one_o_one,one_avg_o_one,m_o_m,mkd,tkd,tmkd"


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; prints Markdown, writes it and JSON to the work folder. Returns the exit status."""
    words = list(sys.argv[1:] if argv is None else argv)
    options = _parser().parse_args(words)
    os.environ.update(QUIET)
    os.environ.setdefault("OMP_WAIT_POLICY", WAIT_POLICY)
    try:
        written = run(options, f"python -m benchmarks.quality {shlex.join(words)}")
    except KDError as error:
        print(f"error: {error}", file=sys.stderr)
        return int(error.exit_code)
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from here", file=sys.stderr)
        return 128 + signal.SIGINT
    print(written.read_text(encoding="utf-8"))
    print(f"{written} (.json beside it)", file=sys.stderr)
    return 0


def run(options: argparse.Namespace, command: str) -> Path:
    """Compare on every data set with every number of labels; the Markdown file. Raises KDError."""
    request = _request(options)
    work = Path(options.work or Settings().home / "benchmarks" / "quality")
    bench = Workbench(work, Board())
    conditions = _conditions(command)
    sections, results = [tables.heading(conditions)], []
    for data in options.data:
        recipe, found = recipe_of(data, bench.folder), {}
        for labels in options.labels_per_class:
            setting = Setting(bench, recipe, (*_labels(labels), *STUDENTS[options.student], *options.overrides))
            found[labels] = compare(setting, request)
            title = f"{recipe.stem}, {labels} labels a class, student {options.student}"
            sections.append(tables.section(title, found[labels], request.seeds, request.reference))
            results.append({"data": data, "labels_per_class": labels, **found[labels].as_dict()})
            _save(bench.folder / "results", options, sections, {"conditions": conditions, "results": results})
            if not options.keep_models:
                bench.discard("models")
        sections += _curve(found)
    return _save(bench.folder / "results", options, sections, {"conditions": conditions, "results": results})


def _request(options: argparse.Namespace) -> Request:
    """What is asked for; names that nothing answers to are refused before anything is computed."""
    if wrong := [seed for seed in options.seeds if not seed.isdigit()]:
        raise ParamsError(f"--seeds {', '.join(wrong)}: write whole numbers")
    arms = tuple(Arm.parse(text) for text in options.variants)
    claims = tuple(compared(options.compare))
    known = {TEACHER, *(arm.name for arm in arms)}
    for name in [*(side for claim in claims for side in (claim.left, claim.right)), options.reference or TEACHER]:
        if name not in known:
            raise ParamsError(f"{name!r} is none of {', '.join(sorted(known))}; add it to --variants, or correct it")
    seeds = tuple(int(seed) for seed in options.seeds)
    exit_arms = tuple(Arm.parse(text) for text in options.exits)
    return Request(arms, seeds, exit_arms, claims, options.reference, resamples=options.resamples)


def _curve(found: dict[str, Comparison]) -> list[str]:
    return ["### Learning curve\n\n" + tables.curve(found) + "\n"] if len(found) > 1 else []


def _labels(text: str) -> tuple[str, ...]:
    if text == "all":
        return ()
    if not text.isdigit() or not int(text):
        raise ParamsError(f"--labels-per-class {text}: write numbers above 0, or all")
    return (f"data.reference.split.train_per_class={text}",)


def _conditions(command: str) -> dict[str, Any]:
    here, git = machine(), git_state(PROJECT) or {}
    gpus = ", ".join(here["gpus"]) or "no GPU"
    libraries = ("torch", "transformers", "tokenizers", "scikit-learn")
    return {
        "command": command,
        "machine": f"{here['cpu']}, {here['cores']} cores, {here['threads']} threads, {gpus}",
        "code": f"{git.get('sha', 'unknown')}{' with changes' if git.get('dirty') else ''}",
        "versions": ", ".join(f"{name} {version(name)}" for name in libraries),
    }


def _save(folder: Path, options: argparse.Namespace, sections: Sequence[str], results: dict[str, Any]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    name = options.name or "-".join([*(Path(data).stem for data in options.data), options.student])
    (folder / f"{name}.json").write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    path = folder / f"{name}.md"
    path.write_text("\n".join(sections), encoding="utf-8")
    return path


def _parser() -> argparse.ArgumentParser:
    def listed(text: str) -> list[str]:
        return [part.strip() for part in text.split(",") if part.strip()]

    parser = argparse.ArgumentParser(prog="python -m benchmarks.quality", description=(__doc__ or "").splitlines()[0])
    add = parser.add_argument
    add("--data", type=listed, default=["route"], help="banking77, sst2, rte, a recipe's name, or its file; several: ,")
    add("--variants", type=listed, default=listed(VARIANTS), help=f"arms, see benchmarks/arms.py; default: {VARIANTS}")
    add("--seeds", type=listed, default=["1", "2", "3"], help="of the students; default: 1,2,3")
    add("--labels-per-class", type=listed, default=["all"], help="gold labels a class, e.g. 5,10,20,40,all")
    add("--student", choices=STUDENTS, default="recipe", help="default: the recipe's")
    add("--exits", type=listed, default=[], help="arms whose branches are trained and compared by layer")
    add("--reference", help="arm that the others are compared with in the table")
    add("--compare", type=listed, default=[], help="further claims to test, LEFT>RIGHT")
    add("--set", "-S", dest="overrides", action="append", default=[], metavar="KEY=VALUE", help="a param of all arms")
    add("--resamples", type=int, default=5000, help="of the bootstrap")
    add("--work", help="work folder; default: benchmarks/quality below KD_HOME")
    add("--name", help="of the result files; default: data sets and student")
    add("--keep-models", action="store_true", help="keep the students' weights after their answers are stored")
    return parser


if __name__ == "__main__":
    sys.exit(main())
