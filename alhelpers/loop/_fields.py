"""The fields of records that the strategies of a plan need, and the learners' predictions that become them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from alhelpers import mining, records
from alhelpers.mining._plan import counts_boxes
from alhelpers.protocols import Dataset, Learner, Predictions
from alhelpers.uncertainty import Committee

if TYPE_CHECKING:
    import pyarrow as pa

# What a learner predicts; of the fields that meet a need the first one among these is computed.
_PREDICTED = ("confidences", "logits", "embeddings", "mc_dropout", "query_by_committee")
# What comes with its records.
_DERIVED = ("id", "confidence", "class_name", "class_names", "metadata")
_SIDES = ("left", "top", "width", "height")
# Of a regression: its name under metadata, and what it lacks.
_VALUE = "value"
_OF_CLASSES = ("confidences", "logits", "confidence", "class_name")

# What a detector predicts of boxes, without and with passes, and what any model of images predicts beside.
_OF_BOXES = tuple(
    f"detections.{name}" for name in ("confidence", "confidences", "class_name", "embeddings", *_SIDES)
)
_OF_PASSES = tuple(
    f"detections.{name}"
    for name in (
        "class_certainty",
        "location_certainty",
        "existence_certainty",
        "object_certainty",
        "box_variance",
    )
)
_OF_IMAGES = ("id", "class_names", "embeddings", "metadata")
_KNOWN = {
    "detection": (("detections", *_OF_BOXES, *_OF_PASSES), _OF_IMAGES),
    "segmentation": (_OF_IMAGES,),
}
# What to do about a field that is not predicted; of some tasks more than the last.
_WRITE = "write records with it, and pass them to alhelpers.mining.mine({!r})"
_WAYS = {
    "detection": f"take a strategy of boxes, such as 'box_uncertainty', or {_WRITE}",
    "segmentation": f"take a number that it predicts of images, such as 'metadata.bald', or {_WRITE}",
}


def named_plan(strategy: Any, options: dict[str, Any] | None = None) -> Any:
    """Return the plan of one strategy with its options, or a plan as it is."""
    single = isinstance(strategy, str) or callable(strategy)
    return {"strategy": strategy, "options": options or {}} if single else strategy


def task_of(learner: Learner, dataset: Dataset) -> str:
    """Return the task of a learner: its own if it has one, or else that of the data set."""
    return getattr(learner, "task", None) or dataset.task


def _check_metadata(found: Sequence[mining.Needed], names: Collection[str] | None) -> None:
    """Raise if a strategy reads metadata that is neither among the names nor predicted; None: there can be none."""
    for each in found:
        asked = [name.removeprefix("metadata.") for name in each.documents if name.startswith("metadata.")]
        lacking = [name for name in asked if name != _VALUE and name not in (names or ())]
        if lacking:
            way = f"write records with it, and pass them to alhelpers.mining.mine({each.strategy!r})"
            if names is not None:
                there = f", which has: {', '.join(map(str, names))}" if names else ""
                way = f"pass it in metadata={{{lacking[0]!r}: one value for each row}}{there}"
            raise mining.MissingField(
                f"strategy {each.strategy!r} needs metadata.{lacking[0]}, which the learner does not predict: {way}"
            )


class Fields:
    """What the strategies of a plan read of records, and no more.

    Parameters
    ----------
    plan : mapping or list of mapping
        What :func:`alhelpers.mining.combine` takes.
    learners : sequence of Learner
        They predict the fields together; the first one alone computes the embeddings.
    passes : int
        MC-dropout passes of each learner, where a strategy needs them.
    change : callable, optional
        Takes confidences (N, C) or (N, T, C) and returns those that strategies see.
    metadata : collection of str, optional
        Names of what the caller adds under ``metadata``. None: it adds nothing.
    task : str
        What the learners predict; see :func:`task_of`.
    beside : collection of str
        Fields that are needed beside those of the strategies.
    """

    def __init__(
        self,
        plan: Any,
        learners: Sequence[Learner],
        passes: int,
        change: Callable[[np.ndarray], np.ndarray] | None = None,
        metadata: Collection[str] | None = None,
        task: str = "classification",
        beside: Collection[str] = (),
    ) -> None:
        self.learners, self.passes, self._change, self._task = learners, passes, change, task
        found = mining.needed_fields(plan)
        if task != "segmentation":  # whose scores of images are known when they are predicted
            _check_metadata(found, metadata)
        asked = {name for each in found for name in each.documents}
        given = {f"metadata.{name}" for name in metadata or ()}
        # Numbers under metadata that are predicted: of a regression its value, else those that the caller does not add.
        self._scores = asked - given if task == "segmentation" else asked & {f"metadata.{_VALUE}"}
        # What is there without a prediction.
        self._known = {"id"} | ({"metadata"} if metadata and not self._scores else set())
        self.strategies = [each.strategy for each in found]
        self.compares = any(each.reference != "none" for each in found)
        # The first strategy that needs labelled records, and what of them beside their predictions is used.
        self.requires = next((each.strategy for each in found if each.reference == "required"), None)
        self.extras = {name for each in found for name in each.reference_extras}
        self.needed = {self._chosen(each.strategy, need) for each in found for need in each.fields} | {
            *beside
        }
        self.counts_boxes = counts_boxes(found)
        if task in _KNOWN and change is not None:
            raise mining.MiningError(f"confidences of a {task} cannot be changed: leave the temperature at 1")

    def _chosen(self, strategy: str, need: Sequence[str]) -> str:
        """Return which of the fields that meet a need is computed."""
        committee = len(self.learners) > 1 or isinstance(self.learners[0], Committee)
        order = _KNOWN.get(self._task, (_PREDICTED, _DERIVED))
        possible = [name for known in order for name in need if name in known]
        if "query_by_committee" in possible:  # what members disagree on comes without passes
            others = [name for name in possible if name != "query_by_committee"]
            possible = ["query_by_committee"] if committee else others
        if not possible:
            way = _WAYS.get(self._task, _WRITE).format(strategy)
            if "query_by_committee" in need and self._task not in _WAYS:
                way = "pass several members, such as alhelpers.uncertainty.Committee(learner)"
            raise mining.MissingField(
                f"strategy {strategy!r} needs {' or '.join(need)}, which the learner does not predict: {way}"
            )
        return possible[0]

    def records(
        self, dataset: Dataset, ids: Sequence[Any], seeds: Sequence[int], *, samples: bool = True
    ) -> pa.Table:
        """Return records of a data set with the needed fields; of the labelled ones no samples are needed."""
        if self.needed <= self._known:
            return records.from_arrays(ids)
        sampled = self.needed & {"mc_dropout", *_OF_PASSES} or (self._scores and self._task == "segmentation")
        merged = self._task in _KNOWN and len(self.learners) > 1  # members are samples, too
        passes = self.passes if samples and sampled and not merged else 0
        embedded = bool(self.needed & {"embeddings", "detections.embeddings"})
        predictions = [
            learner.predict(dataset, passes=passes, embeddings=embedded and not place, seed=seed)
            for place, (learner, seed) in enumerate(zip(self.learners, seeds, strict=True))
        ]
        self._check_task(predictions[0])
        if merged:
            predictions = [type(predictions[0]).merged(predictions)]
        if len(predictions) == 1 and self._change is None:
            table = predictions[0].to_records(ids)
            self._check_scores(table)
            kept = {"id", "class_names", *(name.partition(".")[0] for name in self.needed)}
            return table.select([name for name in table.column_names if name in kept])
        fields = self._joined(predictions, ids)
        # what is derived comes of the confidences
        kept = self.needed | ({"confidences"} if self.needed & {*_DERIVED} else set())
        return records.from_arrays(ids, **{name: fields[name] for name in fields.keys() & kept})

    def _check_task(self, predictions: Predictions) -> None:
        """Raise if the strategies are for classes and the learner predicts numbers, or the other way round."""
        if getattr(predictions, "values", None) is not None:
            lacking = [name for name in _OF_CLASSES if name in self.needed]
            if lacking:
                raise mining.MissingField(
                    f"strategy {'+'.join(self.strategies)!r} needs {lacking[0]}, and the learner is of a regression,"
                    " which has none: take 'spread' with passes or a committee, or one that needs embeddings, such as"
                    " 'coreset'"
                )
        elif "metadata" in self.needed - self._known and self._task != "segmentation":
            raise mining.MissingField(
                f"strategy {'+'.join(self.strategies)!r} needs metadata, which only a regression predicts, its 'value':"
                " pass metadata=, one value for each row, where it can be passed"
            )

    def _check_scores(self, table: pa.Table) -> None:
        """Raise if a segmenter does not predict a score of images that a strategy reads."""
        if self._task != "segmentation":
            return
        there = table.schema.field("metadata").type if "metadata" in table.column_names else ()
        names = [f"metadata.{field.name}" for field in there]
        lacking = sorted(self._scores - set(names))
        if lacking:
            raise mining.MissingField(
                f"strategy {'+'.join(self.strategies)!r} needs {lacking[0]}, which the learner does not predict: it"
                f" predicts {', '.join(names) or 'none'}; pass metadata=, one value for each row, where it can be"
                " passed"
            )

    def _joined(self, predictions: Sequence[Predictions], ids: Sequence[Any]) -> dict[str, np.ndarray]:
        """Return the fields of all learners' predictions: means, samples side by side, the first one's embeddings."""
        each = [self._changed(prediction, ids) for prediction in predictions]
        fields = {}
        if len(each) > 1:
            outputs = [one["confidences"] if "confidences" in one else one["values"] for one in each]
            fields["query_by_committee"] = np.stack(outputs, axis=1)
        for name, values in each[0].items():
            if name in ("confidences", "logits"):
                fields[name] = np.mean([one[name] for one in each], axis=0)
            elif name in ("mc_dropout", "query_by_committee"):
                fields[name] = np.concatenate([one[name] for one in each], axis=1)
            elif name == "embeddings":
                fields[name] = values
        return fields

    def _changed(self, prediction: Predictions, ids: Sequence[Any]) -> dict[str, np.ndarray]:
        """Return the arrays of a prediction by their names in records, and those of a regression as values (N, O)."""
        table = prediction.to_records(ids)
        fields = {name: records.column(table, name) for name in _PREDICTED if name in table.column_names}
        if self._change is not None:
            changed = fields.keys() & {"confidences", "mc_dropout", "query_by_committee"}
            fields |= {name: self._change(fields[name]) for name in changed}
        if (values := getattr(prediction, "values", None)) is not None:
            fields["values"] = np.asarray(values, dtype=np.float32).reshape(len(ids), -1)
        return fields
