"""What goes wrong with a run or a sweep."""


class NotebookError(RuntimeError):
    """A notebook stopped: which one, at which cell, and with which error.

    Parameters
    ----------
    message : str
        The whole story.
    cell : str
        Which code cell: its number in square brackets and its first line; empty if there is none to blame.
    error : str
        The error alone.
    """

    def __init__(self, message: str, cell: str = "", error: str = "") -> None:
        super().__init__(message)
        self.cell, self.error = cell, error or message


class SweepError(RuntimeError):
    """A sweep that can't begin or go on: a setting that comes twice, a folder of another sweep, a full disk."""
