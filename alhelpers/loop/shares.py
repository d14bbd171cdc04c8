"""The share of a baseline's budget with which strategies get as far, in records or in what their labels cost."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from alhelpers.loop.curves import labels_needed, mean_interval

if TYPE_CHECKING:
    import pandas


def budget_shares(
    rows: Sequence[Mapping[str, Any]],
    value: str,
    *,
    baseline: str = "random",
    cost: str = "labels",
    level: float = 0.95,
) -> "pandas.DataFrame":
    """Return the share of the baseline's whole budget with which each strategy reaches the baseline's last value.

    Each seed has its own target, where the baseline of this seed ends. Values are read off the rising curve nearest to
    those measured (isotonic regression), with straight lines between the numbers of labels, so that neither one lucky
    round of a strategy nor one unlucky end of the baseline decides.

    Parameters
    ----------
    rows : sequence of mapping
        Those of :func:`alhelpers.loop.race`: ``strategy``, ``seed``, ``labels``, the value and the cost. Strategies may
        be measured at different numbers of labels.
    value : str
        Of the rows, such as ``"ap50"``; higher is better.
    baseline : str
        A strategy, with all seeds of the others.
    cost : str
        What the budget is counted in: a column of the rows that grows with the labels, such as ``"boxes"``.
    level : float
        Of the interval of the mean over seeds, from Student's t.

    Returns
    -------
    pandas.DataFrame
        A row a strategy: ``mean``, ``low`` and ``high`` of the share; ``reached``, the number of seeds that reach the
        target; ``seeds``. A share is infinite where the target is not reached, and so is their mean.

    Raises
    ------
    ValueError
        If there are no rows of the baseline, a column is missing, or a seed of a strategy is not one of the baseline's.

    Examples
    --------
    >>> rows = [
    ...     {"strategy": name, "seed": 0, "labels": count, "ap50": height}
    ...     for name, heights in {"random": (0.2, 0.3, 0.4), "ours": (0.2, 0.5, 0.6)}.items()
    ...     for count, height in zip((20, 40, 80), heights)
    ... ]
    >>> budget_shares(rows, "ap50")["mean"].round(3).to_dict()
    {'random': 1.0, 'ours': 0.417}
    """
    import pandas

    missing = [
        name for name in ("strategy", "seed", "labels", value, cost) for row in rows if name not in row
    ]
    if missing:
        raise ValueError(f"a row has no {missing[0]!r}: pass the rows of a race")
    runs: dict[str, dict[Any, np.ndarray]] = {}
    for row in rows:
        point = [(row["labels"], row[value], row[cost])]
        runs.setdefault(str(row["strategy"]), {}).setdefault(row["seed"], []).extend(point)
    if baseline not in runs:
        raise ValueError(f"there are no rows of {baseline!r}: there are those of {', '.join(runs) or 'none'}")
    found = {}
    for name, of_seeds in runs.items():
        unknown = [seed for seed in of_seeds if seed not in runs[baseline]]
        if unknown:
            raise ValueError(
                f"strategy {name!r} has seed {unknown[0]}, which {baseline!r} has not: race it, too"
            )
        shares = np.array([_share(points, runs[baseline][seed]) for seed, points in of_seeds.items()])
        reached = np.isfinite(shares)
        mean, low, high = (
            mean_interval(shares[:, None], level)
            if reached.all()
            else np.array([[np.inf], [np.nan], [np.nan]])
        )
        found[name] = [mean[0], low[0], high[0], int(reached.sum()), len(shares)]
    columns = ["mean", "low", "high", "reached", "seeds"]
    return pandas.DataFrame.from_dict(found, orient="index", columns=columns).astype(
        {"reached": int, "seeds": int}
    )


def _share(points: Sequence[tuple[float, ...]], baseline: Sequence[tuple[float, ...]]) -> float:
    """Return the share of the baseline's last cost at which a curve reaches its last value."""
    from sklearn.isotonic import isotonic_regression

    _, base_values, base_costs = np.array(sorted(baseline), dtype=float).T
    labels, values, costs = np.array(sorted(points), dtype=float).T
    needed = labels_needed(labels, values, isotonic_regression(base_values)[-1], "isotonic")
    return float(np.interp(needed, labels, costs) / base_costs[-1]) if np.isfinite(needed) else np.inf
