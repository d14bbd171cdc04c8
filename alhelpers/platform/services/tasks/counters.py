"""The counters and statuses of tasks and assignments, computed from the places of their items."""

from collections import Counter
from dataclasses import dataclass, field

from ...store import Document, Store

OPEN, COMPLETED = "open", "completed"
TODO, IN_PROGRESS, DONE = "todo", "in progress", "done"


@dataclass
class Count:
    """The number of places by status (None: not set yet), and of items by their state of review."""

    statuses: Counter[str | None] = field(default_factory=Counter)
    reviews: Counter[str | None] = field(default_factory=Counter)

    @classmethod
    def of_group(cls, store: Store, group: str) -> "Count":
        """Count the places of an assignment, or (with a task's id) the unassigned places of a task."""
        return cls(
            Counter(store.count_by("task_items", "status", group=group)),
            Counter(store.count_by("task_items", "review", group=group, review__missing=False)),
        )

    def add(self, other: "Count") -> None:
        self.statuses += other.statuses
        self.reviews += other.reviews

    @property
    def total(self) -> int:
        return self.statuses.total()

    @property
    def remaining(self) -> int:
        return self.statuses[None]

    def fields(self, actions: list[Document]) -> Document:
        """Return the counters as the SDK reads them."""
        by_action = {action["action"]: 0 for action in actions}
        by_action |= {status: number for status, number in self.statuses.items() if status}
        completed = self.total - self.remaining
        return {
            "totalItems": self.total,
            "itemStatus": {"completed": completed, "remaining": self.remaining, "actions": by_action},
            "progress": round(100 * completed / self.total) if self.total else 0,
            "issues": self.reviews["issue"],
            "forReview": self.reviews["review"],
        }


def recount(store: Store, task_id: str) -> Document | None:
    """Update a task and its assignments, and delete empty assignments; return the task, or None if it was deleted."""
    task = store.find_one("tasks", id=task_id)
    if task is None:
        return None
    whole = Count.of_group(store, task_id)
    kept = []
    for assignment in store.find_all("assignments", taskId=task_id):
        count = Count.of_group(store, assignment["id"])
        if not count.total:
            store.delete("assignments", id=assignment["id"])
            store.emit("Assignment", "Deleted", assignment["id"], task=task_id, project=task["projectId"])
            continue
        kept.append(assignment["id"])
        whole.add(count)
        begun = IN_PROGRESS if count.remaining < count.total else TODO
        fields = count.fields(task["availableActions"]) | {"status": begun if count.remaining else DONE}
        _write(store, "assignments", "Assignment", assignment, fields)
    done = whole.total and not whole.remaining
    fields = whole.fields(task["availableActions"]) | {"assignmentIds": kept}
    return _write(store, "tasks", "Task", task, fields | {"status": COMPLETED if done else OPEN})


def _write(store: Store, kind: str, resource: str, before: Document, fields: Document) -> Document:
    after = before | fields
    if after != before:
        store.put(kind, after)
    if after["status"] != before["status"]:
        detail = {"status": after["status"], "project": after["projectId"]}
        store.emit(resource, "statusChanged", after["id"], **detail)
    return after
