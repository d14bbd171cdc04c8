import math
import runpy
from types import ModuleType

import numpy as np
import pytest

from alhelpers.runs import ParameterError
from alhelpers.runs.parameters import Expression, check, check_types, declared, given, given_lists

CELL = """# What a reader may change
dataset: str = "digits"  # which images: digits or mnist
seed: int = 0
rate: float = 6e-3  # the highest of the cycle
whole: float = 1
augment: bool = True
label: str = "Größe"
sizes: list[int] = [
    10,  # first
    20,
]
weights: dict[str, float] = {"a": 0.5, "b": 1}
grid: dict[str, list[int]] = {"steps": [1, 2]}
anything: list = [1, "two"]
negative: int = -1
most: "int | None" = None
plain = "v1"
version: str = "1.0"
flag = False
limit = 0.5
several: int | str = 1
shape: tuple[int, ...] = (8, 8)
mode: Literal["fast", "slow", 3] = "fast"
deep: typing.Optional[typing.List[int]] = None
either: Union[int, str] = 0
folder: Path = "data"
some: float | None = None
required: int
implicit: int = None
"""

PARAMETERS = declared(CELL)

#: Parameters cells that papermill runs.
CELLS = [
    "import typing\nfrom pathlib import Path\nfrom typing import Literal, Union\n"
    + CELL.replace("required: int\n", ""),
    "C = None",
    "seed = 0; other: int = 1",
    "a = b = 3",
    "a, (b, c) = 1, (2, 3)",
    "a, b = 'xy'\nprint([i for i in a], lambda j: j)\nwith open(__file__) as file:\n    (size := 3)",
    "[a, b] = range(2)",
    'text = "a=b"  # >= 0',
    'text: str = "#1"',
    "import math\nrate = 10**-3\nlimit: float = math.inf\nlow = -math.inf",
    "size = 2 * 3\ntwice = size * 2",
    "from pathlib import Path\nfolder = Path('data')\nbox = [folder]",
    "seed: int = 0\nseed += 1\nseed2: int = None",
    "import sys\nif sys.maxsize:\n    large = True\nelse:\n    large = False\nfor name in 'ab': last = name",
    "def f():\n    inner = 1\nprint(f())\nx = f",
    "keys = {1: 'a'}\nnothing = ()\nsame = {1, 2}\nraw = b'x'\nimaginary = 1j",
    "text = '''\n# no comment\nx = 1\n'''",
    "",
    "# nothing",
]


@pytest.fixture
def namespace(tmp_path):
    """Run a cell as a script, and return what it has assigned."""

    def run(cell):
        (tmp_path / "cell.py").write_text(cell)
        return runpy.run_path(str(tmp_path / "cell.py"))

    return run


@pytest.mark.parametrize("cell", CELLS)
def test_any_cell_gives_the_names_and_defaults_that_python_finds(cell, namespace):
    found, plain = declared(cell), namespace(cell)
    values = {
        name: value
        for name, value in plain.items()
        if not name.startswith("__")
        and not isinstance(value, (ModuleType, type))
        and value.__class__.__module__ != "typing"
    }
    assert found.keys() == values.keys() - {"f", "Literal", "Union"}
    for name, parameter in found.items():
        if not isinstance(parameter.default, Expression):
            assert parameter.default == values[name] and type(parameter.default) is type(values[name])


def test_what_is_computed_is_shown_as_it_is_written():
    cell = "rate = 10**-3\nseed = 0\nif rate:\n    seed = 1\nseed += 1\nlimit: float = float('inf')"
    assert {name: each.default for name, each in declared(cell).items()} == {
        "rate": "10 ** (-3)",
        "seed": "seed += 1",
        "limit": "float('inf')",
    }
    assert declared("seed: int = 0\nseed = 5")["seed"].type_name == "int"


@pytest.mark.parametrize(
    "cell",
    [
        "%matplotlib inline\nseed: int = 0",
        "!ls\nseed: int = 0",
        "files = !ls\nseed: int = 0",
        "seed: int = 0\nlen?",
    ],
)
def test_magics_hide_no_parameter(cell):
    assert declared(cell)["seed"].default == 0 and not isinstance(declared(cell)["seed"].default, Expression)


@pytest.mark.parametrize(
    "language, cell",
    [
        ("R", "# comment\nseed <- 1\nname = 'a'\nif (x == 1) {}"),
        ("julia", 'seed = 1\nname::String = "a"'),
        ("scala", 'val seed = 1\nvar name: String = "a"'),
        ("powershell", "$seed = 1\n$name = 'a'"),
        (".net-csharp", 'var seed = 1;\nstring name = "a";'),
    ],
)
def test_names_in_other_languages(language, cell):
    assert list(declared(cell, language)) == ["seed", "name"]
    check(declared(cell, language), {"seed": "anything"}, where="x")


def test_a_cell_that_is_not_python_is_named():
    with pytest.raises(
        ParameterError,
        match="line 2 of the parameters cell is not valid Python: invalid syntax, 'seed: int ='",
    ):
        declared("first: int = 0\nseed: int =")


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"dataset": "mnist", "seed": 3, "augment": False},
        {"rate": 1, "whole": 0.5},
        {"rate": np.float64(0.5)},
        {"rate": float("inf")},
        {"sizes": [], "weights": {"x": 1}, "grid": {"a": []}, "anything": [None, {}]},
        {"most": None, "several": "x", "shape": [1, 2], "mode": 3, "deep": [1], "either": "a", "folder": 5},
        {"most": 2, "deep": None, "plain": 1.5, "flag": "auto", "implicit": None, "required": 2},
    ],
)
def test_values_of_the_type_pass(values):
    check(PARAMETERS, values, where="here.ipynb")


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
        ("most", "2", r"'most' is '2' \(str\): it takes 'int \| None', such as None"),
        ("several", 0.5, r"'several' is 0.5 \(float\): it takes int \| str"),
        ("mode", "medium", "it takes Literal"),
        ("deep", ["a"], "'deep' is .*it takes typing.Optional"),
        ("required", "x", r"'required' is 'x' \(str\): it takes int"),
    ],
)
def test_values_of_another_type_are_refused(name, value, message):
    with pytest.raises(ParameterError, match=message):
        check(PARAMETERS, {name: value}, where="here.ipynb")


@pytest.mark.parametrize("value", [(1, 2), np.int64(3), {1: "a"}, [{"a": (1,)}], b"x", math])
def test_what_papermill_would_change_is_refused(value, namespace):
    from papermill.translators import PythonTranslator

    assert namespace(PythonTranslator.codify({"plain": value}))["plain"] != value
    check_types(PARAMETERS, {"plain": value}, where="x")
    with pytest.raises(ParameterError, match="parameter 'plain' is .*: pass None, a bool, int"):
        check(PARAMETERS, {"plain": value}, where="x")


def test_an_unknown_name_gets_the_nearest_known_one():
    with pytest.raises(ParameterError, match="here.ipynb has no parameter 'sede': did you mean 'seed'"):
        check(PARAMETERS, {"sede": 1}, where="here.ipynb")
    with pytest.raises(ParameterError, match="has no parameter 'zzz': it takes dataset, seed, rate"):
        check(PARAMETERS, {"zzz": 1}, where="here.ipynb")
    with pytest.raises(ParameterError, match="has no parameter 'zzz': it takes none; is its cell tagged"):
        check({}, {"zzz": 1}, where="here.ipynb")


# -------------------------------------------------------------------------------------------------- command line


@pytest.mark.parametrize(
    "pair, value",
    [
        ("version=1.10", "1.10"),
        ("version='5'", "5"),
        ("version=None", "None"),
        ("version=", ""),
        ("version=a=b", "a=b"),
        ("plain=007", "007"),
        ("plain=2", "2"),
        ("rate=inf", math.inf),
        ("rate=-inf", -math.inf),
        ("rate=1", 1.0),
        ("limit=1e400", math.inf),
        ("limit=2", 2.0),
        ("seed=3", 3),
        ("some=1", 1.0),
        ("some=None", None),
        ("some=-inf", -math.inf),
        ("augment=False", False),
        ("augment=true", True),
        ("flag=true", True),
        ("most=None", None),
        ("most=4", 4),
        ("several=4", 4),
        ("several=four", "four"),
        ("mode=fast", "fast"),
        ("mode=3", 3),
        ("sizes=[1, 2]", [1, 2]),
        ("folder=x/y", "x/y"),
        ("unknown=3", 3),
    ],
)
def test_a_text_is_read_as_what_is_declared(pair, value):
    ((name, found),) = given([pair], PARAMETERS).items()
    assert found == value and type(found) is type(value)
    if name != "unknown":
        check(PARAMETERS, {name: found}, where="x")


@pytest.mark.parametrize(
    "pairs, message",
    [
        (["augment=no"], r"parameter 'augment' is 'no' \(str\): it takes bool, such as True"),
        (["flag=0"], r"parameter 'flag' is 0 \(int\): it takes bool, such as False"),
        (["seed"], "'seed' is not NAME=VALUE"),
        (["seed=1", "seed=2"], "a parameter is given twice, in seed=1, seed=2"),
    ],
)
def test_wrong_texts(pairs, message):
    with pytest.raises(ParameterError, match=message):
        given(pairs, PARAMETERS)


@pytest.mark.parametrize(
    "pair, values",
    [
        ("version=1.10,1.2", ["1.10", "1.2"]),
        ("version='a,b',c", ["a,b", "c"]),
        ("version=1.2.3,x", ["1.2.3", "x"]),
        ("rate=inf,.5", [math.inf, 0.5]),
        ("sizes=[1,2],[3]", [[1, 2], [3]]),
        ("plain=mc_dropout > typicality,random", ["mc_dropout > typicality", "random"]),
        ("dataset=", []),
    ],
)
def test_lists_of_texts(pair, values):
    assert list(given_lists([pair], PARAMETERS).values()) == [values]
