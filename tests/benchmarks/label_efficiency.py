"""Measure ``data/label-efficiency.parquet`` with notebook 11, and write ``notebooks/label-efficiency.md`` of it.

Run ``python tests/benchmarks/label_efficiency.py -o output/label-efficiency`` (hours), again if it was stopped.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from commits import commit_of

from alhelpers.files import replacing, write_text
from alhelpers.loop.comparison import markdown_table
from alhelpers.loop.curves import learning_curves
from alhelpers.runs.sweeps import sweep

if TYPE_CHECKING:
    import pandas

_ROOT = Path(__file__).parents[2]
_NOTEBOOK = _ROOT / "notebooks" / "11_compare_strategies.ipynb"
_CURVES = _ROOT / "data" / "label-efficiency.parquet"
_PAGE = _ROOT / "notebooks" / "label-efficiency.md"
_CONTENDER = "mc_dropout > typicality"
_TARGETS = (0.90, 0.95)  # accuracies to reach


@dataclass(frozen=True)
class Setting:
    """One comparison of the page: a run of notebook 11 for each first seed, with some seeds from it on.

    ``name`` is that of its folder, ``what`` a note to the reader.
    """

    name: str
    title: str
    what: str
    parameters: Mapping[str, Any]
    first_seeds: tuple[int, ...] = (0, 2, 4)


_MNIST: Mapping[str, Any] = {
    "dataset": "mnist-whole",
    "cold_start": "typicality",
    "learning_rate": 6e-3,
    "validation_images": 5000,
    "pool_images": 10_000,
    "candidates": 4000,
    "contenders": [_CONTENDER],
    "seeds": 2,
}

SETTINGS = (
    Setting(
        "mnist_pretrained",
        "MNIST, training without labels first, and augmentation",
        "The network first learns from the 10,000 images of the pool without a label (SimCLR, 600 steps, anew for each "
        "run of two seeds), then from the labels, whose images are bent while it trains. Chance has all of that, too; "
        "the published numbers have none of it.",
        _MNIST
        | {
            "network": "normed",
            "pretrain_steps": 600,
            "augmentation": "elastic",
            "steps": 150,
            "learning_rate": 2e-3,
            "batch": 10,
            "budget": 120,
        },
    ),
    Setting(
        "mnist_augmented",
        "MNIST, augmentation, nothing without labels",
        "The network is trained anew from the labels alone, whose images are bent while it trains.",
        _MNIST | {"augmentation": "elastic", "steps": 300, "batch": 20, "budget": 240},
    ),
    Setting(
        "mnist_plain",
        "MNIST, no augmentation, nothing without labels",
        "What is nearest to the published: their network, but for a stride, trained anew from the labels alone.",
        _MNIST | {"network": "strided", "steps": 300, "batch": 20, "budget": 640},
    ),
    Setting(
        "mnist_plain_16",
        "MNIST, the same in batches of 16",
        "A training sees half as many images, and nothing else is different. The contender needs a few labels more for "
        "it, chance many more. How much a strategy gains is a property of the recipe, too: the shorter the training, "
        "the more it matters which labels it gets. Choose the recipe first, and for its error; then read the gain.",
        _MNIST | {"network": "strided", "steps": 300, "batch_size": 16, "batch": 20, "budget": 1000},
    ),
    Setting(
        "digits",
        "Digits (8x8), no augmentation",
        "The kit's default data: 1,297 images in the pool less 300 for validation, 500 test images. The number of "
        "training steps was chosen on other divisions of the same 1,797 images, so that here, unlike MNIST, images of "
        "the test set have had a say in it; longer training helps chance more than the contender.",
        {
            "dataset": "digits",
            "cold_start": "typicality",
            "learning_rate": 6e-3,
            "contenders": [_CONTENDER],
            "seeds": 5,
            "steps": 150,
            "batch": 10,
            "budget": 320,
        },
        (0, 5),
    ),
)

#: Labels to 10 % and to 5 % error on MNIST, 20 labels at the start, as published; medians, where quartiles were given.
_PUBLISHED = (
    ("Gal 2017, random", 255, 835),
    ("Gal 2017, BALD", 145, 335),
    ("Gal 2017, variation ratio", 120, 295),
    ("Gal 2017, maximal entropy", 165, 355),
    ("BatchBALD 2019, 5 at a time", 90, 190),
    ("BatchBALD 2019, BALD, 1 at a time", 97, 207),
)


def measure(output: Path, curves: Path, names: Sequence[str], workers: int | None = None) -> None:
    """Run the named settings, as far as they are not done, and keep their curves; RuntimeError if a run failed.

    What another commit measured is not mixed with it: a folder of that is refused, by a RuntimeError, too. In the file
    of curves a setting's rows replace those that it had.
    """
    commit = commit_of(output)
    for setting in SETTINGS:
        if setting.name in names:
            grid = [dict(setting.parameters) | {"seed": seed} for seed in setting.first_seeds]
            runs = sweep(_NOTEBOOK, grid, output / setting.name, workers)
            failed = runs[runs["run.state"] != "done"]
            if len(failed):
                raise RuntimeError(
                    f"{setting.name}: {failed['run.name'].iloc[0]}: {failed['run.error'].iloc[0]}"
                )
            _keep(curves, _points(runs).assign(setting=setting.name, commit=commit))


def _points(runs: pandas.DataFrame) -> pandas.DataFrame:
    columns = {"strategy": str, "race_seed": int, "labels": int, "accuracy": float}
    return runs[[*columns]].explode([*columns]).astype(columns).rename(columns={"race_seed": "seed"})


def _keep(curves: Path, points: pandas.DataFrame) -> None:
    """Put the rows of a setting into the file, which is written whole or not at all."""
    import pandas

    if curves.is_file():
        others = pandas.read_parquet(curves)
        points = pandas.concat([others[~others.setting.isin(points.setting)], points])
    with replacing(curves) as place:
        points.to_parquet(place, index=False, compression="zstd")


def page(curves: Path = _CURVES) -> str:
    """Return the page of all settings that were measured."""
    import pandas

    table = pandas.read_parquet(curves)
    sections = [
        _section(setting, table[table.setting == setting.name])
        for setting in SETTINGS
        if (table.setting == setting.name).any()
    ]
    return _HEAD + _measured_at(table) + "\n".join(sections) + _published()


def _measured_at(table: pandas.DataFrame) -> str:
    commits = sorted(set(table.commit))
    return f"Measured at commit{'s' if len(commits) > 1 else ''} {', '.join(commits)}.\n\n"


def _section(setting: Setting, table: pandas.DataFrame) -> str:
    curves = learning_curves(table, seed="seed", value="accuracy")
    needed = {target: curves.labels_to(target) for target in _TARGETS}
    seeds = int(next(iter(needed.values()))["seeds"].iloc[0])
    header = ["strategy", *(f"labels to {1 - target:.0%} error" for target in needed)]
    header += [f"error at {curves.labels[-1]:g} labels", "mean accuracy of the curve"]
    mean, area = curves.mean(), curves.area()["mean"]
    rows = []
    for name in curves.values:
        end = mean[mean.strategy == name]["mean"].iloc[-1]
        counts = [_labels(found.loc[name], curves.labels[-1]) for found in needed.values()]
        rows.append([name, *counts, f"{1 - end:.1%}", f"{area[name]:.3f}"])
    ratios = [_ratio(found, target) for target, found in needed.items()]
    settings = json.dumps(dict(setting.parameters), ensure_ascii=False)
    return (
        f"## {setting.title}\n\n{setting.what} {seeds} seeds; medians over the seeds, from the least to the most in "
        f"brackets.\n\n{markdown_table(header, rows)}\n{' '.join(ratios)}\n\n"
        f"Parameters of notebook 11, with the first seeds {', '.join(map(str, setting.first_seeds))}: `{settings}`\n"
    )


def _labels(found: pandas.Series, last: float) -> str:
    median, least, most = (
        f"{value:.0f}" if np.isfinite(value) else f"more than {last:g}"
        for value in (found["median"], found["least"], found["most"])
    )
    return f"{median} ({least} to {most})"


def _ratio(found: pandas.DataFrame, target: float) -> str:
    own, chance = found.loc[_CONTENDER, "median"], found.loc["random", "median"]
    if not np.isfinite(own):
        return f"{1 - target:.0%} error is not reached."
    if not np.isfinite(chance):
        return f"At {1 - target:.0%} error chance needs more than the budget."
    return f"At {1 - target:.0%} error chance needs {chance / own:.1f} times as many labels."


_HEAD = (
    "# How many labels does it take?\n\n"
    "This page is generated: `python tests/benchmarks/label_efficiency.py -o output/label-efficiency` runs "
    "[notebook 11](11_compare_strategies.ipynb) with the settings below (hours; MNIST needs its four files: "
    "see [the data sheet](../data/README.md)), keeps the curves in `data/label-efficiency.parquet`, and writes it anew "
    "from them.\n\n"
    "The protocol is that of notebook 11: chance (`random`) from the first label on, under the same recipe, the "
    "same numbers of labels and the whole test set; no test image chose anything, unless a section says so. "
    f"`{_CONTENDER}` starts with the most typical image of each of 20 groups; then MC-dropout margin keeps ten "
    "times the budget, and of these the most typical of each group are labelled. Labels to a target are read off "
    "each seed's curve after isotonic regression. "
)


def _published() -> str:
    rows = [[name, str(ten), str(five)] for name, ten, five in _PUBLISHED]
    table = markdown_table(["published, MNIST", "labels to 10 % error", "labels to 5 % error"], rows)
    return (
        f"\n## Beside what is published\n\n{table}\n"
        "Gal, Islam and Ghahramani, ICML 2017; Kirsch, van Amersfoort and Gal, NeurIPS 2019. Other networks, other "
        "recipes: compare the ratio to chance under one recipe before you compare the numbers.\n"
    )


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return its exit code."""
    names = [setting.name for setting in SETTINGS]
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--curves", type=Path, default=_CURVES)
    parser.add_argument("--page", type=Path, default=_PAGE)
    parser.add_argument(
        "-s", "--setting", action="append", choices=names, help="measure only this one (default: all)"
    )
    parser.add_argument("-w", "--workers", type=int)
    options = parser.parse_args(arguments)
    measure(options.output, options.curves, options.setting or names, options.workers)
    write_text(options.page, page(options.curves))
    print(f"written: {options.page}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
