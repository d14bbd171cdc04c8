"""Mining: choose the records of a pool that are most worth labelling.

:func:`mine` runs one strategy, :func:`combine` several, :func:`strategies` lists them. Each strategy is one function
in the file of its family; its docstring describes the score, when to use it and when it fails. In place of a strategy's
name may stand a score of one's own: that of a number of the records, or a function (:func:`mine`). :func:`run` runs a
miner configuration, a JSON object; :func:`read_picks` and :func:`append_picks` store the picks of its rounds.
:func:`cluster_cost` predicts what a pool takes on a cluster.
"""

from typing import Any

from alhelpers.mining._box_errors import BoxErrors, box_label_errors, relabel_boxes
from alhelpers.mining._cluster_cost import ClusterCost, cluster_cost
from alhelpers.mining._combine import combine
from alhelpers.mining._configuration import DEFAULT_CONFIG, MinerConfig, config_schema, parse_config, run
from alhelpers.mining._consensus import MISSING, Consensus, consensus, label_errors
from alhelpers.mining._mine import mine, strategies
from alhelpers.mining._picks import append_picks, picks_of, read_picks
from alhelpers.mining._plan import Needed, needed_fields
from alhelpers.mining._relabel import relabel
from alhelpers.mining._selection import (
    MiningError,
    MissingField,
    PoolExhausted,
    Selection,
    UnknownOption,
    UnknownStrategy,
)
from alhelpers.mining._stop import Criterion, stop

__all__ = [
    "BoxErrors",
    "CONFIG_SCHEMA",
    "ClusterCost",
    "Consensus",
    "Criterion",
    "DEFAULT_CONFIG",
    "MISSING",
    "MinerConfig",
    "MiningError",
    "MissingField",
    "Needed",
    "PoolExhausted",
    "Selection",
    "UnknownOption",
    "UnknownStrategy",
    "append_picks",
    "box_label_errors",
    "cluster_cost",
    "combine",
    "consensus",
    "label_errors",
    "mine",
    "needed_fields",
    "parse_config",
    "picks_of",
    "read_picks",
    "relabel",
    "relabel_boxes",
    "run",
    "stop",
    "strategies",
]


def __getattr__(name: str) -> Any:
    """Make ``CONFIG_SCHEMA`` when it is first asked for: it takes a tenth of the time of importing this package."""
    if name == "CONFIG_SCHEMA":
        return config_schema()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
