"""The queue behind a labelling panel, without a widget and without the platform."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol


class Store(Protocol):
    """Where a queue keeps its answers; :class:`alhelpers.dataloop.labelling.LabellingTask` is one."""

    def still_open(self, item_id: str) -> bool:
        """Return whether an item waits for an answer."""

    def write(self, item_id: str, answer: Any) -> Any:
        """Store an answer and return what ``erase`` needs to take it back."""

    def erase(self, item_id: str, receipt: Any) -> None:
        """Take an answer back."""


class LabellingQueue:
    """Which item is to be labelled next, what has been done, and undo.

    An answer is stored before the queue moves on, and an item that was answered elsewhere is passed over. So a queue
    that is lost loses nothing, and several queues may work on one task.

    Parameters
    ----------
    store : Store
        Where answers are kept.
    waiting : iterable of str
        Ids of the open items, in the order of labelling.
    total : int
        Number of items of the task, those that are done included.
    """

    def __init__(self, store: Store, waiting: Iterable[str], total: int) -> None:
        self._store = store
        self._waiting = list(waiting)
        # What was done in this queue: an item's id, and the receipt of its answer or None if it was skipped.
        self._history: list[tuple[str, Any]] = []
        self.total = total
        self._pass_over_closed()

    def __repr__(self) -> str:
        return f"LabellingQueue({self.done} of {self.total} done)"

    @property
    def current(self) -> str | None:
        """Id of the item to label now; None if none is left."""
        return self._waiting[0] if self._waiting else None

    @property
    def waiting(self) -> int:
        """Number of items that are not answered, skipped ones included."""
        return len(self._waiting)

    @property
    def done(self) -> int:
        """Number of items that are answered, by this queue or elsewhere."""
        return self.total - len(self._waiting)

    def answer(self, answer: Any) -> bool:
        """Store the answer for the current item and move on.

        Returns
        -------
        bool
            False if the item was answered elsewhere in the meantime: then nothing is stored.
        """
        item_id = self._checked_current()
        fresh = self._store.still_open(item_id)
        if fresh:
            self._history.append((item_id, self._store.write(item_id, answer)))
        del self._waiting[0]
        self._pass_over_closed()
        return fresh

    def skip(self) -> None:
        """Move the current item behind all others; it stays open."""
        item_id = self._checked_current()
        self._history.append((item_id, None))
        self._waiting.append(self._waiting.pop(0))
        self._pass_over_closed()

    def undo(self) -> bool:
        """Take back the last answer or skip of this queue, and show its item again.

        Returns
        -------
        bool
            False if there is nothing to take back.
        """
        if not self._history:
            return False
        item_id, receipt = self._history[-1]
        if receipt is not None:
            self._store.erase(item_id, receipt)
        self._history.pop()
        if item_id in self._waiting:
            self._waiting.remove(item_id)
        self._waiting.insert(0, item_id)
        self._pass_over_closed()
        return True

    def _checked_current(self) -> str:
        if self.current is None:
            raise ValueError("all items are answered: undo the last answer, or label another task")
        return self.current

    def _pass_over_closed(self) -> None:
        while self._waiting and not self._store.still_open(self._waiting[0]):
            del self._waiting[0]
