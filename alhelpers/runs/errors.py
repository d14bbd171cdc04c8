"""Errors of runs and sweeps."""


class NotebookError(RuntimeError):
    """A run of a notebook failed.

    Parameters
    ----------
    message : str
        The notebook, the cell and the error.
    cell : str
        Number in square brackets and first line of the code cell; empty if no cell is the cause.
    error : str
        The error alone; the default is the message.
    """

    def __init__(self, message: str, cell: str = "", error: str = "") -> None:
        super().__init__(message)
        self.cell, self.error = cell, error or message

    def as_answer(self) -> dict[str, str]:
        """Return it as the answer of a run that failed."""
        return {"message": str(self), "cell": self.cell, "error": self.error}


class SweepError(RuntimeError):
    """A sweep can't start or continue: a folder of another sweep, a full disk, code that changed while it ran."""
