"""The effect of annotations' statuses on tasks: an issue sends an item back to its annotator."""

from ...store import Document, Store
from . import counters, members, statuses


def update_tasks(store: Store, item_id: str, user: str) -> None:
    """Update the tasks of an item after a change of its annotations; a new issue reopens it for its annotators."""
    places = members.of_item(store, item_id)
    if not places:
        return
    state = members.review_state(store, item_id)
    fresh = state["issues"] > max(member["issues"] for member in places)
    changed = [member for member in places if member | state != member]
    store.put_all("task_items", [member | state for member in changed])
    for task_id in dict.fromkeys(member["taskId"] for member in changed):
        counters.recount(store, task_id)
    if fresh:
        for task in _labelling_tasks(store, places):
            statuses.change(store, task, [item_id], None, user)


def _labelling_tasks(store: Store, places: list[members.Member]) -> list[Document]:
    """Find the tasks that the QA tasks of an item review: their parents, or else all that label it."""
    tasks = {member["taskId"]: store.get("tasks", member["taskId"]) for member in places}
    reviews = [task for task in tasks.values() if task["spec"]["type"] == "qa"]
    parents = {task["spec"].get("parentTaskId") for task in reviews}
    if not reviews:
        return []
    return [
        task
        for task in tasks.values()
        if task["id"] in parents or (None in parents and task["spec"]["type"] == "annotation")
    ]
