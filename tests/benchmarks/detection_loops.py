"""Write the page ``notebooks/detection-efficiency.md``: which images a detector and a segmenter are to learn from next.

Run ``python tests/benchmarks/detection_loops.py``; it reads what ``detection_curves.py`` measured.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from box_errors import THRESHOLDS
from detection_curves import CURVES, LEARNED, PREDICTED, SCORES
from detection_settings import FOREGROUND, SETTINGS, TEST, Setting
from detection_tried import tried

from alhelpers.files import write_text
from alhelpers.loop import budget_shares
from alhelpers.loop.comparison import markdown_table
from alhelpers.loop.curves import mean_interval

if TYPE_CHECKING:
    import pandas

_PAGE = Path(__file__).parents[2] / "notebooks" / "detection-efficiency.md"
_MERGES = {"none": "one prediction", "grid": "passes averaged on the grid", "iou": "boxes of passes merged"}
_NAIVE = "box variance"
# What was to be reached: a correlation, and shares of a baseline's budget.
_CORRELATION, _IMAGES, _IMAGES_OF_MASKS, _BOXES = 0.55, 0.39, 0.50, 0.50


def page(curves: Path = CURVES, scores: Path = SCORES) -> str:
    """Return the page."""
    import pandas

    table, correlations = pandas.read_parquet(curves), pandas.read_parquet(scores)
    commits = sorted({*table.get("commit", ()), *correlations.get("commit", ())})
    measured = f"Measured at commit {', '.join(commits)}.\n\n" if commits else ""
    sections = [
        _race_section(setting, table[table.setting == name])
        for name, setting in SETTINGS.items()
        if (table.setting == name).any()
    ]
    return _HEAD + measured + _score_section(correlations) + "".join(sections) + tried()


def best_score(table: pandas.DataFrame) -> tuple[str, str, str]:
    """Return the merge, score and combination with the highest mean over the seeds."""
    return table.groupby(["merge", "score", "over"]).spearman.mean().idxmax()


def _score_section(table: pandas.DataFrame) -> str:
    seeds, counted = table.seed.nunique(), table[np.isclose(table.threshold, THRESHOLDS[0])]
    rows = []
    for (score, merge), part in counted.groupby(["score", "merge"], sort=False):
        cells = [_interval(each.spearman.to_numpy()) for _, each in part.groupby("over", sort=False)]
        rows.append([score, _MERGES[merge], *cells])
    best = best_score(counted)
    reached = "is" if _correlation(counted, best).mean() >= _CORRELATION else "is not"
    stricter = table[np.isclose(table.threshold, THRESHOLDS[1])]
    naive = best_score(counted[counted.score == _NAIVE])
    confident = best_score(counted[counted.score == "1 - confidence"])
    mean = best_score(counted[counted.over == "mean"])
    return (
        "## Does the score find the images with errors?\n\n"
        f"A detector learns from {LEARNED} scenes of the default difficulty and predicts {PREDICTED} others. Errors of "
        f"an image: objects that no box of confidence {THRESHOLDS[0]:g} or more finds (its class right, IoU at least "
        "0.5), and such boxes that find none. Spearman's correlation of the errors with the score of the image, which "
        f"is the maximum, mean or sum over its boxes: mean over {seeds} seeds, with its interval of 95 %.\n\n"
        f"{markdown_table(['score of a box', 'boxes of', *_OVERS], rows)}\n"
        f"The best is the {best[2]} of {best[1]} ({_MERGES[best[0]]}): {_interval(_correlation(counted, best))}, which "
        f"{reached} the {_CORRELATION:g} that was to be reached. If boxes count only from confidence "
        f"{THRESHOLDS[1]:g} on, the same score has {_interval(_correlation(stricter, best))}. The best form of "
        f"1 - confidence has {_interval(_correlation(counted, confident))}, that of the naive variance of the sides "
        f"{_interval(_correlation(counted, naive))}. A sum grows with the number of boxes, and so do errors: part of "
        f"its lead is counting. Of the means, which do not count, the best is that of {mean[1]} ({_MERGES[mean[0]]}): "
        f"{_interval(_correlation(counted, mean))}.\n\n"
    )


def _correlation(table: pandas.DataFrame, key: tuple[str, str, str]) -> np.ndarray:
    """Return the correlations of one score, one a seed."""
    merge, score, over = key
    return table[
        (table["merge"] == merge) & (table.score == score) & (table.over == over)
    ].spearman.to_numpy()


_OVERS = ("max", "mean", "sum")


def _race_section(setting: Setting, table: pandas.DataFrame) -> str:
    rows: list[dict[str, Any]] = table.to_dict("records")
    counted = ["labels", "boxes"] if setting.task == "detection" else ["labels"]
    names = [name for name in setting.strategies if (table.strategy == name).any()]
    baselines = [name for name in ("random", FOREGROUND) if name in names]
    shares = {
        (baseline, cost): budget_shares(_paired(rows, baseline), "value", baseline=baseline, cost=cost)
        for baseline in baselines
        for cost in counted
    }
    header = ["strategy", _measure(setting)]
    header += [f"{_UNITS[cost]}, of {baseline}'s" for baseline in baselines for cost in counted]
    ends = {name: part for name, part in table.groupby("strategy")}
    lines = []
    for name in names:
        last = ends[name][ends[name].labels == ends[name].labels.max()]
        cells = [f"{_interval(last.value.to_numpy())} at {last.labels.iloc[0]}"]
        cells += [_share(found, name) for found in shares.values()]
        lines.append([name, *cells])
    parameters = json.dumps(dict(setting.scenes), ensure_ascii=False)
    return (
        f"## {setting.title}\n\n{setting.what} {table.seed.nunique()} seeds; means over them, and their intervals of "
        f"95 %.\n\n{markdown_table(header, lines)}\n{_verdict(setting, shares, names)}\n\n"
        f"A pool of {setting.pool:,} scenes, {TEST} to test on; images labelled: {_counts(setting.counts)} of the "
        f"random ones, {_counts(setting.sooner)} of the others. Parameters of `data.scenes`: `{parameters}`; those of "
        f"the test scenes differ by `{json.dumps(dict(setting.test))}`.\n\n"
    )


_UNITS = {"labels": "images", "boxes": "boxes"}


def _measure(setting: Setting) -> str:
    return "AP50, images" if setting.task == "detection" else "mean IoU, images"


def _paired(rows: list[dict[str, Any]], baseline: str) -> list[dict[str, Any]]:
    """Return the rows of the seeds that the baseline has, too."""
    seeds = {row["seed"] for row in rows if row["strategy"] == baseline}
    return [row for row in rows if row["seed"] in seeds]


def _share(found: pandas.DataFrame, name: str) -> str:
    row = found.loc[name]
    if not np.isfinite(row["mean"]):
        return f"reached under {row.reached:.0f} of {row.seeds:.0f} seeds"
    return f"{row['mean']:.0%}" + ("" if np.isnan(row.low) else f" ({row.low:.0%} to {row.high:.0%})")


def _verdict(setting: Setting, shares: dict[tuple[str, str], Any], names: list[str]) -> str:
    """Say how far the strategy that needs least gets, and whether that is what was to be reached."""
    baselines = {baseline for baseline, _ in shares}
    contenders = [name for name in names if name not in baselines]
    targets = {"labels": _IMAGES if setting.task == "detection" else _IMAGES_OF_MASKS, "boxes": _BOXES}
    best = min(contenders, key=lambda name: sum(found.loc[name, "mean"] for found in shares.values()))
    parts = []
    for (baseline, cost), found in shares.items():
        reached = "reached" if found.loc[best, "mean"] <= targets[cost] else "missed"
        what = f"{_UNITS[cost]} of {baseline}: {_share(found, best)}"
        parts.append(f"{what}, of which at most {targets[cost]:.0%} were to be ({reached})")
    return f"The least is needed by `{best}`. {'; '.join(parts).capitalize()}."


def _counts(counts: tuple[int, ...]) -> str:
    return ", ".join(map(str, counts))


def _interval(values: np.ndarray) -> str:
    mean, low, high = mean_interval(values[:, None].astype(float), 0.95)
    return f"{mean[0]:.2f}" + ("" if np.isnan(low[0]) else f" ({low[0]:.2f} to {high[0]:.2f})")


_HEAD = (
    "# Which images should a detector learn from next?\n\n"
    "This page is generated: `python tests/benchmarks/detection_curves.py` measures "
    "`data/detection-scores.parquet` and `data/detection-curves.parquet` (over an hour of one core; what "
    "is done is kept), and `python tests/benchmarks/detection_loops.py` writes it anew.\n\n"
    "The protocol is that of `alhelpers.loop.race`: strategies that choose begin with the same random images; all are "
    "trained anew in each round under the same recipe, and are measured on test scenes that share no digit "
    "with the pool and choose nothing. Beside random stands a random that draws only images with objects, from "
    "the first image on, and is told the truth about which these are. A share is that of the baseline's whole "
    "budget with which a strategy gets as far as the baseline does with all of it, read off the rising curve "
    "nearest to what was measured (isotonic regression), each seed with its own baseline and target. Boxes are "
    "those in the images labelled: they are what is paid for.\n\n"
)


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return its exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--curves", type=Path, default=CURVES)
    parser.add_argument("--scores", type=Path, default=SCORES)
    parser.add_argument("--page", type=Path, default=_PAGE)
    options = parser.parse_args(arguments)
    write_text(options.page, page(options.curves, options.scores))
    print(f"written: {options.page}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
