import numpy as np
import pytest

from alhelpers.runs import ParameterError
from alhelpers.runs.parameters import check, declared

CELL = """# What a reader may change
dataset: str = "digits"  # which images: digits or mnist
seed: int = 0
rate: float = 6e-3  # the highest of the cycle
whole: float = 1
augment: bool = True
label: str = "Größe"  # äöü: help after other letters
sizes: list[int] = [
    10,  # first
    20,
]
weights: dict[str, float] = {"a": 0.5, "b": 1}
grid: dict[str, list[int]] = {"steps": [1, 2]}
anything: list = [1, "two"]
nothing: list[str] = []
negative: int = -1
"""


@pytest.fixture
def papermill_reads(notebook):
    import papermill  # after alhelpers.runs, which makes its imports fast

    return lambda source: papermill.inspect_notebook(str(notebook(source)))


def test_it_reads_what_papermill_reads(papermill_reads):
    found, read = declared(CELL), papermill_reads(CELL)
    assert list(found) == list(read)
    for name, parameter in found.items():
        assert parameter.type_name == read[name]["inferred_type_name"]
        assert parameter.help == read[name]["help"]


def test_defaults_and_help():
    found = declared(CELL)
    assert {name: parameter.default for name, parameter in found.items()} == {
        "dataset": "digits",
        "seed": 0,
        "rate": 6e-3,
        "whole": 1,
        "augment": True,
        "label": "Größe",
        "sizes": [10, 20],
        "weights": {"a": 0.5, "b": 1},
        "grid": {"steps": [1, 2]},
        "anything": [1, "two"],
        "nothing": [],
        "negative": -1,
    }
    assert found["dataset"].help == "which images: digits or mnist"
    assert found["label"].help == "äöü: help after other letters"
    assert found["seed"].help == ""


@pytest.mark.parametrize(
    "line, message",
    [
        ("seed = 0", "line 2 of the parameters cell is not 'name: type = value': 'seed = 0'"),
        ("seed: int", "line 2 .* is not 'name: type = value'"),
        ("print(1)", "line 2 .* is not 'name: type = value'"),
        ("import os", "line 2 .* is not 'name: type = value'"),
        ("box.seed: int = 0", "line 2 .* is not 'name: type = value'"),
        ("seed: int =", "line 2 of the parameters cell is not valid Python: invalid syntax"),
        ("%matplotlib inline", "line 2 of the parameters cell is not valid Python"),
        ("seed: int = 0; other: int = 1", "second equals sign"),
        ("first: int = 1", "'first' is not on a line of its own, or comes twice"),
        ("seed: int | None = 0", r"'seed' has the type int \| None: use bool"),
        ("seed: Path = 0", "'seed' has the type Path"),
        ("seed: 'int' = 0", "'seed' has the type 'int'"),
        ("seed: int[3] = 0", r"'seed' has the type int\[3\]"),
        ("seeds: list[Path] = []", r"'seeds' has the type list\[Path\]"),
        ("seeds: list[int, str] = []", r"'seeds' has the type list\[int, str\]"),
        ("seeds: dict[str] = {}", r"'seeds' has the type dict\[str\]"),
        ("seeds: dict[int, str] = {}", r"'seeds' has the type dict\[int, str\]"),
        ("seed: tuple = ()", "'seed' has the type tuple"),
        ("seed: int = 2 * 3", r"'seed' must have a literal value, not 2 \* 3"),
        ("seed: int = first", "'seed' must have a literal value, not first"),
        ("seeds: dict[str, int] = {[]: 1}", "'seeds' must have a literal value"),
        ('text: str = "a=b"', "'text' has a second equals sign"),
        ("seed: int = 0  # >= 0", "'seed' has a second equals sign"),
        ('text: str = "#1"', "'text' has a second equals sign, or a hash in its value"),
        ("seed: int = None", r"'seed' is None \(NoneType\): it takes int$"),
        ("seed: int = True", r"'seed' is True \(bool\): it takes int$"),
        ("seed: int = 1.0", r"'seed' is 1.0 \(float\)"),
        ("rate: float = 1j", r"'rate' is 1j \(complex\)"),
        (
            "sizes: list[int] = [1, '2']",
            r"has an element of another type in \[1, '2'\]: it takes list\[int\]",
        ),
        ("sizes: list[int] = (1, 2)", r"'sizes' is \(1, 2\) \(tuple\)"),
    ],
)
def test_what_papermill_would_lose_or_misread_is_refused(line, message):
    with pytest.raises(ParameterError, match=message):
        declared(f"first: int = 0\n{line}")


@pytest.mark.parametrize("line", ['text: str = "a=b"', "seed: int = 0  # >= 0", 'text: str = "#1"'])
def test_papermill_does_misread_what_is_refused(line, papermill_reads):
    name = line.split(":")[0]
    read = papermill_reads(line)
    assert name not in read or read[name]["default"] not in line.partition("=")[2].strip().split("  ")


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"dataset": "mnist", "seed": 3, "augment": False},
        {"rate": 1, "whole": 0.5},
        {"rate": np.float64(0.5)},
        {"rate": float("inf")},
        {"sizes": [], "weights": {"x": 1}, "grid": {"a": []}, "anything": [None, {}]},
    ],
)
def test_values_of_the_type_pass(values):
    check(declared(CELL), values, where="here.ipynb")


@pytest.mark.parametrize(
    "name, value, message",
    [
        ("seed", True, r"'seed' is True \(bool\): it takes int, such as 0"),
        ("seed", 1.0, r"'seed' is 1.0 \(float\): it takes int"),
        ("seed", "1", r"'seed' is '1' \(str\)"),
        ("seed", None, r"'seed' is None \(NoneType\)"),
        ("seed", np.int64(1), r"'seed' is np.int64\(1\) \(int64\)"),
        ("augment", 1, r"'augment' is 1 \(int\): it takes bool, such as True"),
        ("rate", True, r"'rate' is True \(bool\): it takes float"),
        ("rate", "1e-3", r"'rate' is '1e-3' \(str\)"),
        ("dataset", 7, r"'dataset' is 7 \(int\): it takes str, such as 'digits'"),
        ("sizes", 5, r"'sizes' is 5 \(int\): it takes list\[int\]"),
        ("sizes", (1, 2), r"'sizes' is \(1, 2\) \(tuple\)"),
        ("sizes", [1, True], r"'sizes' has an element of another type in \[1, True\]: it takes list\[int\]"),
        ("sizes", [1, None], r"'sizes' has an element of another type"),
        ("weights", {"a": "1"}, r"'weights' has an element of another type.*dict\[str, float\]"),
        ("weights", {1: 1.0}, r"'weights' has an element of another type"),
        ("grid", {"steps": [1.5]}, r"'grid' has an element of another type"),
    ],
)
def test_values_of_another_type_are_refused(name, value, message):
    with pytest.raises(ParameterError, match=message):
        check(declared(CELL), {name: value}, where="here.ipynb")


def test_an_unknown_name_gets_the_nearest_known_one():
    with pytest.raises(ParameterError, match="here.ipynb has no parameter 'sede': did you mean 'seed'"):
        check(declared(CELL), {"sede": 1}, where="here.ipynb")
    with pytest.raises(ParameterError, match="has no parameter 'zzz': it takes dataset, seed, rate"):
        check(declared(CELL), {"zzz": 1}, where="here.ipynb")
    with pytest.raises(ParameterError, match="has no parameter 'zzz': it takes none"):
        check({}, {"zzz": 1}, where="here.ipynb")
