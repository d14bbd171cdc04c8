"""The configuration of the node "Mine Items": that of any miner, and which items of the platform it reads."""

import copy
from collections.abc import Mapping
from typing import Any

from pydantic import Field

from alhelpers import mining
from alhelpers.configurations import Configuration, Integer, Text, described, read
from alhelpers.mining._plan import counts_boxes

#: The node's output list becomes one execution for each item, and the platform limits how many.
LARGEST_SIZE = 1000
REFERENCE_FILTER: dict[str, Any] = {
    "filter": {
        "$and": [{"hidden": False}, {"type": "file"}, {"metadata": {"system": {"tags": {"train": True}}}}]
    }
}


class Query(Configuration):
    """A query for items."""

    model_config = described("a query like that of train_subset_filter.json", extra="allow")

    filter: dict[str, Any] = Field(description="an object")


class NodeConfig(mining.MinerConfig):
    """A configuration of the node, and the fields that it needs of the waiting and of the labelled items."""

    size: Integer = Field(
        mining.DEFAULT_CONFIG["size"],
        description=f"a whole number of items a round, from 1 to {LARGEST_SIZE}",
        ge=1,
        le=LARGEST_SIZE,
    )
    wait_for: Integer = Field(
        1, description="a whole number of at least 1: how many items must wait before any is chosen", ge=1
    )
    predict_missing: bool = Field(
        True,
        description="true (the model predicts items that it has not predicted) or false (they are left out)",
    )
    feature_set: Text | None = Field(
        None, description="the name of a feature set whose vectors are the embeddings"
    )
    reference_filter: Query = Field(
        default_factory=lambda: Query(**copy.deepcopy(REFERENCE_FILTER)),
        description="a query like that of train_subset_filter.json",
    )

    @property
    def needs_predictions(self) -> bool:
        """Whether the waiting items must have predictions."""
        counted = self.max_boxes is not None
        return counted or bool(_fields_of(self.select)) or any(map(self._needs_predictions, self.needed))

    @property
    def needs_vectors(self) -> bool:
        """Whether any strategy uses the feature set's vectors of the waiting items."""
        return any(map(self._needs_vectors, self.needed))

    @property
    def metadata_fields(self) -> tuple[str, ...]:
        """The fields of the waiting items' own metadata in use, such as ``metadata.user.blur``."""
        names = {*_fields_of(self.select), *(name for each in self.needed for name in each.documents)}
        return tuple(sorted(name for name in names if name.startswith("metadata.")))

    @property
    def with_reference(self) -> tuple[str, ...]:
        """The strategies that use labelled items if there are any."""
        return tuple(dict.fromkeys(each.strategy for each in self._with_reference))

    @property
    def needing_reference(self) -> tuple[str, ...]:
        """The strategies that need labelled items."""
        return tuple(dict.fromkeys(each.strategy for each in self.needed if each.reference == "required"))

    @property
    def reference_predictions(self) -> bool:
        """Whether the labelled items must have predictions."""
        chosen_by = _fields_of(self.select_reference) - {"groundtruth"}
        embedded = [each for each in self._with_reference if _uses_embeddings(each)]
        return bool(chosen_by) or any(not self._needs_vectors(each) for each in embedded)

    @property
    def reference_vectors(self) -> bool:
        """Whether any strategy uses the feature set's vectors of the labelled items."""
        return any(map(self._needs_vectors, self._with_reference))

    @property
    def reference_labels(self) -> bool:
        """Whether the labels of labelled items are used."""
        by_label = any(not (_uses_embeddings(each) or counts_boxes([each])) for each in self._with_reference)
        return by_label or "groundtruth" in _fields_of(self.select_reference)

    @property
    def reference_boxes(self) -> bool:
        """Whether the labels of labelled boxes are used."""
        return counts_boxes(self.needed)

    @property
    def _with_reference(self) -> list[mining.Needed]:
        return [each for each in self.needed if each.reference != "none"]

    def _needs_predictions(self, needed: mining.Needed) -> bool:
        vectors = self._needs_vectors(needed)
        own = [need for need in needed.fields if need != ("metadata",)]
        return any(not vectors or "embeddings" not in need for need in own)

    def _needs_vectors(self, needed: mining.Needed) -> bool:
        return self.feature_set is not None and any("embeddings" in need for need in needed.fields)


def _uses_embeddings(needed: mining.Needed) -> bool:
    return any(
        field.removeprefix("detections.").startswith("embeddings") for need in needed.fields for field in need
    )


def _fields_of(select: Any) -> set[str]:
    """Return the fields that a choice of records uses, without the id, which every record has."""
    return {select.order_by, *(condition.left for condition in select.filters)} - {"id"}


def parse_config(config: Mapping[str, Any] | NodeConfig | None) -> NodeConfig:
    """Read and check a configuration, which `alhelpers.mining.run` takes as well; None means its default."""
    return read(NodeConfig, {} if config is None else config, "miner_configuration").checked()
