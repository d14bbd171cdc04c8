"""papermill's own engine, which also hands over the notebook when its kernel dies."""

import papermill.engines
from nbclient.exceptions import DeadKernelError
from nbformat import NotebookNode

#: The name under which papermill knows it.
ENGINE = "alhelpers"


class KernelDied(RuntimeError):
    """The kernel died in the middle of a notebook.

    Parameters
    ----------
    notebook : NotebookNode
        With the outputs so far; the cell at which it stopped is marked as papermill marks a failed one.
    """

    def __init__(self, notebook: NotebookNode) -> None:
        super().__init__("the kernel died")
        self.notebook = notebook
        started = [
            cell
            for cell in notebook.cells
            if cell.cell_type == "code" and cell.metadata.papermill["start_time"] and cell.source.strip()
        ]
        self.number, self.source = len(started), started[-1].source
        started[-1].metadata.papermill.update(exception=True, status="failed")
        notebook.metadata.papermill["exception"] = True


class _Engine(papermill.engines.NBClientEngine):
    @classmethod
    def execute_managed_notebook(
        cls, nb_man: papermill.engines.NotebookExecutionManager, kernel_name: str, **options: object
    ) -> NotebookNode:
        try:
            return super().execute_managed_notebook(nb_man, kernel_name, **options)
        except DeadKernelError as error:
            raise KernelDied(nb_man.nb) from error


def register() -> None:
    """Make the engine known to papermill."""
    papermill.engines.papermill_engines.register(ENGINE, _Engine)
