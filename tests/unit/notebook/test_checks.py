"""The check of parameters, in the kernel of a run by bare papermill, which itself only warns."""

import re

import pytest
from IPython.core.interactiveshell import InteractiveShell

from alhelpers.notebook import check_parameters
from alhelpers.runs import ParameterError
from alhelpers.runs.notebooks import nbformat


@pytest.fixture(scope="module")
def execute(tmp_path_factory):
    import papermill

    new = nbformat.v4
    cells = [
        new.new_code_cell(
            "seed: int = 0  # where randomness begins\nrate: float = 0.5", metadata={"tags": ["parameters"]}
        ),
        new.new_code_cell("from alhelpers.notebook.checks import check_parameters\ncheck_parameters()"),
    ]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    path = tmp_path_factory.mktemp("checks") / "source.ipynb"
    nbformat.write(new.new_notebook(cells=cells, metadata=kernel), path)

    def run(**parameters):
        with pytest.raises(papermill.PapermillExecutionError) as caught:
            papermill.execute_notebook(str(path), None, parameters=parameters, progress_bar=False)
        return caught.value

    return run


@pytest.mark.parametrize(
    "parameters, message",
    [
        ({"sede": 1}, "this notebook has no parameter 'sede': did you mean 'seed'"),
        ({"seed": "1"}, r"parameter 'seed' is '1' \(str\): it takes int"),
    ],
)
@pytest.mark.process
def test_a_run_by_bare_papermill_stops_at_a_wrong_parameter(execute, parameters, message):
    error = execute(**parameters)
    assert error.ename == "ParameterError" and re.search(message, str(error))


# --------------------------------------------------------------------------- the same, in a session of this process


@pytest.fixture
def cell():
    """Run a cell as a notebook does."""
    shell = InteractiveShell()
    InteractiveShell._instance = shell
    shell.run_cell("0", store_history=True)

    def run(source):
        shell.run_cell(source, store_history=True).raise_error()

    yield run
    InteractiveShell.clear_instance()
    InteractiveShell._instance = None


PARAMETERS = "seed: int = 0\nrate: float = 0.5"


def test_defaults_and_given_values_pass(cell):
    cell(PARAMETERS)
    check_parameters()
    cell("# Parameters\nseed = 3\nrate = 1\n")
    check_parameters()


@pytest.mark.parametrize(
    "cells",
    [
        ['seed: str = "a"', PARAMETERS, "import os"],  # the latest parameters cell counts
        [
            PARAMETERS,
            "%config InteractiveShell.ast_node_interactivity",
        ],  # cells with magics hold no parameters
    ],
)
def test_other_cells_do_not_matter(cell, cells):
    for source in cells:
        cell(source)
    check_parameters()


def test_a_value_that_a_reader_typed_wrong_is_refused(cell):
    with pytest.raises(ParameterError, match="'seed' is '7'"):
        cell("seed: int = '7'")
        check_parameters()


def test_an_unknown_name_in_the_injected_cell_is_refused(cell):
    cell(PARAMETERS)
    cell("# Parameters\nspeed = 3\n")
    with pytest.raises(ParameterError, match="no parameter 'speed': did you mean 'seed'"):
        check_parameters()


def test_a_cell_without_types_is_the_one_before_the_injected(cell):
    cell("seed = 0; import os")
    cell("# Parameters\nseed = 'any'\n")
    check_parameters()
    cell("# Parameters\nspeed = 3\n")
    with pytest.raises(ParameterError, match="no parameter 'speed'"):
        check_parameters()


def test_without_a_parameters_cell_the_way_out_is_told(cell):
    with pytest.raises(ParameterError, match="has not been run: run the notebook from its top"):
        check_parameters()


def test_outside_of_a_notebook_it_is_refused():
    with pytest.raises(ParameterError, match="there is no IPython session here"):
        check_parameters()
