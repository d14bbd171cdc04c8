"""papermill's own engine, which also hands over the notebook of a kernel that dies or a cell that fails."""

import papermill.engines
from nbformat import NotebookNode

#: The name under which papermill finds it.
ENGINE = "alhelpers"


class _Engine(papermill.engines.NBClientEngine):
    @classmethod
    def execute_managed_notebook(
        cls,
        nb_man: papermill.engines.NotebookExecutionManager,
        kernel_name: str,
        *,
        executed: list[NotebookNode],
        **options: object,
    ) -> NotebookNode:
        executed.append(nb_man.nb)
        return super().execute_managed_notebook(nb_man, kernel_name, **options)


def register() -> None:
    """Register the engine with papermill."""
    papermill.engines.papermill_engines.register(ENGINE, _Engine)
