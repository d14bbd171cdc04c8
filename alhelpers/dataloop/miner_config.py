"""The configuration of the node "Mine Items": that of any miner, and which items of the platform it reads."""

import copy
from collections.abc import Mapping
from typing import Any

from pydantic import Field

from alhelpers import mining
from alhelpers.configurations import Configuration, Integer, Text, described, read

#: The node's output list becomes one execution for each item, and the platform limits how many.
LARGEST_SIZE = 1000
REFERENCE_FILTER: dict[str, Any] = {
    "filter": {
        "$and": [{"hidden": False}, {"type": "file"}, {"metadata": {"system": {"tags": {"train": True}}}}]
    }
}
#: The name of a strategy and its options.
Stage = tuple[str, dict[str, Any]]


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
        return bool(_fields_of(self.select)) or any(map(self._needs_predictions, self.stages))

    @property
    def needs_vectors(self) -> bool:
        """Whether any strategy uses the feature set's vectors of the waiting items."""
        return any(map(self._needs_vectors, self.stages))

    @property
    def with_reference(self) -> tuple[str, ...]:
        """The strategies that use labelled items if there are any."""
        return tuple(name for name in self.strategies if _described(name)["reference"] != "none")

    @property
    def needing_reference(self) -> tuple[str, ...]:
        """The strategies that need labelled items."""
        return tuple(name for name in self.strategies if _described(name)["reference"] == "required")

    @property
    def reference_predictions(self) -> bool:
        """Whether the labelled items must have predictions."""
        chosen_by = _fields_of(self.select_reference) - {"groundtruth"}
        embedded = [stage for stage in self._reference_stages if _uses_embeddings(stage)]
        return bool(chosen_by) or any(not self._needs_vectors(stage) for stage in embedded)

    @property
    def reference_vectors(self) -> bool:
        """Whether any strategy uses the feature set's vectors of the labelled items."""
        return any(map(self._needs_vectors, self._reference_stages))

    @property
    def reference_labels(self) -> bool:
        """Whether the labels of labelled items are used."""
        by_label = any(not _uses_embeddings(stage) for stage in self._reference_stages)
        return by_label or "groundtruth" in _fields_of(self.select_reference)

    @property
    def _reference_stages(self) -> list[Stage]:
        return [stage for stage in self.stages if stage[0] in self.with_reference]

    def _needs_predictions(self, stage: Stage) -> bool:
        vectors = self._needs_vectors(stage)
        return any(not vectors or "embeddings" not in need for need in _described(stage[0])["fields"])

    def _needs_vectors(self, stage: Stage) -> bool:
        default_layer = stage[1].get("layer") is None
        return self.feature_set is not None and default_layer and _uses_embeddings(stage)


def _described(strategy: str) -> dict[str, Any]:
    return mining.strategies()[strategy]


def _uses_embeddings(stage: Stage) -> bool:
    return any("embeddings" in need for need in _described(stage[0])["fields"])


def _fields_of(select: Any) -> set[str]:
    """Return the fields that a choice of records uses, without the id, which every record has."""
    return {select.order_by, *(condition.left for condition in select.filters)} - {"id"}


def parse_config(config: Mapping[str, Any] | NodeConfig | None) -> NodeConfig:
    """Read and check a configuration, which `alhelpers.mining.run` takes as well; None means its default."""
    return read(NodeConfig, {} if config is None else config, "miner_configuration").checked()
