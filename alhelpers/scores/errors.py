"""The error of the scores."""

from __future__ import annotations


class ScoreError(ValueError):
    """Raised for an array that cannot be scored.

    Parameters
    ----------
    message : str
        What is wrong, with the row, its value and the way out.
    row : int or None
        The first wrong row, if it is one row.
    """

    def __init__(self, message: str, row: int | None = None) -> None:
        super().__init__(message)
        self.row = row
