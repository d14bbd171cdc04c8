import math
from types import MappingProxyType

import pytest

from alhelpers.configurations import check

SCHEMA = {
    "description": "an object with 'size'",
    "type": "object",
    "properties": {
        "size": {"description": "a whole number of at least 1", "type": "integer", "minimum": 1},
        "share": {"description": "a number from 0 to 1", "type": "number", "minimum": 0, "maximum": 1},
        "wins": {
            "description": "a fraction, 'any' or 'all'",
            "anyOf": [{"type": "number", "exclusiveMinimum": 0}, {"enum": ["any", "all"]}],
        },
        "checks": {
            "description": "a list of checks",
            "type": "array",
            "items": {
                "description": "a check",
                "type": "object",
                "properties": {"figure": {"description": "a name", "type": "string"}},
                "required": ["figure"],
                "additionalProperties": False,
            },
        },
    },
    "required": ["size"],
    "additionalProperties": False,
}


@pytest.mark.parametrize(
    "good",
    [
        {"size": 1},
        {"size": 2.0, "share": 0.5, "wins": "any"},
        {"size": 3, "wins": 0.5, "checks": [{"figure": "loss"}]},
        {"size": 3, "checks": ({"figure": "loss"},)},
        MappingProxyType({"size": 3}),
    ],
)
def test_what_fits_passes(good):
    check(good, SCHEMA, "config")


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (None, "config None must be an object with 'size'"),
        ([], r"config \[\] must be an object with 'size'"),
        ({}, "config lacks 'size', which must be a whole number of at least 1"),
        ({"size": 0}, "config.size 0 must be a whole number of at least 1"),
        ({"size": True}, "config.size True must be a whole number"),
        ({"size": 1.5}, "config.size 1.5 must be a whole number"),
        ({"size": "1"}, "config.size '1' must be a whole number"),
        ({"size": 1, "share": math.nan}, "config.share nan must be a number from 0 to 1"),
        ({"size": 1, "share": math.inf}, "config.share inf must be a number from 0 to 1"),
        ({"size": 1, "wins": "most"}, "config.wins 'most' must be a fraction, 'any' or 'all'"),
        ({"size": 1, "wins": {}}, "config.wins {} must be a fraction, 'any' or 'all'"),
        ({"sise": 1}, "config has the unknown key 'sise'; known are 'size', 'share', 'wins', 'checks'"),
        ({"size": 1, "checks": {}}, "config.checks {} must be a list of checks"),
        ({"size": 1, "checks": [{"figure": "x"}, {}]}, r"config.checks\[1\] lacks 'figure', which must be a"),
        ({"size": 1, "checks": [{"figure": 3}]}, r"config.checks\[0\].figure 3 must be a name"),
        ({"size": 1, "checks": [{"figure": "x", "y": 1}]}, r"config.checks\[0\] has the unknown key 'y'"),
    ],
)
def test_what_does_not_is_named(bad, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        check(bad, SCHEMA, "config")


def test_without_a_description_the_library_says_what_is_wrong():
    with pytest.raises(ValueError, match="^config.size: 'a' is not of type 'number'"):
        check({"size": "a"}, {"properties": {"size": {"type": "number"}}}, "config")
