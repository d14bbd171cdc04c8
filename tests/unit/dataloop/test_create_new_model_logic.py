from types import SimpleNamespace

import dtlpy as dl
import pytest

from alhelpers.dataloop.create_new_model import _clone_with_free_name, merged_configuration


def test_the_base_configuration_is_copied_deeply():
    base = {"epochs": 3, "nested": {"a": 1}}
    merged = merged_configuration(base, {"epochs": 5})
    assert merged == {"epochs": 5, "nested": {"a": 1}}
    merged["nested"]["a"] = 2
    assert base == {"epochs": 3, "nested": {"a": 1}}
    assert merged_configuration(base, {}) == base == merged_configuration(base, None)
    assert merged_configuration(None, None) == {}
    with pytest.raises(ValueError, match="must be an object"):
        merged_configuration(base, ["epochs"])


class Refusing:
    """A base model whose clone is refused, and a dataset in whose project some names are taken."""

    def __init__(self, error, *taken):
        self.error, self.taken, self.tried = error, set(taken), []
        self.configuration, self.project, self.models = {}, self, self

    def clone(self, model_name, **_):
        self.tried.append(model_name)
        self.taken |= {model_name} if self.steals else set()
        raise self.error

    steals = False

    def list(self, filters):
        name = filters.prepare()["filter"]["$and"][0]["name"]
        assert name == "wanted*"
        found = [SimpleNamespace(name=taken) for taken in self.taken if taken.startswith("wanted")]
        return SimpleNamespace(all=lambda: found)


@pytest.mark.parametrize(
    "error",
    [dl.exceptions.BadRequest("400", "labels are wrong"), dl.exceptions.NotFound("404", "no such model")],
)
def test_a_refusal_that_the_name_does_not_explain_is_raised_at_once(error):
    refusing = Refusing(error, "other")
    with pytest.raises(type(error)):
        _clone_with_free_name(refusing, refusing, "wanted")
    assert refusing.tried == ["wanted"]


def test_names_that_are_always_taken_meanwhile_end_in_an_error():
    refusing = Refusing(dl.exceptions.BadRequest("400", "name exists"), "wanted", "wanted-2")
    refusing.steals = True
    with pytest.raises(RuntimeError, match="no free name for the new model: 'wanted'") as raised:
        _clone_with_free_name(refusing, refusing, "wanted")
    assert raised.value.__cause__ is refusing.error
    assert refusing.tried == ["wanted", "wanted-3", "wanted-4", "wanted-5", "wanted-6"]
