"""Label the items of a task by hand in JupyterLab, or by an oracle where nobody is there."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from alhelpers.dataloop.labelling import Answer


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

    def answer(self, answer: Answer) -> bool:
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


def label_task(
    task: Any,
    *,
    kind: str = "classification",
    annotator: str | None = None,
    oracle: Callable[[Any], Answer | None] | None = None,
) -> LabellingQueue:
    """Label the open items of a task of the platform: in a panel, or by a function.

    Each answer is written to the task at once, as an annotation of the user who is logged in and the item's status
    ``completed`` or ``discard``; predictions on the item are kept. Calling the function again continues with the
    items that are still open, also after the browser or the kernel was closed.

    Parameters
    ----------
    task : dtlpy.Task
        Whose items are labelled, in the order of their names.
    kind : {"classification", "detection"}
        Whether an answer is a class, or boxes with a class each. The classes are the labels of the dataset.
    annotator : str, optional
        Only the items that are assigned to this annotator, so that several people share a task; the default is all.
    oracle : callable, optional
        Takes a ``dtlpy.Item`` and returns its class, its boxes (:class:`alhelpers.dataloop.labelling.Box`),
        ``Discard.DISCARD``, or None to skip it. No panel is shown: all open items are labelled before the function
        returns. The default shows the panel and returns at once.

    Returns
    -------
    LabellingQueue
        How far the labelling is: ``done`` of ``total``.

    Raises
    ------
    ValueError
        If the kind or the annotator is unknown, the dataset has no labels, or the oracle's answer is not one of them.
    ModuleNotFoundError
        If the packages of the panel are missing: ``pip install 'alhelpers[lab]'``.
    """
    # Importing the SDK before connect() would make it read the user's own settings.
    from alhelpers.dataloop.labelling import LabellingTask

    store = LabellingTask(task, kind, annotator)
    items = store.items()
    waiting = {item.id: item for item in items if store.is_open(item)}
    queue = LabellingQueue(store, waiting, len(items))
    if oracle is None:
        _show_panel(queue, store)
        return queue
    for _ in range(queue.waiting):
        if queue.current is None:  # others were faster
            break
        answer = oracle(waiting[queue.current])
        if answer is None:
            queue.skip()
        else:
            queue.answer(answer)
    return queue


def _show_panel(queue: LabellingQueue, store: Any) -> None:
    from IPython.display import display

    try:
        from alhelpers.notebook.labelling_panel import LabellingPanel
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"the labelling panel needs {error.name}: install it with pip install 'alhelpers[lab]', or pass oracle=...",
            name=error.name,
        ) from error
    display(LabellingPanel(queue, store).widget)
