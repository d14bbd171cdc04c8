"""Check a notebook's parameters from inside it, so that plain papermill raises the same errors as ours."""

import ast

from IPython import get_ipython

from alhelpers.runs.parameters import Parameter, ParameterError, check_types, declared

#: How papermill's injected cell begins.
_INJECTED = "# Parameters\n"


def check_parameters() -> None:
    """Check the parameters that papermill injected.

    Call it in the cell after the parameters. It reads the session's history: the parameters cell, and the cell that
    papermill injects after it.

    Raises
    ------
    ParameterError
        If the notebook does not have a parameter, or a value has another type.
    """
    shell = get_ipython()
    if shell is None:
        raise ParameterError(
            "check_parameters() must be called in a notebook: there is no IPython session here"
        )
    cells = shell.user_ns["In"]
    parameters = _latest_parameters(cells)
    injected = [name for cell in cells if cell.startswith(_INJECTED) for name in declared(cell)]
    values = {name: shell.user_ns[name] for name in [*parameters, *injected] if name in shell.user_ns}
    check_types(parameters, values, where="this notebook")


def _latest_parameters(cells: list[str]) -> dict[str, Parameter]:
    """Return those of the latest cell that declares types, or that papermill has injected others after."""
    for number, cell in reversed(list(enumerate(cells))):
        if cell.startswith(_INJECTED):
            return declared(cells[number - 1])
        if _declares_types(cell):
            return declared(cell)
    raise ParameterError("the parameters cell has not been run: run the notebook from its top")


def _declares_types(cell: str) -> bool:
    try:
        kinds = {type(node) for node in ast.parse(cell).body}
    except SyntaxError:  # a cell with a magic
        return False
    return ast.AnnAssign in kinds and kinds <= {ast.AnnAssign, ast.Assign, ast.Import, ast.ImportFrom}
