"""papermill's own engine, which also hands over the notebook of a kernel that dies or a cell that fails."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

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


@contextmanager
def no_guesses() -> Iterator[None]:
    """Drop papermill's warnings of parameters that it does not recognize: they have been checked."""
    loggers = [logging.getLogger(name) for name in ("papermill", "papermill.translators")]
    for logger in loggers:
        logger.addFilter(_is_no_guess)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeFilter(_is_no_guess)


def _is_no_guess(record: logging.LogRecord) -> bool:
    return not record.getMessage().startswith(("Passed unknown parameter", "Unable to parse line"))
