"""Mining: choose the records of a pool that are worth a label.

:func:`mine` runs one strategy, :func:`combine` several, :func:`strategies` lists them. Each strategy stands
in the file of its family as one function, whose docstring says what it computes, when to use it and when it
fails. :func:`run` runs a miner configuration, a JSON object; :func:`read_picks` and :func:`append_picks` keep
what its rounds chose.
"""

from alhelpers.mining._combine import combine
from alhelpers.mining._configuration import CONFIG_SCHEMA, DEFAULT_CONFIG, MinerConfig, parse_config, run
from alhelpers.mining._mine import mine, strategies
from alhelpers.mining._picks import append_picks, picks_of, read_picks
from alhelpers.mining._selection import (
    MiningError,
    MissingField,
    PoolExhausted,
    Selection,
    UnknownOption,
    UnknownStrategy,
)

__all__ = [
    "CONFIG_SCHEMA",
    "DEFAULT_CONFIG",
    "MinerConfig",
    "MiningError",
    "MissingField",
    "PoolExhausted",
    "Selection",
    "UnknownOption",
    "UnknownStrategy",
    "append_picks",
    "combine",
    "mine",
    "parse_config",
    "picks_of",
    "read_picks",
    "run",
    "strategies",
]
