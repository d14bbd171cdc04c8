"""The result of comparing two models, and the sentences and tables that explain it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from alhelpers.evaluation.compare_config import METRICS

UPDATE_MODEL = "update model"
DISCARD = "discard"
_TITLES = {metric.name: metric.title for metric in METRICS}


@dataclass(frozen=True)
class Comparison:
    """Whether the new model replaces the previous one, and why. Printing it shows tables.

    Parameters
    ----------
    metric : str
        ``"training_metrics"``, or the name of the metric; of several the first, and so are ``previous``, ``new``,
        ``difference``, ``min_delta``, ``rows`` and ``method``.
    better : bool
        Whether the new model won.
    message : str
        The decision in one sentence.
    previous_model, new_model : str
        The models' names.
    previous, new, difference, min_delta : float or None
        The metric of both models, new minus previous, and the required difference; None for training metrics.
    rows : list of dict
        A row a label: ``name``, ``previous``, ``new``, and ``low`` and ``high`` of the interval of the difference (None
        where the metric is no mean over labels); or a row a check, with ``won``.
    test_items : int
        How many items were evaluated.
    method : str
        How the values were computed.
    metrics : list of dict
        Each metric: ``name``, ``method``, ``previous``, ``new``, ``difference``, ``higher_is_better``,
        ``min_delta``, ``min_confidence``, ``interval`` (``low``, ``high``, ``level``, ``samples``, ``seed``: where the
        difference lies when the test items are drawn again), ``won``, ``rows``, by label, and, if asked for,
        ``sizes``, in the same form.
    wins : float or str
        Which part of the metrics or checks had to be won.
    warnings : list of str
        What to keep in mind about them.
    """

    metric: str
    better: bool
    message: str
    previous_model: str
    new_model: str
    previous: float | None = None
    new: float | None = None
    difference: float | None = None
    min_delta: float | None = None
    rows: list[dict[str, Any]] = field(default_factory=list)
    test_items: int = 0
    method: str = ""
    metrics: list[dict[str, Any]] = field(default_factory=list)
    wins: float | str = "all"
    warnings: list[str] = field(default_factory=list)

    @property
    def action(self) -> str:
        """The action of the pipeline node: ``"update model"`` or ``"discard"``."""
        return UPDATE_MODEL if self.better else DISCARD

    def to_dict(self) -> dict[str, Any]:
        """Return the fields and the action, ready for JSON."""
        return {**asdict(self), "action": self.action}

    def __str__(self) -> str:
        lines = [self.message]
        for metric in self.metrics:
            sizes = [row | {"name": f"size {row['name']}"} for row in metric.get("sizes", ())]
            lines += ["", _verdict(metric), *_table([*metric["rows"], *sizes], metric)]
        if not self.metrics:
            lines += _table(self.rows)
        return "\n".join(lines + [f"warning: {warning}" for warning in self.warnings])


# ------------------------------------------------------------------------------
# sentences
# ------------------------------------------------------------------------------


def explain_checks(rows: Sequence[Mapping[str, Any]], better: bool, wins: Any, names: tuple[str, str]) -> str:
    """Return the sentence about a comparison of training metrics."""
    won = sum(row["won"] for row in rows)
    return (
        f"{names[1]!r} won {won} of {len(rows)} training metrics against {names[0]!r} (needed: {wins}): "
        f"{UPDATE_MODEL if better else DISCARD}"
    )


def explain_metrics(
    results: Sequence[Mapping[str, Any]], better: bool, wins: Any, names: tuple[str, str], items: int
) -> str:
    """Return the sentence about a comparison on test items."""
    action = UPDATE_MODEL if better else DISCARD
    if len(results) == 1:
        result = results[0]
        return (
            f"{_TITLES[result['name']]} {result['new']:.4f} of {names[1]!r} against {result['previous']:.4f} of "
            f"{names[0]!r} on {items} test items: a difference of {result['difference']:+.4f} ({_interval(result)}), "
            f"{_requirement(result)}: {action}"
        )
    each = "; ".join(
        f"{result['name']} {result['difference']:+.4f} ({_interval(result)}), "
        f"{'won' if result['won'] else f'not won, as {_requirement(result)}'}"
        for result in results
    )
    won = sum(result["won"] for result in results)
    return (
        f"{names[1]!r} won {won} of {len(results)} metrics against {names[0]!r} on {items} test items "
        f"(needed: {wins}): {each}: {action}"
    )


def _requirement(result: Mapping[str, Any]) -> str:
    more = result["higher_is_better"]
    bound = result["min_delta"] if more else -result["min_delta"] or 0
    limit = f"{'more' if more else 'less'} than {bound:g}"
    if result["min_confidence"] is None:
        return f"{limit} is needed"
    text = f"the whole interval must be {limit} (min_confidence {result['min_confidence']:g})"
    gain = result["difference"] if more else -result["difference"]
    if not result["won"] and gain > result["min_delta"]:
        text += ", and it is not, so the difference may be luck"
    return text


def _interval(metric: Mapping[str, Any]) -> str:
    interval = metric["interval"]
    return f"{100 * interval['level']:g} % interval {interval['low']:+.4f} to {interval['high']:+.4f}"


# ------------------------------------------------------------------------------
# tables
# ------------------------------------------------------------------------------


def _verdict(metric: Mapping[str, Any]) -> str:
    required = f"min_delta {metric['min_delta']:g}"
    if metric["min_confidence"] is not None:
        required += f", min_confidence {metric['min_confidence']:g}"
    return (
        f"{metric['name']}, {'won' if metric['won'] else 'not won'}: {metric['difference']:+.4f}, "
        f"{_interval(metric)} of {metric['interval']['samples']} resamples, {required}"
    )


def _table(rows: Sequence[Mapping[str, Any]], total: Mapping[str, Any] | None = None) -> list[str]:
    of_labels = any(row.get("low") is not None for row in rows)
    if total is not None:
        whole = "all" if total["name"] in ("accuracy", "calibration") else "macro"
        first = {"name": whole, "previous": total["previous"], "new": total["new"]}
        rows = [first | {side: total["interval"][side] for side in ("low", "high")}, *rows]
    width = max([len(str(row["name"])) for row in rows] + [5])
    lines = [f"{'':{width}}  {'previous':>10}  {'new':>10}  {'difference':>10}"]
    if of_labels:
        lines[0] += f"  {'low':>10}  {'high':>10}"
    for row in rows:
        old, new = row["previous"], row["new"]
        change = None if old is None or new is None else new - old
        cells = [_cell(old), _cell(new), _cell(change, "+")]
        if of_labels:
            cells += [_cell(row[side], "+") for side in ("low", "high")]
        lines.append("  ".join([f"{row['name']!s:{width}}", *cells]))
    return lines


def _cell(value: float | None, sign: str = "") -> str:
    return f"{'-':>10}" if value is None else f"{value:{sign}10.4f}"
