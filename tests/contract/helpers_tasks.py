"""What the contract tests of labelling work share."""

ANN, BOB, CID = "ann@example.com", "bob@example.com", "cid@example.com"


def make(dataset, name="label", assignees=(ANN,), **options):
    return dataset.tasks.create(task_name=name, assignee_ids=list(assignees), **options)


def status_of(dataset, item, task):
    return dataset.items.get(item_id=item.id).status(task_id=task.id)


def held(task):
    """How many items each annotator of a task has."""
    return {assignment.annotator: assignment.total_items for assignment in task.assignments.list()}


def refs(dataset, item):
    return dataset.items.get(item_id=item.id).metadata["system"]["refs"]
