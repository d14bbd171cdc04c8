"""The check of parameters, in the kernel of a run by bare papermill, which itself only warns."""

import pytest
from IPython.core.interactiveshell import InteractiveShell

from alhelpers.notebook import check_parameters
from alhelpers.runs import ParameterError


@pytest.fixture(scope="module")
def execute(tmp_path_factory):
    import nbformat
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
        papermill.execute_notebook(
            str(path), str(path.with_name("executed.ipynb")), parameters=parameters, progress_bar=False
        )

    run.errors = papermill.PapermillExecutionError
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
    with pytest.raises(execute.errors, match=message) as caught:
        execute(**parameters)
    assert caught.value.ename == "ParameterError"


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


def test_the_latest_parameters_cell_counts(cell):
    cell('seed: str = "a"')
    cell(PARAMETERS)
    cell("import os")
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


def test_cells_with_magics_are_no_parameters(cell):
    cell(PARAMETERS)
    cell("%config InteractiveShell.ast_node_interactivity")
    check_parameters()


def test_without_a_parameters_cell_the_way_out_is_told(cell):
    with pytest.raises(ParameterError, match="has not been run: run the notebook from its top"):
        check_parameters()


def test_outside_of_a_notebook_it_is_refused():
    with pytest.raises(ParameterError, match="there is no IPython session here"):
        check_parameters()
