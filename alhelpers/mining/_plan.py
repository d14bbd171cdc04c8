"""Plans: strategies side by side, one behind the other, or with weights."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from fractions import Fraction
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
from pydantic import BeforeValidator, Field, model_validator
from pydantic.json_schema import SkipJsonSchema

from alhelpers.configurations import Configuration, Text, described, read
from alhelpers.mining._goals import Balanced, Goals, Score
from alhelpers.mining._neighbours import METRICS
from alhelpers.mining._registry import STRATEGIES, find
from alhelpers.mining._selection import MiningError
from alhelpers.mining._strategy import Needs, Strategy


def _python_number(value: Any) -> Any:
    value = value.item() if isinstance(value, np.generic) else value
    return math.inf if isinstance(value, int) and value.bit_length() > 1000 else value  # no float is so large


STRATEGY = (
    "the name of a strategy of alhelpers.mining, such as 'margin', or of a number of the records, such as "
    "'metadata.blur'"
)
#: A strategy in a plan: in JSON a name, in Python also a function.
StrategyName = Text | SkipJsonSchema[Callable[..., Any]]
_Options = Annotated[dict[str, Any], Field(description="an object with the strategy's options")]
_Positive = Annotated[
    int | float, BeforeValidator(_python_number), Field(gt=0, description="a number above 0")
]


class Term(Configuration):
    """A strategy and the weight of its ranks."""

    model_config = described("an object with a 'strategy' and a 'weight' above 0")

    strategy: StrategyName = Field(description=STRATEGY)
    options: _Options = Field(default_factory=dict)
    weight: _Positive


class Balance(Configuration):
    """A field whose values should have certain shares among the picks."""

    model_config = described("an object with a 'field', a 'weight' above 0 and perhaps a 'target'")

    field: Text = Field(
        description="a field of few values, such as 'prediction.class_name' or 'metadata.weather'"
    )
    target: Literal["uniform"] | Annotated[dict[str, _Positive], Field(min_length=1)] = Field(
        "uniform", description="'uniform', or an object with the share of each value, a number above 0"
    )
    weight: _Positive


class GoalsNode(Configuration):
    """Sampling goals with weights."""

    model_config = described("an object with any of 'scores', 'diversity' and 'balance'")

    scores: list[Term] = Field(
        default_factory=list, description="a list of objects with a 'strategy' and a 'weight' above 0"
    )
    diversity: _Positive | None = Field(
        None, description="a number above 0, the weight of the distance to picks"
    )
    balance: list[Balance] = Field(
        default_factory=list, description="a list of objects with a 'field' and a 'weight' above 0"
    )
    min_distance: _Positive | None = Field(
        None, description="a number above 0: the least distance to a pick or a labelled record"
    )
    metric: Literal[*METRICS] = Field("euclidean", description=f"one of {', '.join(METRICS)}")
    layer: Text | None = Field(None, description="the name of a layer of embeddings")

    @property
    def compares(self) -> bool:
        """Whether embeddings are compared."""
        return self.diversity is not None or self.min_distance is not None

    @model_validator(mode="after")
    def _check(self) -> GoalsNode:
        if not self.scores and self.diversity is None and not self.balance:
            raise ValueError(
                f"must have at least one of 'scores', 'diversity' or 'balance', got {as_given(self)}"
            )
        return self


class _Step(Configuration):
    """One strategy, several with weights, or goals."""

    strategy: StrategyName | None = Field(None, description=STRATEGY)
    options: _Options = Field(default_factory=dict)
    weights: list[Term] | None = Field(
        None,
        description="a list of at least two objects with a 'strategy' and a 'weight' above 0",
        min_length=2,
    )
    goals: GoalsNode | None = Field(
        None, description="an object with any of 'scores', 'diversity' and 'balance'"
    )

    def _check_one_of(self, *forms: str) -> None:
        if sum(getattr(self, form) is not None for form in forms) != 1:
            names = ", ".join(map(repr, forms[:-1])) + f" or {forms[-1]!r}"
            raise ValueError(f"must have exactly one of {names}, got {as_given(self)}")
        if self.strategy is None and "options" in self.model_fields_set:
            raise ValueError(f"must have 'options' beside each 'strategy' in it, got {as_given(self)}")


class Stage(_Step):
    """A stage of a cascade: all but the last keep more records than are chosen."""

    model_config = described(
        "an object with a 'strategy', 'weights' or 'goals', and a 'keep' in all but the last stage"
    )

    keep: Annotated[int | str | None, BeforeValidator(_python_number)] = Field(
        None, description="a number of records, or a multiple of the budget such as '10x'"
    )

    @model_validator(mode="after")
    def _check(self) -> Stage:
        self._check_one_of("strategy", "weights", "goals")
        return self


class PlanPart(_Step):
    """A part of a plan: a strategy, a cascade, weights or goals, and its share of the budget."""

    model_config = described("an object with a 'strategy', a 'cascade', 'weights' or 'goals'")

    cascade: list[Stage] | None = Field(None, description="a list of stages, at least one", min_length=1)
    share: _Positive | None = Field(None, description="a number above 0, the share of the budget")
    size: Annotated[int | None, BeforeValidator(_python_number)] = Field(
        None, description="a whole number of records, at least 1", gt=0
    )

    @model_validator(mode="after")
    def _check(self) -> PlanPart:
        self._check_one_of("strategy", "cascade", "weights", "goals")
        stages = self.cascade or ()
        for place, stage in enumerate(stages, start=1):
            if (stage.keep is None) == (place < len(stages)):
                raise ValueError(
                    f"must have a 'keep' in every stage but the last, got {as_given(stage)} as stage {place} of "
                    f"{len(stages)}"
                )
        return self


def as_given(part: Configuration) -> dict[str, Any]:
    """Return a part of a plan as the dict that it was read from."""
    return part.model_dump(exclude_unset=True)


def read_plan(plan: Any) -> list[PlanPart]:
    """Check the form of a plan."""
    single = isinstance(plan, Mapping | PlanPart)
    given = [plan] if single else plan
    if not isinstance(given, Sequence) or isinstance(given, str) or not given:
        raise MiningError(
            f"plan {plan!r} must be an object or a list of objects with a 'strategy', a 'cascade', 'weights' or "
            "'goals'"
        )
    try:
        return [
            read(PlanPart, part, "plan" if single else f"plan[{place}]") for place, part in enumerate(given)
        ]
    except ValueError as error:
        raise MiningError(str(error)) from None


def steps_of(part: PlanPart) -> Iterator[PlanPart | Stage | Term]:
    """Yield everything in a part that has a strategy, in order."""
    for stage in part.cascade or [part]:
        yield from stage.weights or [stage]


class Needed(NamedTuple):
    """What a strategy of a plan needs, with its options.

    Parameters
    ----------
    strategy : str
        Its name.
    fields : tuple of tuple of str
        The needs; one of the fields of each must be in the records.
    reference : {"none", "optional", "required"}
        Whether it uses labelled records.
    reference_extras : tuple of str
        Fields of labelled records that it uses if they exist, such as ``groundtruth``.
    documents : tuple of str
        What it reads under ``metadata`` and ``tags``, such as ``metadata.blur``.
    reference_fields : tuple of tuple of str
        Its needs of labelled records, as ``fields``.
    """

    strategy: str
    fields: Needs
    reference: str
    reference_extras: tuple[str, ...] = ()
    documents: tuple[str, ...] = ()
    reference_fields: Needs = ()


def needed_by(parts: Sequence[PlanPart]) -> list[Needed]:
    """Return what each strategy of a plan needs, in order."""
    found = []
    for step in (step for part in parts for step in steps_of(part)):
        strategy, options, _ = _planned(step)
        found.append(
            Needed(
                strategy.name,
                strategy.needs(options),
                strategy.reference,
                strategy.reference_extras,
                strategy.documents,
                strategy.needs_of_reference(options),
            )
        )
    return found


def needed_fields(plan: Any) -> list[Needed]:
    """Return what the strategies of a plan need, before there are records.

    Parameters
    ----------
    plan : str, callable, dict or list of dict
        A strategy, as :func:`mine` takes it, or a plan of :func:`combine`.

    Returns
    -------
    list of Needed
        For each strategy in the plan, in its order: ``strategy``, its name; ``fields``, its needs, each a tuple of
        fields of which one must exist; ``reference``, whether it uses labelled records; ``reference_extras``;
        ``documents``; ``reference_fields``, its needs of labelled records.

    Raises
    ------
    MiningError
        If the plan, a strategy or an option is not valid.

    Examples
    --------
    >>> [need.fields for need in needed_fields("coreset")]
    [(('embeddings',),)]
    """
    return needed_by(read_plan({"strategy": plan} if isinstance(plan, str) or callable(plan) else plan))


def counts_boxes(needed: Sequence[Needed]) -> bool:
    """Return whether the labels of boxes are all that strategies ask of the boxes of labelled records."""
    boxes = [need for each in needed for need in each.reference_fields if need[0].startswith("detections.")]
    return bool(boxes) and all(need == ("detections.class_name",) for need in boxes)


class PlannedTerm(NamedTuple):
    """A strategy with all its options, and its weight."""

    strategy: Strategy
    options: Mapping[str, Any]
    weight: float = 1.0


class PlannedStage(NamedTuple):
    """One strategy, or several with weights, and how many records it keeps."""

    terms: tuple[PlannedTerm, ...]
    keep: int

    @property
    def name(self) -> str:
        """The strategies, joined by ``+``."""
        return " + ".join(term.strategy.name for term in self.terms)

    @property
    def columns(self) -> set[str]:
        """All fields that it may read, of the pool and of the reference."""
        return {name for term in self.terms for name in term.strategy.columns(term.options)}


# One or more stages, the last of which keeps the budget of the part.
Cascade = tuple[PlannedStage, ...]


def resolve(parts: Sequence[PlanPart], size: int, left: int | None = None) -> list[Cascade]:
    """Find the strategies of a plan of a size, and compute how many records each part chooses.

    If only so many records are left, all parts shrink in proportion.
    """
    left = size if left is None else left
    budgets = _budgets(parts, size, left)
    return [_stages(part, budget) for part, budget in zip(parts, budgets, strict=True) if budget]


def _budgets(parts: Sequence[PlanPart], size: int, left: int) -> list[int]:
    """Return how many records each part chooses; they add up to those that are left."""
    if len(parts) == 1 and parts[0].share is None and parts[0].size is None:
        return [left]
    for part in parts:
        if (part.share is None) == (part.size is None):
            raise MiningError(
                f"a part beside others must have either a 'share' or a 'size', got {as_given(part)}"
            )
    # as decimals, so that 0.15 and 0.35 of 10 both lose a half; the shares divide what the sizes leave
    shares = [None if part.share is None else Fraction(str(part.share)) for part in parts]
    total, rest = sum(filter(None, shares)), size - sum(part.size or 0 for part in parts)
    if rest < 0 or abs(total * size - rest) * 1_000_000 > size * bool(total):
        asked = float(min(total * size + size - rest, 10**300))
        raise MiningError(f"the parts of the plan ask for {asked:g} records in all, but size={size}")
    wanted = [
        part.size if share is None else share / total * rest
        for part, share in zip(parts, shares, strict=True)
    ]
    exact = [Fraction(left, size) * value for value in wanted]
    # whole numbers with the same sum: those that lose most by rounding down are rounded up, the first of equals first
    budgets = [math.floor(value) for value in exact]
    by_loss = sorted(range(len(exact)), key=lambda place: (budgets[place] - exact[place], place))
    for place in by_loss[: left - sum(budgets)]:
        budgets[place] += 1
    return budgets


def _stages(part: PlanPart, budget: int) -> Cascade:
    stages = []
    for stage in part.cascade or [part]:
        keep = stage.keep if isinstance(stage, Stage) else None
        terms = _weighted(stage.weights) if stage.weights else (_planned(stage),)
        stages.append(PlannedStage(terms, budget if keep is None else _kept(keep, budget)))
    return tuple(stages)


def _weighted(terms: Sequence[Term]) -> tuple[PlannedTerm, ...]:
    planned = tuple(_planned(term, float(term.weight)) for term in terms)
    for term in planned:
        if term.strategy.kind == "together":
            those = ", ".join(name for name, each in STRATEGIES.items() if each.kind != "together")
            raise MiningError(
                f"strategy {term.strategy.name!r} chooses records together and has no score of each, which 'weights' "
                f"need; put it behind them in a cascade, or take one of: {those}"
            )
    return planned


def _goals(node: GoalsNode) -> Strategy:
    """Return the strategy that runs goals."""
    balance = [
        Balanced(each.field, None if each.target == "uniform" else each.target, each.weight)
        for each in node.balance
    ]
    scores = [Score(*term) for term in _weighted(node.scores)]
    return Goals(scores, node.diversity, balance, node.min_distance, node.metric, node.layer).strategy()


def _planned(step: PlanPart | Stage | Term, weight: float = 1.0) -> PlannedTerm:
    if (goals := getattr(step, "goals", None)) is not None:
        return PlannedTerm(_goals(goals), {})
    strategy = find(step.strategy)
    return PlannedTerm(strategy, strategy.resolved(step.options), weight)


def _kept(keep: int | str, budget: int) -> int:
    """Return how many records a stage keeps."""
    multiple = re.fullmatch(r"(\d+(?:\.\d+)?)x", keep) if isinstance(keep, str) else None
    if isinstance(keep, str) and multiple is None:
        raise MiningError(
            f"'keep' {keep!r} must be a number of records, or a multiple of the budget such as '10x'"
        )
    count = math.ceil(Fraction(multiple[1]) * budget) if multiple else keep
    if count < budget:
        raise MiningError(f"'keep' {keep!r} keeps {count} records, fewer than the {budget} to choose")
    return count
