"""`kd`, the command line: init, run, repro, plan, show, checkout, predict, calibrate, drift, rollback, gc."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from kd_ops.base.entry import ended, stop_on_signals
from kd_ops.base.settings import Settings

app = typer.Typer(
    help="Distil several big teachers into one small, fast student; promote it only when it is proven.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)

Recipe = Annotated[
    str | None, typer.Option("--recipe", "-r", help="A file in recipes/, without its ending; default: params.yaml's.")
]
Variants = Annotated[
    list[str] | None,
    typer.Option("--variant", help="A file in recipes/variants/, laid over the recipe, e.g. mkd; may be repeated."),
]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", "-S", metavar="KEY=VALUE", help="Override a parameter, e.g. -S finetune.alpha=0.5."),
]
Revision = Annotated[str | None, typer.Option(help="Revision of the data sets; default: as the recipe says.")]

CHAMPION = "models:/kd-route@champion"
Model = Annotated[str, typer.Option(help="models:/NAME@ALIAS, models:/NAME/VERSION or a folder.")]
Texts = Annotated[list[str] | None, typer.Argument(help="Texts to answer.")]
TextPair = Annotated[
    list[str] | None, typer.Option(help="Second text of a pair, once for each text; for models of pairs.")
]
Source = Annotated[Path | None, typer.Option("--input", help="csv, tsv, jsonl or parquet with the text columns.")]
Target = Annotated[Path | None, typer.Option("--output", help="csv, tsv, jsonl or parquet for the answers.")]
Columns = Annotated[
    list[str] | None,
    typer.Option(
        "--column", metavar="OURS=THEIRS", help="Where a text stands, e.g. text=body; default: as in training."
    ),
]
Threshold = Annotated[
    float | None,
    typer.Option(min=0, max=1, help="Exit threshold of all exits; default: as calibrated; 0: the full model."),
]
MaxDisagreement = Annotated[
    float | None, typer.Option(min=0, max=1, help="At most this share of predictions differs from the full model's.")
]
MaxLatency = Annotated[
    float | None, typer.Option(help="Milliseconds in which one text alone is answered; after `kd calibrate`.")
]
Percentile = Annotated[float | None, typer.Option(help="Share of texts that --max-latency-ms is for; default: 0.99.")]
MinThroughput = Annotated[float | None, typer.Option(help="Texts a second of a large request; after `kd calibrate`.")]
Log = Annotated[Path | None, typer.Option(help="Folder of a prediction log for `kd drift`; no texts are logged.")]
SkipEmpty = Annotated[
    bool, typer.Option("--skip-empty", help="Leave the answer empty where a row of --input has no text.")
]
Probabilities = Annotated[bool, typer.Option(help="Add the probability of every label.")]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object a text.")]


@app.command()
def init(
    paths: Annotated[
        list[str], typer.Argument(metavar="PATH...", help="csv, tsv, jsonl, ndjson or parquet files, or a folder.")
    ],
    recipe: Annotated[
        str | None, typer.Option("--recipe", "-r", help="Name of the recipe; default: the file's.")
    ] = None,
    text: Annotated[str | None, typer.Option(help="Column of the texts.")] = None,
    text_pair: Annotated[str | None, typer.Option(help="Column of the second texts, for a task of pairs.")] = None,
    label: Annotated[str | None, typer.Option(help="Column of the labels.")] = None,
    separator: Annotated[
        str | None, typer.Option(help="Between the labels of a cell, where a row may have several, e.g. '|'.")
    ] = None,
    config: Annotated[
        str | None, typer.Option(help="Configuration of a Hugging Face data set that has several.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Take what is proposed without asking.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Write over a recipe of this name.")] = False,
) -> None:
    """Write a recipe for your own file: its columns, labels and lengths, with comments on what to look at."""
    from kd_core.data.profiling.words import Roles
    from kd_ops.authoring.init import Wishes
    from kd_ops.authoring.init import init as write_recipe

    said = Roles(text=text, text_pair=text_pair, label=label, separator=separator)
    write_recipe(Wishes(paths, recipe, said, config, yes, force), Console(), Settings())


@app.command()
def run(
    recipe: Recipe = None, variants: Variants = None, overrides: Overrides = None, revision: Revision = None
) -> None:
    """Run the pipeline through Airflow: from raw data to a registered, judged student."""
    from kd_ops.launching.launch import launch

    raise typer.Exit(launch("airflow", recipe, overrides or [], revision, Console(), Settings(), variants or []))


@app.command()
def repro(
    recipe: Recipe = None, variants: Variants = None, overrides: Overrides = None, revision: Revision = None
) -> None:
    """Run the same stages one after another on this machine, without Airflow; the cache is the same."""
    from kd_ops.launching.launch import launch

    raise typer.Exit(launch("repro", recipe, overrides or [], revision, Console(), Settings(), variants or []))


@app.command()
def plan(
    recipe: Recipe = None, variants: Variants = None, overrides: Overrides = None, revision: Revision = None
) -> None:
    """Say for each stage whether it would be computed, and why."""
    from kd_ops.display.show import print_plan
    from kd_ops.resolving.plan import plan as make_plan

    print_plan(Console(), make_plan(recipe, overrides or [], revision, Settings(), variants or []))


@app.command()
def show(
    name: Annotated[str | None, typer.Argument(metavar="[RUN]", help="Name of a run; default: the last one.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document.")] = False,
) -> None:
    """Show a run: its stages, metrics, registered model and report."""
    from kd_ops.display.show import describe, find_run, print_run

    settings = Settings()
    found = find_run(name, settings)
    if as_json:
        print(json.dumps(describe(found, settings), indent=1, ensure_ascii=False))
    else:
        print_run(Console(), found, settings)


@app.command()
def checkout(
    name: Annotated[str, typer.Argument(metavar="RUN", help="Name of a run.")],
    folder: Annotated[Path | None, typer.Argument(help="A new folder; default: the run's name.")] = None,
) -> None:
    """Lay a run out as a folder for DVC's own commands: dvc dag, dvc metrics show, dvc pull, dvc status."""
    from kd_ops.display.show import find_run
    from kd_ops.lineage.checkout import checkout as lay_out

    settings = Settings()
    run = find_run(name, settings)
    target = folder or Path(run.id)
    lay_out(run, target, settings)
    Console().print(f"run {run.id} stands in {target}; `dvc pull` there brings its data", highlight=False)


@app.command()
def predict(
    texts: Texts = None,
    model: Model = CHAMPION,
    text_pair: TextPair = None,
    source: Source = None,
    target: Target = None,
    columns: Columns = None,
    threshold: Threshold = None,
    max_disagreement: MaxDisagreement = None,
    max_latency_ms: MaxLatency = None,
    percentile: Percentile = None,
    min_throughput: MinThroughput = None,
    log: Log = None,
    skip_empty: SkipEmpty = False,
    probabilities: Probabilities = False,
    as_json: AsJson = False,
) -> None:
    """Answer texts, or a file of them, with a registered model."""
    from kd_ops.serving.predict import Question, answer

    question = Question(
        texts=texts or [],
        pairs=text_pair or [],
        source=source,
        target=target,
        threshold=threshold,
        probabilities=probabilities,
        columns=columns or [],
        max_disagreement=max_disagreement,
        log=log,
        max_latency_ms=max_latency_ms,
        percentile=percentile,
        min_throughput=min_throughput,
        skip_empty=skip_empty,
    )
    answer(model, question, as_json, Console(), Settings())


@app.command()
def drift(
    folder: Annotated[Path, typer.Argument(help="Folder of the prediction log.")],
    model: Annotated[
        str, typer.Option(help="The version that logged: models:/NAME@ALIAS, /VERSION or a folder.")
    ] = CHAMPION,
    days: Annotated[float, typer.Option(min=0, help="Compare the answers of the last days.")] = 7.0,
    confidence: Annotated[float, typer.Option(min=0.5, max=1, help="Of no false alarm.")] = 0.99,
    min_effect: Annotated[
        float, typer.Option(min=0, max=1, help="Smaller differences are no drift, however certain they are.")
    ] = 0.1,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document.")] = False,
) -> None:
    """Say whether texts in service leave where, and as surely as, the calibration texts do; exit status 3 if not."""
    from kd_ops.serving.drift import drift as compare
    from kd_ops.serving.drift import print_drift

    found = compare(model, folder, days, confidence, min_effect, Settings())
    raise typer.Exit(print_drift(found, as_json, Console()))


@app.command()
def calibrate(
    model: Model = CHAMPION,
) -> None:
    """Time a model on this machine: `kd predict` then asks exits only where they are faster, and knows what is fast."""
    from kd_ops.serving.predict import costs_folder
    from kd_ops.serving.served import serve

    settings = Settings()
    written = serve(model, settings).calibrate(costs_folder(settings)).strip()
    Console().print(f"timings written to {written}", highlight=False, soft_wrap=True)


@app.command()
def rollback(
    recipe: Recipe = None,
    to: Annotated[str | None, typer.Option(help="Version to go back to; default: the champion before.")] = None,
) -> None:
    """Give the champion alias back to an earlier version; noted in the ledger."""
    from kd_ops.promotion.promote import rollback as give_back
    from kd_ops.resolving.merge import merged_params, recipe_path

    settings = Settings()
    name = merged_params(settings.project, recipe_path(recipe, settings.project), [], None).registry.name
    before, after = give_back(name, settings, to)
    Console().print(f"{name}: champion is version {after} again (was {before})", highlight=False)


@app.command()
def gc(
    keep: Annotated[int, typer.Option(min=1, help="Newest runs whose data stays.")] = 5,
    delete: Annotated[bool, typer.Option("--delete", help="Really delete; otherwise only say what would go.")] = False,
) -> None:
    """Delete data that no registered version, no recent run and no run in flight needs (a dry run by default)."""
    from kd_ops.retention.gc import collect

    collect(keep, delete, Console(), Settings())


def main() -> None:
    """Entry point: an expected failure is one line on stderr and its exit status; a bug keeps its traceback."""
    stop_on_signals()
    sys.exit(ended(app, _tell))


def _tell(said: str) -> None:
    from rich.markup import escape

    Console(stderr=True).print(f"[bold red]error:[/] {escape(said)}", highlight=False, soft_wrap=True)


if __name__ == "__main__":
    main()
