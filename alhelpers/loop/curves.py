"""Learning curves of strategies over seeds: their means, areas, the labels to a target, and paired tests."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from alhelpers.loop.comparison import Comparison, Test, compare, markdown_table

if TYPE_CHECKING:
    import pandas
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_RESAMPLES = 2000


@dataclass(frozen=True)
class LearningCurves:
    """The curves of some strategies at the same numbers of labels.

    Attributes
    ----------
    labels : numpy.ndarray, shape (L,)
        Numbers of labels, rising.
    values : dict of str to pandas.DataFrame
        For each strategy a row a seed (S) and a column a number of labels (L); higher is better.
    level : float
        Of the intervals.
    interval : {"t", "bootstrap"}
        How intervals of a mean over seeds are made: from Student's t, or from percentiles of 2000 resamples.
    value_name : str
        Name of the values, for tables and plots.
    """

    labels: np.ndarray
    values: dict[str, "pandas.DataFrame"]
    level: float
    interval: str
    value_name: str

    def mean(self) -> "pandas.DataFrame":
        """Return the mean curves, with columns strategy, labels, mean, low, high, seeds."""
        import pandas

        parts = []
        for name, values in self.values.items():
            columns = dict(zip(("mean", "low", "high"), self._interval(values.to_numpy()), strict=True))
            parts.append(
                pandas.DataFrame({"strategy": name, "labels": self.labels, **columns, "seeds": len(values)})
            )
        return pandas.concat(parts, ignore_index=True)

    def area(self) -> "pandas.DataFrame":
        """Return the mean height of the curves: the area under each (trapezoids) over the span of labels.

        Returns
        -------
        pandas.DataFrame
            A row a strategy: mean, low and high over the seeds.
        """
        import pandas

        rows = {name: self._interval(areas.to_numpy()[:, 0]) for name, areas in self._areas().items()}
        return pandas.DataFrame.from_dict(rows, orient="index", columns=["mean", "low", "high"])

    def _areas(self) -> dict[str, "pandas.DataFrame"]:
        span = self.labels[-1] - self.labels[0]
        found = {}
        for name, values in self.values.items():
            curves = values.to_numpy()
            heights = np.trapezoid(curves, self.labels, axis=1) / span if span else curves[:, 0]
            found[name] = values[[]].assign(area=heights)
        return found

    def labels_to(
        self, target: float, crossing: Literal["isotonic", "interpolated"] = "isotonic"
    ) -> "pandas.DataFrame":
        """Return the number of labels that each strategy needs to reach a value.

        Parameters
        ----------
        target : float
        crossing : {"isotonic", "interpolated"}
            Which curve of a seed must first reach the target, with straight lines between the numbers of labels: the
            rising curve nearest to it (isotonic regression, which a single lucky point changes little), or the
            curve itself.

        Returns
        -------
        pandas.DataFrame
            A row a strategy: ``median``, ``least`` and ``most`` over the seeds; ``reached``, the number of seeds that
            reach it; ``seeds``; and ``of_mean``, the crossing of the mean curve. Infinity means not reached. A curve
            above the target from the start counts with its first number of labels.

        Raises
        ------
        ValueError
            If the crossing is neither of the two.
        """
        import pandas

        if crossing not in ("isotonic", "interpolated"):
            raise ValueError(f"crossing is {crossing!r}: choose 'isotonic' or 'interpolated'")
        rows = {}
        for name, values in self.values.items():
            needed = np.array(
                [labels_needed(self.labels, curve, target, crossing) for curve in values.to_numpy()]
            )
            rows[name] = {
                "median": np.median(needed),
                "least": needed.min(),
                "most": needed.max(),
                "reached": int(np.isfinite(needed).sum()),
                "seeds": len(needed),
                "of_mean": labels_needed(self.labels, values.to_numpy().mean(0), target, crossing),
            }
        return pandas.DataFrame.from_dict(rows, orient="index")

    def compare(
        self, over: Literal["area", "labels"] = "area", *, test: Test = "t", alpha: float = 0.05
    ) -> Comparison:
        """Test each pair of strategies on the seeds that both have, with Holm's correction for the number of tests.

        Parameters
        ----------
        over : {"area", "labels"}
            One test a pair, of the areas under the curves, or one at each number of labels.
        test : {"t", "wilcoxon", "permutation"}
            The paired t test, Wilcoxon's signed ranks, or flips of the differences' signs. With S seeds the p values
            of the latter two are at least 2 / 2^S.
        alpha : float
            The probability of one or more false wins in the whole matrix.

        Returns
        -------
        Comparison

        Raises
        ------
        ValueError
            If two strategies share fewer than two seeds, or an option is unknown.
        """
        if over not in ("area", "labels"):
            raise ValueError(f"over is {over!r}: choose 'area' or 'labels'")
        return compare(self._areas() if over == "area" else self.values, test=test, alpha=alpha)

    def markdown(self, target: float | None = None, baseline: str = "random") -> str:
        """Return a table in Markdown, the best area first.

        Parameters
        ----------
        target : float, optional
            Adds the labels that each strategy needs to reach it (isotonic; the median over the seeds), and the ratio
            of the baseline's to these.
        baseline : str
            A strategy; ignored if there are no results of it.
        """
        areas, ends = self.area().sort_values("mean", ascending=False), self._at(len(self.labels) - 1)
        header = ["strategy", f"mean {self.value_name}", f"at {self.labels[-1]:g} labels"]
        needed = None if target is None else self.labels_to(target)
        rows = []
        for name, area in areas.iterrows():
            row = [name, _with_interval(*area), _with_interval(*ends[name])]
            if needed is not None:
                row += [_count(needed.loc[name, "median"])]
                row += [self._ratio(needed, name, baseline)] if baseline in needed.index else []
            rows.append(row)
        if needed is not None:
            header += [f"labels to {target:g}"]
            header += [f"{baseline} needs"] if baseline in needed.index else []
        return markdown_table(header, rows)

    def _ratio(self, needed: "pandas.DataFrame", name: str, baseline: str) -> str:
        own, other = needed.loc[name, "median"], needed.loc[baseline, "median"]
        if not np.isfinite(own):
            return ""
        return f"{other / own:.1f} times" if np.isfinite(other) else f"> {self.labels[-1] / own:.1f} times"

    def _at(self, column: int) -> dict[str, tuple[float, float, float]]:
        return {name: self._interval(values.to_numpy()[:, column]) for name, values in self.values.items()}

    def plot(
        self, *, target: float | None = None, baseline: str = "random", axis: "Axes | None" = None
    ) -> "Figure":
        """Draw the mean curves with their intervals as bands; the baseline is dashed.

        Parameters
        ----------
        target : float, optional
            Drawn as a thin line.
        baseline : str
        axis : matplotlib.axes.Axes, optional
            Where to draw; the default is a new figure.

        Returns
        -------
        matplotlib.figure.Figure
            For ``notebook.show(curves.plot(), alt=curves.alt(), caption=...)``.
        """
        from matplotlib import pyplot as plt

        if axis is None:
            _, axis = plt.subplots(figsize=(8, 4), layout="constrained")
        for name, part in self.mean().groupby("strategy", sort=False):
            (line,) = axis.plot(part.labels, part["mean"], "k--" if name == baseline else "-", label=name)
            axis.fill_between(
                part.labels, part.low, part.high, alpha=0.15, color=line.get_color(), linewidth=0
            )
        if target is not None:
            axis.axhline(target, color="gray", linewidth=0.8)
        axis.set(xlabel="labels", ylabel=self.value_name)
        axis.legend()
        return axis.figure

    def alt(self) -> str:
        """Return alternative text for the plot, with the start and the end of each curve."""
        starts, ends = self._at(0), self._at(len(self.labels) - 1)
        order = sorted(self.values, key=lambda name: -ends[name][0])
        courses = "; ".join(f"{name} from {starts[name][0]:.3g} to {ends[name][0]:.3g}" for name in order)
        return (
            f"{self.value_name} against {self.labels[0]:g} to {self.labels[-1]:g} labels, a line and a band for each"
            f" strategy, the highest at the end first: {courses}."
        )

    def _interval(self, values: np.ndarray) -> tuple[Any, Any, Any]:
        """Return mean, low and high over the first axis; NaN for the interval of one seed."""
        if self.interval == "t" or len(values) < 2:
            return mean_interval(values, self.level)
        rows = np.random.default_rng(0).integers(0, len(values), (_RESAMPLES, len(values)))
        low, high = np.quantile(values[rows].mean(1), [(1 - self.level) / 2, (1 + self.level) / 2], axis=0)
        return values.mean(0), low, high


def mean_interval(values: np.ndarray, level: float) -> tuple[Any, Any, Any]:
    """Return the mean of the rows and its interval of Student's t; NaN for the interval of one row."""
    mean = values.mean(0)
    if len(values) < 2:
        return mean, np.full_like(mean, np.nan), np.full_like(mean, np.nan)
    from scipy import stats

    quantile = stats.t.ppf((1 + level) / 2, len(values) - 1)
    half = quantile * values.std(0, ddof=1) / np.sqrt(len(values))
    return mean, mean - half, mean + half


def learning_curves(
    results: Any,
    *,
    strategy: str = "strategy",
    seed: str = "seed",
    labels: str = "labels",
    value: str = "value",
    level: float = 0.95,
    interval: Literal["t", "bootstrap"] = "t",
) -> LearningCurves:
    """Collect learning curves from tidy results.

    Parameters
    ----------
    results : pandas.DataFrame, or list of dict
        A row a point, or a row a run whose columns ``labels`` and ``value`` hold lists, as ``sweep`` returns them.
        Runs that failed are left out.
    strategy, seed, labels, value : str
        Names of the columns; a higher value is better.
    level : float
        Of the intervals, between 0 and 1.
    interval : {"t", "bootstrap"}
        How intervals of a mean over seeds are made: from Student's t, or from percentiles of 2000 resamples.

    Returns
    -------
    LearningCurves

    Raises
    ------
    ValueError
        If a column is missing, a point occurs twice, a value is missing or not finite, or a run has other numbers of
        labels than the rest: such curves cannot be compared.
    """
    import pandas

    if interval not in ("t", "bootstrap"):
        raise ValueError(f"interval is {interval!r}: choose 't' or 'bootstrap'")
    if not 0 < level < 1:
        raise ValueError(f"level is {level!r}: choose a number between 0 and 1, such as 0.95")
    table = pandas.DataFrame(results)
    if "run.state" in table:
        table = table[table["run.state"] == "done"]
    missing = [name for name in (strategy, seed, labels, value) if name not in table]
    if missing:
        raise ValueError(f"the results have no column {missing[0]!r}: they have {', '.join(map(str, table))}")
    if table.empty:
        raise ValueError("the results hold no run that has finished")
    missing = table[[strategy, seed]].isna()
    if missing.to_numpy().any():
        row = missing.any(axis=1).to_numpy().argmax()
        raise ValueError(f"row {row} of the results has no {strategy} or no {seed}: each curve needs both")
    points = _points(table[[strategy, seed, labels, value]])
    _check_points(points, value)
    counts = np.array(sorted(points.labels.unique()), dtype=float)
    curves = {
        name: part.pivot(index="seed", columns="labels", values="value")
        for name, part in points.groupby("strategy", sort=False)
    }
    for name, curve in curves.items():
        _check_curve(name, curve, counts)
    return LearningCurves(counts, curves, level, interval, value)


def _points(table: "pandas.DataFrame") -> "pandas.DataFrame":
    """Return a row a point, from rows of points or of lists."""
    import pandas

    table = table.set_axis(["strategy", "seed", "labels", "value"], axis=1)
    table["strategy"] = table["strategy"].map(str)
    rows = []
    for name, seed, counts, values in table.itertuples(index=False):
        # A text, as a table without types holds it, is one number.
        counts, values = (
            each if isinstance(each, Iterable) and not isinstance(each, str) else [each]
            for each in (counts, values)
        )
        if len(counts) != len(values):
            raise ValueError(
                f"strategy {name!r}, seed {seed}: {len(counts)} numbers of labels, but {len(values)} values"
            )
        rows += [(name, seed, count, height) for count, height in zip(counts, values, strict=True)]
    return pandas.DataFrame(rows, columns=table.columns)


def _check_points(points: "pandas.DataFrame", value: str) -> None:
    for column in ("labels", "value"):
        points[column] = points[column].astype(float)
    wrong = points[~np.isfinite(points[["labels", "value"]]).all(axis=1)]
    if len(wrong):
        row = wrong.iloc[0]
        raise ValueError(
            f"strategy {row.strategy!r}, seed {row.seed}: {value} is {row['value']} at {row['labels']:g} labels"
        )
    twice = points[points.duplicated(["strategy", "seed", "labels"])]
    if len(twice):
        row = twice.iloc[0]
        raise ValueError(
            f"strategy {row.strategy!r}, seed {row.seed} has {row['labels']:g} labels twice: select the runs of one"
            " setting of the other parameters"
        )


def _check_curve(name: str, curve: "pandas.DataFrame", counts: np.ndarray) -> None:
    gaps = curve.reindex(columns=counts).isna()
    if gaps.to_numpy().any():
        row = gaps.any(axis=1).idxmax()
        count = gaps.loc[row].idxmax()
        raise ValueError(
            f"strategy {name!r}, seed {row} has no value at {count:g} labels, which others have: curves are compared at"
            " the same numbers of labels"
        )


def labels_needed(labels: np.ndarray, curve: np.ndarray, target: float, crossing: str) -> float:
    """Return where a curve (L,) first reaches the target, or infinity."""
    if crossing == "isotonic":
        from sklearn.isotonic import isotonic_regression

        curve = isotonic_regression(curve)
    reached = np.flatnonzero(curve >= target)
    if len(reached) == 0:
        return float("inf")
    after = reached[0]
    if after == 0:
        return float(labels[0])
    share = (target - curve[after - 1]) / (curve[after] - curve[after - 1])
    return float(labels[after - 1] + share * (labels[after] - labels[after - 1]))


def _with_interval(mean: float, low: float, high: float) -> str:
    return f"{mean:.3f}" if np.isnan(low) else f"{mean:.3f} ({low:.3f} to {high:.3f})"


def _count(labels: float) -> str:
    return f"{labels:.0f}" if np.isfinite(labels) else "not reached"
