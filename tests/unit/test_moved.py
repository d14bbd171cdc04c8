"""Import paths of earlier releases."""

import importlib
import importlib.util
import re

import pytest

from alhelpers import _moved


@pytest.mark.parametrize(
    "old", [*_moved.MOVED, "alhelpers.experiments.race", "alhelpers.models.digit_classifier"]
)
def test_an_old_path_names_the_new_one(old):
    with pytest.raises(ImportError, match="has moved: import alhelpers") as caught:
        importlib.import_module(old)
    named = re.findall(r"alhelpers\.[\w.]*\w", str(caught.value).partition("import")[2])
    assert named and all(importlib.util.find_spec(name) for name in named)


def test_a_name_of_the_package_is_found_in_the_same_way():
    with pytest.raises(ImportError, match="alhelpers.nodes has moved: import alhelpers.dataloop"):
        from alhelpers import nodes  # noqa: F401
