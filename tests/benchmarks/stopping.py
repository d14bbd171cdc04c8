"""Write the page ``notebooks/label-relabel-stop.md``: forecasts and stopping on measured curves, and noisy annotators.

Run ``python tests/benchmarks/stopping.py``; it reads what ``stopping_curves.py`` and ``relabelling.py`` measured.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from relabelling import OURS, PEER, RUNS
from stopping_curves import CURVES

from alhelpers.files import write_text
from alhelpers.loop import Forecast, forecast, forecasts, lasting_crossing
from alhelpers.loop.comparison import markdown_table

if TYPE_CHECKING:
    import pandas

_PAGE = Path(__file__).parents[2] / "notebooks" / "label-relabel-stop.md"
TARGETS = (0.60, 0.65, 0.70, 0.75, 0.80, 0.85, 0.90, 0.95)

#: Numbers of labels after which forecasts are made, and tested on all later rounds.
CUTS = (60, 120, 240, 480)

# A crossing counts if so many rounds follow it: with fewer, nothing says that it lasts.
_LASTING_ROUNDS = 5

# Tried for the forecast's constant: how much of an observation a round counts as.
_SHARES = (0.1, 0.25, 0.5, 1.0)

_SHIPPED = "all, as shipped"

# A stop is looked for from so far below the target on.
_NEAR = 0.08


# Forecasts of a curve after some rounds, which all targets share.
_FORECASTS: dict[tuple, Forecast] = {}


class Curve(NamedTuple):
    """One seed's learning curve."""

    name: tuple[str, str, str, int]
    labels: np.ndarray
    values: np.ndarray

    @property
    def dataset(self) -> str:
        return self.name[0]

    def isotonic(self, target: float) -> float:
        """Return where the rising curve nearest to the values reaches a target."""
        from sklearn.isotonic import isotonic_regression

        above = np.flatnonzero(isotonic_regression(self.values) >= target)
        return float(self.labels[above[0]]) if len(above) else np.inf


class Forecasts(NamedTuple):
    """Whether intervals held what came, a row each."""

    dataset: list[str]
    values: list[float]  # the share of later values inside their intervals
    needed: list[tuple[str, float, bool, float]]  # data set, target, inside, high / low


class Stop(NamedTuple):
    """Where a rule stopped, for one curve and target."""

    dataset: str
    needed: float
    isotonic: float
    stopped: float
    later: float  # the mean of the five values from the stop on, less the target


Rule = Callable[[Curve, float], float]


def curves(path: Path = CURVES) -> list[Curve]:
    """Read the measured curves."""
    import pandas

    table = pandas.read_parquet(path)
    keys = ["dataset", "learner", "strategy", "seed"]
    return [
        Curve(name, part.labels.to_numpy(float), part.accuracy.to_numpy(float))
        for name, part in table.groupby(keys, observed=True, sort=False)
    ]


def check_forecasts(chosen: Sequence[Curve], level: float = 0.8) -> Forecasts:
    """Forecast each curve at each cut, and compare with what came."""
    found = Forecasts([], [], [])
    for curve, cut in itertools.product(chosen, CUTS):
        rounds = int((curve.labels <= cut).sum())
        if rounds >= len(curve.labels) - 1:
            continue
        seen, later = curve.labels[:rounds], curve.labels[rounds:]
        made = forecast(seen, curve.values[:rounds], level=level)
        intervals = [made.value_at(count, measured=True) for count in later]
        inside = [
            low <= v <= high for (_, low, high), v in zip(intervals, curve.values[rounds:], strict=True)
        ]
        found.dataset.append(curve.dataset)
        found.values.append(float(np.mean(inside)))
        for target in TARGETS:
            truth = curve.isotonic(target)
            if not seen[-1] < truth < np.inf:
                continue
            _, low, high = made.labels_to(target)
            # what is measured lies on the grid of rounds: a crossing between two of them is seen at the later one
            before = curve.labels[np.searchsorted(curve.labels, truth) - 1]
            found.needed.append((curve.dataset, target, bool(low <= truth and before <= high), high / low))
    return found


def advised(curve: Curve, target: float) -> float:
    """Return the number of labels at which the forecast says that the target is reached."""
    near = np.flatnonzero(curve.values >= target - _NEAR)
    for rounds in range(max(4, int(near[0]) + 1), len(curve.labels) + 1):
        key = *curve.name, rounds
        if key not in _FORECASTS:
            _FORECASTS[key] = forecast(curve.labels[:rounds], curve.values[:rounds])
        if _FORECASTS[key].labels_to(target)[0] == curve.labels[rounds - 1]:  # the median is there
            return float(curve.labels[rounds - 1])
    return np.inf


def first_value(curve: Curve, target: float) -> float:
    """Return the first number of labels with a value at the target: what a lucky round does."""
    return float(curve.labels[np.flatnonzero(curve.values >= target)[0]])


def three_in_a_row(curve: Curve, target: float) -> float:
    """Return the number of labels at which the third value in a row is at the target."""
    above = curve.values >= target
    runs = np.flatnonzero(above[2:] & above[1:-1] & above[:-2])
    return float(curve.labels[runs[0] + 2]) if len(runs) else np.inf


def check_stops(chosen: Sequence[Curve], rule: Rule = advised) -> list[Stop]:
    """Stop each curve at each target that it crosses for good, after the first rounds."""
    found = []
    for curve, target in itertools.product(chosen, TARGETS):
        needed = lasting_crossing(curve.labels, curve.values, target)
        place = np.searchsorted(curve.labels, needed)
        if not 4 <= place < len(curve.labels) - _LASTING_ROUNDS:
            continue
        stopped = rule(curve, target)
        at = np.searchsorted(curve.labels, stopped)
        later = curve.values[at : at + _LASTING_ROUNDS]
        found.append(
            Stop(
                curve.dataset,
                needed,
                curve.isotonic(target),
                stopped,
                float(later.mean() - target) if len(later) else np.nan,
            )
        )
    return found


def overshoot(stops: Sequence[Stop], over: str = "needed") -> float:
    """Return the labels that were bought too many, as a share of those needed: stops that come early count as 0."""
    needed = np.array([getattr(stop, over) for stop in stops])
    stopped = np.array([min(stop.stopped, 900) for stop in stops])
    return float((np.maximum(stopped - needed, 0)).sum() / needed.sum())


# ------------------------------------------------------------------------------
# criteria of the literature, as they were measured in each round
# ------------------------------------------------------------------------------


def criteria_stops(path: Path = CURVES) -> pandas.DataFrame:
    """Return where each criterion stopped each curve: labels, and accuracy there less that of the last rounds."""
    import pandas

    table = pandas.read_parquet(path)
    thresholds = {  # of alhelpers.mining.stop, with its window of three rounds
        "stabilising predictions": lambda part: part["stabilising predictions"].rolling(3).mean() >= 0.99,
        "classification change": lambda part: part["classification change"] <= 0,
        "delta F": lambda part: part["delta F"].rolling(3).max() < 0.05,
        "overall uncertainty": lambda part: part["overall uncertainty"] < 0.05,
        "max uncertainty": lambda part: part["max uncertainty"] < 0.5,
    }
    rows = []
    for _, part in table.groupby(["dataset", "learner", "strategy", "seed"], observed=True, sort=False):
        for name, met in thresholds.items():
            where = np.flatnonzero(met(part))
            labels = float(part.labels.iloc[where[0]]) if len(where) else np.inf
            lost = part.accuracy.iloc[-5:].mean() - part.accuracy.iloc[where[0]] if len(where) else np.nan
            rows.append((name, labels, lost))
    return pandas.DataFrame(rows, columns=["criterion", "labels", "lost"])


# ------------------------------------------------------------------------------
# noisy annotators
# ------------------------------------------------------------------------------


class Duel(NamedTuple):
    """Ours less the peer's mean accuracy over all numbers of annotations, seed by seed, for one task."""

    task: str
    ours: np.ndarray  # (S,)
    peer: np.ndarray
    random: np.ndarray
    ends: dict[str, float]  # accuracy at the last number of annotations


def duels(path: Path = RUNS) -> list[Duel]:
    """Read the comparison with ActiveLab, a task each."""
    import pandas

    table = pandas.read_parquet(path)
    found = []
    for (dataset, learner, pool), part in table.groupby(
        ["dataset", "learner", "pool"], observed=True, sort=False
    ):
        areas = part.groupby(["method", "seed"], observed=True).accuracy.mean().unstack()
        last = part[part.annotations == part.annotations.max()]
        ends = last.groupby("method", observed=True).accuracy.mean().to_dict()
        ours, peer, chance = (areas.loc[name].to_numpy(float) for name in (OURS, PEER, "random new"))
        found.append(Duel(f"{dataset}, {learner}, pool of {pool}", ours, peer, chance, ends))
    return found


# ------------------------------------------------------------------------------
# the page
# ------------------------------------------------------------------------------


def page() -> str:
    """Return the page."""
    return _head() + _forecast_section() + _stop_section() + _criteria_section() + _annotator_section()


def _head() -> str:
    chosen = curves()
    seeds = len({curve.name[3] for curve in chosen})
    return (
        "# Label, relabel, or stop?\n\n"
        "This page is generated: `python tests/benchmarks/stopping.py` computes it from two files that the repository "
        "keeps, `data/learning-curves.parquet` (written by `python tests/benchmarks/stopping_curves.py`) and "
        "`data/relabelling.parquet` (by `python tests/benchmarks/relabelling.py`).\n\n"
        f"There are {len(chosen)} curves: digits, MNIST and Fashion-MNIST, a linear model and trees, labelled by "
        f"chance, margin or entropy, {seeds} seed{'s' * (seeds > 1)}, 20 to 900 labels in steps of 5 %, accuracy on "
        "the whole test set. The kinds of curves and the other constants of the forecast were chosen on five curves "
        "under other seeds and a look at nine of these, of digits and MNIST; Fashion-MNIST chose none of them.\n\n"
    )


def left_out(chosen: Sequence[Curve]) -> list[tuple[str, float, Forecasts]]:
    """Choose the forecast's one fitted constant on all data sets but one, and test it on that one.

    Returns data set, constant and forecasts: the constant is the largest (the narrowest intervals) with which at least
    80 % of the other data sets' values and labels needed are inside.
    """
    tried = {}
    shipped = forecasts._TEMPER
    try:
        for share in _SHARES:
            forecasts._TEMPER = share
            tried[share] = check_forecasts(chosen)
    finally:
        forecasts._TEMPER = shipped
    found = []
    for name in dict.fromkeys(curve.dataset for curve in chosen):
        good = [
            share
            for share in _SHARES
            if min(coverage(tried[share], lambda each, name=name: each != name)) >= 0.8
        ]
        share = max(good, default=_SHARES[0])
        found.append((name, share, tried[share]))
    return found


def coverage(found: Forecasts, of: Callable[[str], bool] = lambda name: True) -> tuple[float, float]:
    """Return the shares of later values and of labels needed inside their intervals."""
    values = [value for name, value in zip(found.dataset, found.values, strict=True) if of(name)]
    return float(np.mean(values)), float(np.mean([inside for name, _, inside, _ in found.needed if of(name)]))


def _forecast_section() -> str:
    chosen, rows = curves(), []
    held_out = left_out(chosen)
    for name, share, found in [*held_out, (_SHIPPED, forecasts._TEMPER, check_forecasts(chosen))]:
        values, needed = coverage(found, lambda each, name=name: name in (each, _SHIPPED))
        of = [each for each in found.needed if name in (each[0], _SHIPPED)]
        finite = [each[3] for each in of if np.isfinite(each[3])]
        counts = [f"{len(of)}", f"{len(finite) / len(of):.0%}", f"{np.median(finite):.1f}"]
        rows.append([name, f"{share:g}", f"{values:.0%}", f"{needed:.0%}", *counts])
    inside = [each[2] for name, _, found in held_out for each in found.needed if each[0] == name]
    low = [
        name for name, _, found in held_out if min(coverage(found, lambda each, of=name: each == of)) < 0.75
    ]
    verdict = f"Held out, {np.mean(inside):.0%} of all labels needed are inside."
    verdict += f" On {' and '.join(low)} alone fewer than 75 % are." if low else ""
    header = [
        "tested on",
        "constant",
        "later values inside",
        "labels needed inside",
        "targets",
        "with an upper end",
    ]
    return (
        "## Does the 80 % interval hold what comes?\n\n"
        f"After {', '.join(map(str, CUTS))} labels a forecast is made, and compared with all later rounds, and with "
        "the labels that each target (0.60 to 0.95) turned out to need, if it was reached later (isotonic regression "
        "of the seed's own curve). For a row of one data set the forecast's one fitted constant, how much of an "
        "observation a round counts as, was chosen on the other data sets; the last row has the constant that ships, "
        f"chosen on all.\n\n{markdown_table([*header, 'upper / lower end'], rows)}\n{verdict} "
        "An interval without an upper end says that the curve may never get there: with 60 labels that is often all "
        "that can be said. The last column is of those with one.\n\n"
    )


_RULES: dict[str, Rule] = {
    "the forecast (`loop.advise`)": advised,
    "first value at the target": first_value,
    "third value in a row": three_in_a_row,
}


def _stop_section() -> str:
    rows = []
    for name, rule in _RULES.items():
        stops = check_stops(curves(), rule)
        ratios = np.array([stop.stopped / stop.needed for stop in stops])
        later = np.array([stop.later for stop in stops])
        rows.append(
            [
                name,
                f"{overshoot(stops):.1%}",
                f"{overshoot(stops, 'isotonic'):.1%}",
                f"{np.median(ratios):.2f} ({np.quantile(ratios, 0.1):.2f} to {np.quantile(ratios, 0.9):.2f})",
                f"{np.mean(later < -0.005):.1%}",
            ]
        )
    header = ["rule", "too many labels", "over isotonic", "labels / needed (10 to 90 %)", "too early"]
    return (
        "## How many labels too many does the stop buy?\n\n"
        "A target needs the labels of its first lasting crossing: from there on no round is below it. Too many labels: "
        "all that were bought after that, over all that were needed; the next column measures against the rising curve "
        "nearest to the values, which crosses sooner. Too early: the five rounds from the stop on are on average more "
        f"than half a point below the target. {len(stops)} crossings.\n\n{markdown_table(header, rows)}\n"
        "The first value at the target can never come late, and with thousands of test images it seldom comes early: "
        "there the simple rule does better. The forecast says before that how far it is.\n\n"
    )


def _criteria_section() -> str:
    rows = []
    for name, part in criteria_stops().groupby("criterion", sort=False):
        met = part[np.isfinite(part.labels)]
        middle = f"{met.labels.median():.0f}" if len(met) else ""
        lost = f"{met.lost.median():.1%} ({met.lost.quantile(0.9):.1%})" if len(met) else ""
        rows.append([name, f"{len(met) / len(part):.0%}", middle, lost])
    header = ["criterion", "stops by 900 labels", "at (median)", "accuracy lost (90 %)"]
    return (
        "## The criteria of the literature\n\n"
        "They look at predictions alone (`mining.stop`, at its defaults), and know no target. Lost: the accuracy at "
        f"the end of the record less that at the stop, median and 90th percentile.\n\n{markdown_table(header, rows)}\n"
    )


def _annotator_section() -> str:
    found = duels()
    rows = []
    for duel in found:
        gain = duel.ours - duel.peer
        rows.append(
            [
                duel.task,
                *(f"{each.mean():.3f}" for each in (duel.ours, duel.peer, duel.random)),
                f"{gain.mean():+.3f} ({gain.min():+.3f} to {gain.max():+.3f})",
                " / ".join(f"{duel.ends[name]:.3f}" for name in (OURS, PEER, "random new")),
            ]
        )
    header = ["task", "ours", "ActiveLab", "random", "ours less ActiveLab, by seed", "at the end"]
    lost = [duel.task for duel in found if (duel.ours - duel.peer).mean() < 0]
    verdict = f"Ours loses on: {'; '.join(lost)}." if lost else "Ours is ahead on the mean of every task."
    return (
        "## Three annotators, one answer in five wrong\n\n"
        "Each round buys 40 answers, from 60 to 740 in all, about new records or labelled ones. Ours picks with "
        "`mining.relabel` and trains on the labels of `mining.consensus`; ActiveLab is cleanlab's, which trains on "
        "cleanlab's consensus, as published; random always labels new records, and trains on our "
        "consensus. Ours expects annotators to be right 80 % of the time, its default, which here is true; ActiveLab "
        f"finds out by itself. All see confidences of the same five-fold cross-validation. "
        f"Mean accuracy over all numbers of annotations, {len(found[0].ours)} seeds.\n\n"
        f"{markdown_table(header, rows)}\n{verdict}\n\n"
        "How our score is made (the margin, the square root of the confidences) was chosen on digits under seeds 0 to "
        "2, in rounds of 30; MNIST chose nothing. Errors of these annotators do not depend on the image, and all wrong "
        "classes are equally likely. People err on what is hard to tell; asking such people again helps less.\n"
    )


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return its exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--page", type=Path, default=_PAGE)
    options = parser.parse_args(arguments)
    write_text(options.page, page())
    print(f"written: {options.page}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
