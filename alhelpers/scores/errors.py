"""What the scores raise."""

from __future__ import annotations


class ScoreError(ValueError):
    """An array that cannot be scored.

    Parameters
    ----------
    message : str
        What is wrong, with the row, its value and the way out.
    row : int or None
        The first row at fault, where one row is.
    """

    def __init__(self, message: str, row: int | None = None) -> None:
        super().__init__(message)
        self.row = row
