"""The configuration of a split, as the node "Model Data Split" reads it."""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from alhelpers.configurations import Configuration, Integer, described
from alhelpers.data.splitting.groups import Group, parse_groups

#: The groups of a split that is not configured, with their shares in percent.
DEFAULT_CONFIG: dict[str, Any] = {
    "name": "Model Data Split",
    "distributeEqually": False,
    "groups": [
        {"id": "train", "name": "train", "distribution": 80},
        {"id": "validation", "name": "validation", "distribution": 10},
        {"id": "test", "name": "test", "distribution": 10},
    ],
    "itemMetadata": True,
}


class GroupConfiguration(Configuration):
    """A group of the split and its share of the items."""

    model_config = described("an object with 'name' and 'distribution'")

    id: str | int | float | None = Field(None, description="a text or a number")
    name: str = Field(
        description="a text with neither '.' nor '$': it becomes the key of a tag",
        json_schema_extra={"pattern": r"^[^.$]*[^.$\s][^.$]*$"},  # checked where groups are parsed
    )
    distribution: Any = Field(
        None,
        description="a number of 0 or more, such as 80 or '33.3%'; it is read unless 'distributeEqually' is true",
        json_schema_extra={"type": ["number", "string", "null"]},
    )


def _as_list(groups: Any) -> Any:
    if isinstance(groups, Mapping):
        return [{"name": name, "distribution": share} for name, share in groups.items()]
    return groups


class SplitConfiguration(Configuration):
    """The groups of a split and the settings of its node: the editor's, and ours (seed, groupBy, clearModelInfo)."""

    model_config = described("an object with the groups of the split")

    name: str = Field("Model Data Split", description="the node's name")
    distributeEqually: bool = Field(False, description="true, for the same share for every group, or false")
    groups: Annotated[
        list[GroupConfiguration],
        BeforeValidator(_as_list, json_schema_input_type=list[GroupConfiguration] | dict[str, Any]),
    ] = Field(
        description="a list of at least one group with a name and a distribution, or {name: distribution}"
    )
    itemMetadata: bool = Field(False, description="true, to tag the items with their group, or false")
    validation: Any = Field(None, description="the findings of the pipeline's editor")
    ports: list[Any] | None = Field(None, description="a list of the node's ports")
    seed: Integer | str = Field(0, description="a whole number or a text: another seed, another split")
    groupBy: str | None = Field(
        None,
        description="a dotted path into the item, such as 'metadata.user.source' or 'dir'",
        pattern=r"^[^.\s]+(\.[^.]+)*$",
    )
    clearModelInfo: bool = Field(
        True, description="true, to make reviewed predictions ground truth, or false"
    )

    def parsed_groups(self) -> tuple[Group, ...]:
        """Return the groups with their weights; raises as `parse_groups` does."""
        pairs = [{"name": group.name, "distribution": group.distribution} for group in self.groups]
        return parse_groups(pairs, self.distributeEqually)
