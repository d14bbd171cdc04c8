"""Check a notebook's parameters from inside it, so that plain papermill raises the same errors as ours."""

import ast

from IPython import get_ipython

from alhelpers.runs.parameters import Parameter, ParameterError, check, declared

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
    injected = [name for cell in cells if cell.startswith(_INJECTED) for name in _assigned(cell)]
    values = {name: shell.user_ns[name] for name in [*parameters, *injected] if name in shell.user_ns}
    check(parameters, values, where="this notebook")


def _latest_parameters(cells: list[str]) -> dict[str, Parameter]:
    for cell in reversed(cells):
        if not cell.startswith(_INJECTED) and _looks_like_parameters(cell):
            return declared(cell)
    raise ParameterError("the parameters cell has not been run: run the notebook from its top")


def _looks_like_parameters(cell: str) -> bool:
    try:
        nodes = ast.parse(cell).body
    except SyntaxError:  # a cell with a magic
        return False
    return bool(nodes) and all(isinstance(node, ast.AnnAssign) for node in nodes)


def _assigned(cell: str) -> list[str]:
    return [
        target.id
        for node in ast.parse(cell).body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    ]
