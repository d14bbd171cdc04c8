import math
from types import MappingProxyType
from typing import Annotated, Literal

import pytest
from jsonschema import Draft202012Validator
from pydantic import Field, field_validator

from alhelpers.configurations import Configuration, Integer, Text, described, json_schema, read, shipped


class Check(Configuration):
    """Nobody reads this docstring in an error."""

    model_config = described("a check")
    figure: Text = Field(description="a name")


class Size(Configuration):
    model_config = described("an object with 'size'")
    size: Integer = Field(ge=1, description="an integer of at least 1")
    share: float = Field(0, ge=0, le=1, description="a number from 0 to 1")
    wins: Annotated[float, Field(gt=0)] | Literal["any", "all"] = Field(
        "all", description="a fraction, 'any' or 'all'"
    )
    checks: list[Check] = Field([], description="a list of checks")
    one: Check | None = Field(None, description="a check, or null")
    more: dict[str, Check] = Field({}, description="an object of checks")
    even: Integer = Field(0, description="an even integer")
    undescribed: bool = False

    @field_validator("even")
    @classmethod
    def _is_even(cls, value):
        if value == 13:
            raise ValueError("brings bad luck")
        if value % 2:
            raise ValueError
        return value


@pytest.mark.parametrize(
    ("good", "expected"),
    [
        ({"size": 1}, {"size": 1}),
        ({"size": 2.0, "share": 1, "wins": "any"}, {"size": 2, "share": 1.0, "wins": "any"}),
        ({"size": 3, "wins": 0.5, "checks": [{"figure": "loss"}]}, {"wins": 0.5}),
        ({"size": 3, "checks": (MappingProxyType({"figure": "loss"}),)}, {"checks": [Check(figure="loss")]}),
        (MappingProxyType({"size": 3, "one": {"figure": "x"}}), {"one": Check(figure="x")}),
        (Size(size=5), {"size": 5}),
    ],
)
def test_a_configuration_that_fits_is_returned_as_a_model(good, expected):
    config = read(Size, good, "config")
    assert {key: getattr(config, key) for key in expected} == expected
    assert type(config.size) is int and read(Size, config, "config") is config


def test_a_model_shares_nothing_with_what_was_given_and_cannot_be_changed():
    given = {"size": 1, "checks": [{"figure": "x"}]}
    config = read(Size, given, "config")
    given["checks"].append(1)
    assert config.checks == [Check(figure="x")]
    with pytest.raises(ValueError, match="frozen"):
        config.size = 2


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (None, "config None must be an object with 'size'"),
        ([], r"config \[\] must be an object with 'size'"),
        ("{}", "config '{}' must be an object with 'size'"),
        ({}, "config lacks 'size', which must be an integer of at least 1: {}"),
        ({"size": 0}, "config.size 0 must be an integer of at least 1"),
        ({"size": True}, "config.size True must be an integer"),
        ({"size": 1.5}, "config.size 1.5 must be an integer"),
        ({"size": math.inf}, "config.size inf must be an integer"),
        ({"size": "1"}, "config.size '1' must be an integer"),
        ({"size": 1, "share": math.nan}, "config.share nan must be a number from 0 to 1"),
        ({"size": 1, "share": math.inf}, "config.share inf must be a number from 0 to 1"),
        ({"size": 1, "share": True}, "config.share True must be a number from 0 to 1"),
        ({"size": 1, "share": 10**400}, "config.share 1000*0 must be a number from 0 to 1"),
        ({"size": 1, "wins": "most"}, "config.wins 'most' must be a fraction, 'any' or 'all'"),
        ({"size": 1, "wins": {}}, "config.wins {} must be a fraction, 'any' or 'all'"),
        (
            {"sise": 1},
            "config has the unknown key 'sise'; known are 'size', 'share', .*; did you mean 'size'?",
        ),
        ({"size": 1, "colour": 1}, "config has the unknown key 'colour'; known are .*'undescribed'$"),
        ({"size": 1, 5: 1}, "config has the unknown key 5; known are 'size', 'share'"),
        ({"size": 1, "checks": {}}, "config.checks {} must be a list of checks"),
        ({"size": 1, "checks": ["x"]}, r"config.checks\[0\] 'x' must be a check"),
        ({"size": 1, "checks": [{"figure": "x"}, {}]}, r"config.checks\[1\] lacks 'figure', which must be a"),
        ({"size": 1, "checks": [{"figure": 3}]}, r"config.checks\[0\].figure 3 must be a name"),
        ({"size": 1, "checks": [{"figure": ""}]}, r"config.checks\[0\].figure '' must be a name"),
        ({"size": 1, "checks": [{"figure": "x", "y": 1}]}, r"config.checks\[0\] has the unknown key 'y'"),
        (
            {"size": 1, "one": {"figure": "x", "y": 1}},
            "config.one has the unknown key 'y'; known are 'figure'",
        ),
        ({"size": 1, "one": 5}, "config.one 5 must be a check, or null"),
        ({"size": 1, "more": {"Check": {}}}, "config.more.Check lacks 'figure', which must be a name"),
        ({"size": 1, "checks": [{}], "share": 7}, "config.share 7 must be"),
        ({"size": 1, "even": 3}, "config.even 3 must be an even integer"),
        ({"size": 1, "even": 13}, "config.even brings bad luck"),
        ({"size": 1, "undescribed": 1}, "config.undescribed 1: Input should be a valid boolean"),
    ],
)
def test_an_error_names_the_place_the_value_and_what_it_must_be(bad, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        read(Size, bad, "config")


def test_the_schema_holds_the_descriptions():
    schema = json_schema(Size, "Size")
    Draft202012Validator.check_schema(schema)
    assert schema["title"] == "Size" and schema["description"] == "an object with 'size'"
    assert schema["properties"]["size"] == {
        "description": "an integer of at least 1",
        "minimum": 1,
        "type": "integer",
    }
    assert schema["$defs"]["Check"]["description"] == "a check"
    assert schema["additionalProperties"] is False and schema["required"] == ["size"]


def test_what_the_kit_ships_is_read_anew():
    first, second = (shipped("test_subset_filter.json") for _ in range(2))
    assert first == second and first["filter"] is not second["filter"]
    for name in ("missing.json", "../pyproject.toml", "schemas/pipeline.schema.json", "README.md"):
        with pytest.raises(ValueError, match="the kit ships no .*: it has active_learning_pipeline.json, "):
            shipped(name)
