"""The report's pictures: each turns tables of the evaluation or the measurement into one inline `<svg>`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from kd_core.evaluation.names import CHOSEN, display_name, main_metric, metric_name, titled
from kd_core.evaluation.report.style import (
    BLUE,
    CYCLE,
    GREEN,
    GREY,
    INK,
    ORANGE,
    PURPLE,
    RED,
    SKY,
    drawing,
    percent,
    to_svg,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WORST_CLASSES = 10
_LOOKS = {"trunk": (BLUE, "s"), "adaptive": (GREEN, "D"), "alone": (PURPLE, "v")}
_NOT_TIMED = {"frozen": "--", "tfidf": ":"}
_TEACHER_COLOURS = (RED, ORANGE, SKY)


def tradeoff(
    metrics: Mapping[str, Any], timed: Sequence[Mapping[str, Any]], speedups: Mapping[str, float], batch: int
) -> str:
    """Accuracy (or the main metric) against speed-up over the slowest teacher at `batch`; every mark was timed.

    `timed`: speed-ups of the student at further exit thresholds. The student alone has the full student's structure
    and so its speed.
    """
    with drawing("tradeoff", 1, 1, (7.4, 4.6)) as (figure, axes):
        axis, metric = axes[0][0], main_metric(metrics)
        _timed_exits(axis, metrics, timed)
        teachers = sorted(name for name in metrics["models"] if name.startswith("teacher:"))
        for index, name in enumerate(teachers):
            _point(axis, metrics, name, speedups.get(name), (_TEACHER_COLOURS[index % 3], "o"))
        for name in ("trunk", "adaptive"):
            _point(axis, metrics, name, speedups.get(name), _LOOKS[name])
        _point(axis, metrics, "alone", speedups.get("trunk"), _LOOKS["alone"], note=" (speed: all layers')")
        for name, line in _NOT_TIMED.items():
            value = metrics["models"][name][metric]
            axis.axhline(value, color=GREY, linestyle=line, linewidth=1.4, label=f"{display_name(name)} (not timed)")
        quality = metric_name(metrics)
        axis.set(xlabel=f"speed-up over the slowest teacher, batch {batch} (×)", ylabel=f"{quality} on the test split")
        axis.set_xlim(left=0)
        percent(axis)
        figure.legend(*axis.get_legend_handles_labels(), loc="outside lower center", ncols=2, fontsize=8)
        return to_svg(figure, f"{titled(quality)} against speed-up of teachers, student and baselines")


def _timed_exits(axis: Axes, metrics: Mapping[str, Any], timed: Sequence[Mapping[str, Any]]) -> None:
    """A mark for each threshold, with its number if the mark is far enough from those already labelled."""
    named: list[tuple[float, float]] = []
    room = 0.04 * max((row["speedup"] for row in timed), default=0.0)
    for index, row in enumerate(timed):
        x, y = row["speedup"], metrics["models"][row["model"]][main_metric(metrics)]
        label = "Student, early exits at other thresholds" if index == 0 else None
        axis.plot(x, y, color=GREEN, marker="D", markersize=3.5, alpha=0.7, linestyle="none", label=label, zorder=1)
        if not any(abs(x - other[0]) < room and abs(y - other[1]) < 0.01 for other in named):
            named.append((x, y))
            axis.annotate(row["model"].partition("@")[2], (x, y), (4, -9), textcoords="offset points", fontsize=7)


def _point(
    axis: Axes, metrics: Mapping[str, Any], name: str, x: float | None, look: tuple[str, str], note: str = ""
) -> None:
    if x is None:
        return
    metric = main_metric(metrics)
    value, (low, high) = (metrics["models"][name][key] for key in (metric, f"{metric}_interval"))
    error = [[max(value - low, 0.0)], [max(high - value, 0.0)]]
    colour, marker = look
    label = f"{display_name(name)}{note}"
    axis.errorbar([x], [value], yerr=error, color=colour, marker=marker, markersize=7, capsize=3, elinewidth=1.2,
                  linestyle="none", label=label)  # fmt: skip


def exits(used: Mapping[str, Mapping[str, float]]) -> str:
    """Share of the texts answered after each layer, for each threshold of all exits; last, as the model serves."""
    from matplotlib import colormaps

    thresholds = [*sorted(set(used) - {CHOSEN}, key=float), CHOSEN]
    layers = list(next(iter(used.values())))
    colours = [colormaps["cividis"](0.15 + 0.75 * index / max(len(layers) - 1, 1)) for index in range(len(layers))]
    with drawing("exits", 1, 1, (7.4, 3.0)) as (figure, axes):
        axis = axes[0][0]
        base = [0.0] * len(thresholds)
        for layer, colour in zip(layers, colours, strict=True):
            heights = [used[name][layer] for name in thresholds]
            label = f"layer {layer}" + (" (full model)" if layer == layers[-1] else "")
            axis.bar(range(len(thresholds)), heights, bottom=base, color=colour, width=0.75, label=label)
            base = [below + height for below, height in zip(base, heights, strict=True)]
        axis.set_xticks(range(len(thresholds)), thresholds)
        axis.set(xlabel="exit threshold (normalised entropy)", ylabel="texts answered")
        axis.grid(visible=False, axis="x")
        percent(axis)
        figure.legend(*axis.get_legend_handles_labels(), loc="outside right center", title="after", fontsize=8)
        return to_svg(figure, "Share of the texts answered after each layer, by threshold")


def reliability(bins: Mapping[str, Mapping[str, Sequence[float]]], metrics: Mapping[str, Any]) -> str:
    """Accuracy against confidence, in bins; the size of a mark grows with the rows in its bin."""
    with drawing("reliability", 1, 1, (7.4, 3.9)) as (figure, axes):
        axis = axes[0][0]
        axis.plot([0, 1], [0, 1], color=GREY, linestyle=":", label="perfectly calibrated")
        for index, (model, values) in enumerate(sorted(bins.items())):
            colour, marker = _LOOKS.get(model, (RED, "o"))
            filled = [i for i, rows in enumerate(values["rows"]) if rows]
            x, y = ([values[key][i] for i in filled] for key in ("confidence", "accuracy"))
            sizes = [12 + 160 * values["rows"][i] / sum(values["rows"]) for i in filled]
            label = f"{display_name(model)} (ECE {metrics['models'][model]['ece']:.3f})"
            axis.plot(x, y, color=colour, linewidth=1.2, alpha=0.8, zorder=2 + index)
            axis.scatter(x, y, s=sizes, color=colour, marker=marker, zorder=2 + index)
            axis.plot([], [], color=colour, marker=marker, label=label)
        axis.set(xlabel="confidence (largest probability)", ylabel="accuracy", xlim=(0, 1.02), ylim=(0, 1.05))
        percent(axis, "x")
        percent(axis)
        figure.legend(*axis.get_legend_handles_labels(), loc="outside right center", fontsize=8)
        return to_svg(figure, "Reliability: accuracy against confidence")


def confusion(table: Mapping[str, Any], counted: str) -> str:
    """Confusion of the worst classes; a row is a true class, in shares of what is `counted`.

    Without a matrix, the picture shows recall and precision of the worst labels.
    """
    if "matrix" not in table:
        return _worst_labels(table["classes"][:WORST_CLASSES], counted)
    import numpy as np
    from matplotlib.colors import LinearSegmentedColormap

    labels, matrix = list(table["labels"]), np.array(table["matrix"], dtype=float)
    worst = [labels.index(entry["label"]) for entry in table["classes"][:WORST_CLASSES]]
    inside = matrix[np.ix_(worst, worst)]
    other = matrix[worst].sum(1, keepdims=True) - inside.sum(1, keepdims=True)
    shares = np.concatenate([inside, other], axis=1) / matrix[worst].sum(1, keepdims=True)
    names = [labels[index] for index in worst]
    with drawing("confusion", 1, 1, (7.0, 1.6 + 0.34 * len(worst))) as (figure, axes):
        axis = axes[0][0]
        colours = LinearSegmentedColormap.from_list("shares", [f"{BLUE}20", BLUE])  # the page shines through small ones
        axis.imshow(np.where(shares > 0, shares, np.nan), cmap=colours, vmin=0, vmax=1, aspect="auto")
        for (row, column), share in np.ndenumerate(shares):
            if share:
                ink = "#ffffff" if share > 0.5 else INK
                axis.text(column, row, f"{share:.0%}", ha="center", va="center", fontsize=7, color=ink)
        counts = [int(matrix[index].sum()) for index in worst]
        axis.set_yticks(range(len(worst)), [f"{name} ({n})" for name, n in zip(names, counts, strict=True)])
        axis.set_xticks(range(len(worst) + 1), [*names, "any other"], rotation=40, ha="right")
        axis.set(xlabel="answered", ylabel=f"true class ({counted})")
        axis.grid(visible=False)
        axis.spines[:].set_visible(False)
        return to_svg(figure, "Confusion of the classes with the lowest recall")


def _worst_labels(classes: Sequence[Mapping[str, Any]], counted: str) -> str:
    with drawing("confusion", 1, 1, (7.4, 1.4 + 0.34 * len(classes))) as (figure, axes):
        axis = axes[0][0]
        for offset, key, colour in ((-0.2, "recall", BLUE), (0.2, "precision", ORANGE)):
            places = [place + offset for place in range(len(classes))]
            axis.barh(places, [entry[key] for entry in classes], height=0.36, color=colour, label=key)
        axis.set_yticks(range(len(classes)), [f"{entry['label']} ({entry['rows']})" for entry in classes])
        axis.set(ylabel=f"label ({counted} that have it)", xlim=(0, 1))
        axis.invert_yaxis()
        percent(axis, "x")
        figure.legend(*axis.get_legend_handles_labels(), loc="outside right center", fontsize=8)
        return to_svg(figure, "Recall and precision of the labels with the lowest F1")


def training(histories: Mapping[str, Mapping[str, Sequence[Sequence[float]]]]) -> str:
    """Losses (left) and validation scores (right) of every stage that trained, over optimiser steps."""
    shown = {name: curves for name, curves in histories.items() if curves}
    with drawing("training", max(len(shown), 1), 2, (7.4, 2.0 * max(len(shown), 1))) as (figure, axes):
        for (loss, score), (stage, curves) in zip(axes, shown.items(), strict=False):
            _curves(loss, {name: points for name, points in curves.items() if not name.startswith("valid_")})
            valid = {name.removeprefix("valid_"): p for name, p in curves.items() if name.startswith("valid_")}
            _curves(score, valid)
            loss.set(title=stage, ylabel="loss", xlabel="step")
            score.set(ylabel="validation", xlabel="step")
            score.set_visible(bool(valid))
        return to_svg(figure, "Losses and validation scores during training")


def _curves(axis: Axes, curves: Mapping[str, Sequence[Sequence[float]]]) -> None:
    for (name, points), colour in zip(sorted(curves.items()), CYCLE * len(curves), strict=False):
        x, y = zip(*points, strict=True)
        dot = "o" if len(points) < 3 else None
        axis.plot(x, y, color=colour, label=name.removeprefix("loss_"), linewidth=1.3, marker=dot, markersize=4)
    if curves:
        axis.legend(fontsize=7)
