"""Batches that are chosen in rounds.

In a round each part of the pool returns candidates. They are picked one after another as long as the best of them is
certainly ahead of all records that were not returned.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from alhelpers.mining._engine import Task
from alhelpers.mining._pool import Pool, check_enough


class State(NamedTuple):
    """Squared distances of a part to the nearest pick, None before the first round, and the places of all picks."""

    squared: np.ndarray | None
    taken: list[int]


class Rounds:
    """The picks so far, and the state of each part."""

    def __init__(self, pool: Pool, size: int) -> None:
        self.pool, self.size = pool, size
        self.count = sum(map(len, pool.ids()))
        check_enough(size, self.count)
        pool.cache()
        self.ids: list[Any] = []
        self.squared: list[float] = []
        self.new: list[Any] = []  # what tasks need of the picks of the last round
        self.states = [State(None, []) for _ in pool.parts]

    def run(self, task: Task, context: Any) -> list[Any]:
        """Run a task on each part and its state, and store the distances that it returns."""
        sent = []
        for number, part in enumerate(
            self.pool.map(task, context, zip(self.pool.parts, self.states, strict=True))
        ):
            self.states[number] = State(part.squared, self.states[number].taken)
            sent.append(part)
        self.new = []
        return sent

    def pick(self, id: Any, squared: float, part: int, place: int, new: Any) -> None:
        """Add a pick, which is at a place of a part."""
        self.ids.append(id)
        self.squared.append(float(squared))
        self.states[part].taken.append(int(place))
        self.new.append(new)
