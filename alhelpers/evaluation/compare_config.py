"""The configuration of a comparison of two models, and the metrics that it can name."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, WithJsonSchema, field_validator, model_validator

from alhelpers.configurations import Configuration, Integer, Text, described, read
from alhelpers.evaluation.classification import Classifications
from alhelpers.evaluation.detection import Detections
from alhelpers.evaluation.measures import Measure
from alhelpers.evaluation.segmentation import Segmentations

DEFAULT_CONFIG: dict[str, Any] = {"precision_recall": {"iou_threshold": 0.5, "min_delta": 0}}

# ------------------------------------------------------------------------------
# values that the pipeline's editor may write as text
# ------------------------------------------------------------------------------

_NUMBER = r"^\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*$"
_INTEGER = r"^\s*[+-]?\d+\s*$"
_WINS = r"^\s*([Aa][Nn][Yy]|[Aa][Ll][Ll]|\+?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?)\s*$"
_TRUTH = r"^\s*([Tt][Rr][Uu][Ee]|[Yy][Ee][Ss]|1|[Ff][Aa][Ll][Ss][Ee]|[Nn][Oo]|0)\s*$"


def _read_number(value: Any) -> Any:
    return float(value) if isinstance(value, str) and re.match(_NUMBER, value) else value


def _read_integer(value: Any) -> Any:
    return int(value) if isinstance(value, str) and re.match(_INTEGER, value) else value


def _read_wins(value: Any) -> Any:
    return _read_number(value.strip().lower() if isinstance(value, str) else value)


def _read_truth(value: Any) -> Any:
    if isinstance(value, str) and re.match(_TRUTH, value):
        return value.strip().lower() in ("true", "yes", "1")
    return bool(value) if isinstance(value, int | float) and value in (0, 1) else value


def _or_text(kind: str, pattern: str) -> Any:
    return Field(json_schema_extra={"type": [kind, "string"], "pattern": pattern})


Number = Annotated[float, BeforeValidator(_read_number), _or_text("number", _NUMBER)]
Wins = Annotated[
    Annotated[float, Field(gt=0, le=1)] | Literal["any", "all"],
    BeforeValidator(_read_wins),
    WithJsonSchema({"type": ["number", "string"], "exclusiveMinimum": 0, "maximum": 1, "pattern": _WINS}),
]
Truth = Annotated[
    bool,
    BeforeValidator(_read_truth),
    WithJsonSchema({"type": ["boolean", "integer", "string"], "minimum": 0, "maximum": 1, "pattern": _TRUTH}),
]
Level = Annotated[float, Field(gt=0, lt=1), BeforeValidator(_read_number), _or_text("number", _NUMBER)]
Overlap = Annotated[float, Field(gt=0, le=1), BeforeValidator(_read_number), _or_text("number", _NUMBER)]
Points = Annotated[int, Field(ge=2), BeforeValidator(_read_integer), _or_text("integer", _INTEGER)]
Areas = Annotated[list[Annotated[float, Field(ge=0)]], Field(min_length=2, max_length=2)]
Size = Literal["small", "medium", "large"] | Areas
TestFilter = dict[str, Any] | None

#: One model's predictions beside the ground truth.
Model = Classifications | Detections | Segmentations

_MIN_DELTA = "a finite number, 0 or more: a worse model must not replace a better one"
_OVERLAP = "a finite number above 0 and at most 1"
_LEVEL = "a number above 0 and below 1, such as 0.95"
_POINTS = "an integer, 2 or more, such as 101 for COCO's average precision, or null for all points"
_SIZE = "'small', 'medium' or 'large', or the least and the greatest area such as [0, 1024], or null for all sizes"
_QUERY = "a query like that of test_subset_filter.json"

# ------------------------------------------------------------------------------
# metrics
# ------------------------------------------------------------------------------


class Metric(Configuration):
    """One metric to compare on the test items: which method of the models' predictions, with which options.

    Parameters
    ----------
    min_delta : float
        The new model must be better by more than this.
    min_confidence : float or None
        The level of the interval that must lie wholly beyond ``min_delta`` for the new model to win.
    """

    #: The key in the configuration, the words for it in a sentence, and the method that computes it.
    name: ClassVar[str]
    title: ClassVar[str]
    method: ClassVar[str]
    #: The types of annotations that it can compare; "pixels" are classes of all pixels.
    types: ClassVar[tuple[str, ...]] = ("class", "box", "binary")

    min_delta: Number = Field(0.0, ge=0, description=_MIN_DELTA)
    min_confidence: Level | None = Field(None, description=f"{_LEVEL}, or null for off")

    def measure(self, model: Model, **changes: Any) -> Measure:
        """Compute the metric of one model, with some options changed; those that its method lacks are not used."""
        compute = getattr(model, self.method)
        known = inspect.signature(compute).parameters
        options = self.model_dump() | changes
        return compute(**{name: value for name, value in options.items() if name in known})


class _OfObjects(Metric):
    """Average precision of boxes or masks.

    Parameters
    ----------
    points : int or None
        The mean of the precision at so many recalls; None for the area under all points.
    size : str, list of two numbers or None
        Only objects of a size, by name or by area.
    by_size : bool
        Whether the result also has the metric of small, medium and large objects.
    """

    points: Points | None = Field(None, description=_POINTS)
    size: Size | None = Field(None, description=_SIZE)
    by_size: Truth = Field(
        False, description="true or false: whether small, medium and large are reported, too"
    )


class PrecisionRecall(_OfObjects):
    """Average precision; of boxes or masks that overlap by at least ``iou_threshold``."""

    model_config = described(f"an object such as {DEFAULT_CONFIG['precision_recall']}")
    name, title, method = "precision_recall", "average precision", "average_precision"
    types = ("class", "box", "binary", "pixels")
    iou_threshold: Overlap = Field(0.5, description=_OVERLAP)
    test_filter: TestFilter = Field(None, description=_QUERY)


class Accuracy(Metric):
    """The share of items, or of pixels, whose class is right."""

    model_config = described("an object such as {'min_delta': 0}")
    name, title, method, types = "accuracy", "accuracy", "accuracy", ("class", "pixels")


class F1(Metric):
    """F1; of boxes that overlap by at least ``iou_threshold`` and have at least the score ``score_threshold``."""

    model_config = described(
        "an object such as {'iou_threshold': 0.5, 'score_threshold': 0.5, 'min_delta': 0}"
    )
    name, title, method = "f1", "F1", "f1"
    iou_threshold: Overlap = Field(0.5, description=_OVERLAP)
    score_threshold: Number = Field(0.5, ge=0, le=1, description="a number from 0 to 1")


class MeanAveragePrecision(_OfObjects):
    """The average precision of boxes or masks, averaged over the overlaps of COCO."""

    model_config = described("an object such as {'min_delta': 0}")
    name, title, types = "mean_average_precision", "mean average precision", ("box", "binary")
    method = "mean_average_precision"


class MeanIoU(Metric):
    """The intersection over union of the pixels of each class or label, averaged over these."""

    model_config = described("an object such as {'min_delta': 0}")
    name, title, method, types = "mean_iou", "mean IoU", "mean_iou", ("binary", "pixels")


class Calibration(Metric):
    """The expected calibration error over ``bins`` ranges of confidence; less is better."""

    model_config = described("an object such as {'bins': 10, 'min_delta': 0}")
    name, title, method = "calibration", "calibration error", "calibration_error"
    bins: Integer = Field(10, ge=1, le=1000, description="an integer from 1 to 1000")
    iou_threshold: Overlap = Field(0.5, description=_OVERLAP)


METRICS: tuple[type[Metric], ...] = (
    PrecisionRecall,
    Accuracy,
    F1,
    MeanAveragePrecision,
    MeanIoU,
    Calibration,
)

# ------------------------------------------------------------------------------
# the configuration
# ------------------------------------------------------------------------------


class Check(Configuration):
    """One training metric to compare."""

    model_config = described("an object with 'figure', 'legend' and 'maximize'")
    type: Literal["plot"] = Field("plot", description="'plot', the only type that is supported")
    figure: Text = Field(description="the figure that the training wrote")
    legend: Text = Field(description="the legend that the training wrote")
    maximize: Truth = Field(description="true (more is better) or false (less is better)")
    x_index: Annotated[Integer, BeforeValidator(_read_integer), _or_text("integer", _INTEGER)] = Field(
        -1, description="an integer: 0 is the first sample, -1 the last"
    )
    x_value: Number | None = Field(None, description="a finite number, or null")
    min_delta: Number = Field(0.0, ge=0, description=_MIN_DELTA)


class Bootstrap(Configuration):
    """How the interval of a difference is computed: the resamples, the share of them inside, and the seed."""

    model_config = described("an object such as {'samples': 1000, 'level': 0.95, 'seed': 0}")
    samples: Integer = Field(1000, ge=1, le=100_000, description="an integer from 1 to 100000")
    level: Level = Field(0.95, description=_LEVEL)
    seed: Integer = Field(0, ge=0, description="an integer, 0 or more")


def _optional(metric: type[Metric]) -> Any:
    description = metric.model_config["json_schema_extra"]["description"]
    return Field(None, description=f"{description}, or null for the defaults")


class CompareConfig(Configuration):
    """The configuration of a comparison: metrics on the test items, or checks of training metrics.

    An unknown key is the metric of another program: it is ignored, with a warning.

    Parameters
    ----------
    precision_recall, accuracy, f1, mean_average_precision, mean_iou, calibration : Metric or None
        What to compare on the test items; null in JSON means the defaults.
    checks : list of Check
        The training metrics.
    wins : float, "any" or "all"
        Which part of the metrics, or of the checks, the new model must win.
    test_filter : dict or None
        A query for the test items of all metrics, in the form of ``test_subset_filter.json``; that of
        ``precision_recall`` comes first.
    bootstrap : Bootstrap
        How the interval of a difference is computed.
    """

    model_config = described(f"an object such as {DEFAULT_CONFIG}", extra="allow")
    precision_recall: PrecisionRecall | None = _optional(PrecisionRecall)
    accuracy: Accuracy | None = _optional(Accuracy)
    f1: F1 | None = _optional(F1)
    mean_average_precision: MeanAveragePrecision | None = _optional(MeanAveragePrecision)
    mean_iou: MeanIoU | None = _optional(MeanIoU)
    calibration: Calibration | None = _optional(Calibration)
    checks: list[Check] = Field(
        [], min_length=1, description="a list with at least one check: without one no model can win"
    )
    wins: Wins = Field("all", description="a fraction above 0 and at most 1, 'any' or 'all'")
    test_filter: TestFilter = Field(None, description=_QUERY)
    bootstrap: Bootstrap = Field(
        Bootstrap(), description="an object such as {'samples': 1000, 'level': 0.95, 'seed': 0}"
    )

    # The keys in the order given: of several metrics the first one is the comparison's.
    _keys: tuple[str, ...] = ()

    @field_validator(*(metric.name for metric in METRICS), mode="before")
    @classmethod
    def _null_means_the_defaults(cls, section: Any) -> Any:
        return {} if section is None else section

    @model_validator(mode="wrap")
    @classmethod
    def _compares_something(cls, given: Any, handler: Any) -> CompareConfig:
        config = handler(given)
        if isinstance(given, dict):
            config._keys = tuple(given)
        if not config.metrics and not config.checks:
            if "wins" in given:
                raise ValueError(
                    f"{given!r} has 'wins' and needs at least one check or metric: without one no model can win"
                )
            raise ValueError(f"{given!r} names nothing to compare: use for example {DEFAULT_CONFIG}")
        return config

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """The metrics on the test items, in the order of the configuration."""
        names = {metric.name for metric in METRICS}
        return tuple(getattr(self, key) for key in self._keys if key in names)

    @property
    def test_query(self) -> dict[str, Any] | None:
        """The query for the test items, or None for those that either model has predictions on."""
        own = self.precision_recall.test_filter if self.precision_recall else None
        return own or self.test_filter or None

    @property
    def warnings(self) -> list[str]:
        """What is ignored."""
        known = ", ".join(repr(name) for name in (*(metric.name for metric in METRICS), "checks"))
        return [
            f"metric {key!r} is not known and ignored; known are {known} with 'wins'"
            for key in self.model_extra or ()
        ]


def read_compare_config(config: Mapping[str, Any] | CompareConfig | None) -> CompareConfig:
    """Check the configuration of a comparison; the given object is not changed.

    Parameters
    ----------
    config : mapping, CompareConfig or None
        Metrics on the test items, ``{"precision_recall": {"iou_threshold": 0.5, "min_delta": 0}, "accuracy": {},
        "f1": {}, "mean_average_precision": {"points": 101, "by_size": true}, "mean_iou": {}, "calibration":
        {"bins": 10}}``, each with ``min_delta`` and ``min_confidence``; or training metrics, ``{"checks": [{"type":
        "plot", "figure", "legend", "x_index" | "x_value", "maximize", "min_delta"}]}``; and ``"wins": 0.6 | "any" |
        "all"``, how many of them must be won. None and ``{}`` mean `DEFAULT_CONFIG`.

    Returns
    -------
    CompareConfig
        The configuration.

    Raises
    ------
    ValueError
        For an unknown key or a value that cannot be used, and where nothing to compare is left.
    """
    return read(CompareConfig, DEFAULT_CONFIG if config is None or config == {} else config, "compare_config")
