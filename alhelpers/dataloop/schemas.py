"""Every kind of configuration file: its model, a check of a file, and its JSON schema for an editor's help.

``python -m alhelpers.dataloop.schemas FOLDER`` writes all schemas.
"""

import fnmatch
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alhelpers import configurations
from alhelpers.configurations import Configuration
from alhelpers.data.splitting import SplitConfiguration
from alhelpers.dataloop.manifest import Manifest, Pipeline
from alhelpers.dataloop.miner_config import NodeConfig
from alhelpers.dataloop.model_names import CreateModelConfig
from alhelpers.dataloop.subset_filters import SubsetFilter
from alhelpers.evaluation import CompareConfig


@dataclass(frozen=True)
class Kind:
    """One kind of configuration file."""

    pattern: str
    name: str
    title: str
    model: type[Configuration]
    check: Callable[[Any], object] | None = None

    @property
    def schema(self) -> dict[str, Any]:
        """The JSON schema."""
        return configurations.json_schema(self.model, self.title)

    def read(self, config: Any, name: str) -> None:
        """Raise a ValueError unless a configuration, which errors call `name`, is valid."""
        config = configurations.read(self.model, config, name)
        if self.check is not None:
            try:
                self.check(config)
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from error


#: The first kind whose pattern matches a file's name counts.
KINDS = (
    Kind("*_subset_filter.json", "subset_filter", "subset filter", SubsetFilter),
    Kind("compare_configurations*.json", "compare_configuration", "compare configuration", CompareConfig),
    Kind(
        "miner_configurations*.json",
        "miner_configuration",
        "miner configuration",
        NodeConfig,
        NodeConfig.checked,
    ),
    Kind("dataloop.json", "app_manifest", "app manifest", Manifest),
    Kind("*pipeline*.json", "pipeline", "pipeline", Pipeline),
    Kind(
        "data_split_node*.json",
        "data_split_node",
        "Model Data Split",
        SplitConfiguration,
        SplitConfiguration.parsed_groups,
    ),
    Kind("create_new_model_node*.json", "create_new_model_node", "Create New Model", CreateModelConfig),
)


def check_file(path: str | Path, name: str | None = None) -> str:
    """Check a configuration file by the kind of this name or, without one, by that which the file's name matches."""
    path = Path(path)
    if name is not None and name not in (known := [kind.name for kind in KINDS]):
        raise ValueError(f"kind {name!r} is unknown: it must be one of {', '.join(known)}")
    kind = next(
        (kind for kind in KINDS if (kind.name == name if name else fnmatch.fnmatch(path.name, kind.pattern))),
        None,
    )
    if kind is None:
        patterns = ", ".join(kind.pattern for kind in KINDS)
        raise ValueError(
            f"{path.name!r} is not a name of a known kind: name it like one of {patterns}, or say what it is, such as"
            " --kind miner_configuration"
        )
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path.name} is not JSON: {error}") from error
    kind.read(config, path.name)
    return kind.name


def write(folder: str | Path) -> list[Path]:
    """Write every schema as ``<kind>.schema.json`` and return the paths."""
    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    written = []
    for kind in KINDS:
        path = target / f"{kind.name}.schema.json"
        path.write_text(json.dumps(kind.schema, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        written.append(path)
    return written


if __name__ == "__main__":
    for written_path in write(sys.argv[1]):
        print(written_path)
