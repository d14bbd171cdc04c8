"""papermill's own engine, which also keeps the notebook when its kernel dies."""

import papermill.engines
from nbclient.exceptions import DeadKernelError
from nbformat import NotebookNode

#: The name under which papermill finds it.
ENGINE = "alhelpers"


class KernelDied(RuntimeError):
    """The kernel died; ``notebook`` has the outputs so far, ``number`` and ``source`` are those of the last cell."""

    def __init__(self, notebook: NotebookNode) -> None:
        super().__init__("the kernel died")
        self.notebook = notebook
        started = [
            cell
            for cell in notebook.cells
            if cell.cell_type == "code" and cell.metadata.papermill["start_time"] and cell.source.strip()
        ]
        self.number, self.source = len(started), started[-1].source
        # As papermill marks a cell that failed.
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
    """Register the engine with papermill."""
    papermill.engines.papermill_engines.register(ENGINE, _Engine)
