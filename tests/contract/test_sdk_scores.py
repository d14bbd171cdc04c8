"""Scores of annotators' work: dtlpymetrics writes them, the SDK reads them."""

import pytest
from dtlpymetrics.dtlpy_scores import Score, Scores
from helpers_contract import MISSING, classify, not_found, refused
from helpers_tasks import make


@pytest.fixture
def scored(dl, dataset, fill):
    """A task of two items, each with one score of its own and one of an annotation."""
    items = fill(2)
    task = make(dataset)
    annotations = [classify(dl, item, "x")[0] for item in items]
    context = [{"taskId": task.id, "itemId": item.id, "datasetId": dataset.id} for item in items]
    scores = [
        Score(type=kind, value=value, entity_id=entity, context=context[number])
        for number in (0, 1)
        for kind, value, entity in (
            ("item_overall", 0.5 + number / 10, items[number].id),
            ("annotation_overall", 0.25, annotations[number].id),
        )
    ]
    made = Scores(client_api=dl.client_api).create(scores)
    return task, items, annotations, made


def test_scores_are_read_by_task_item_and_annotation(dl, dataset, scored):
    task, items, annotations, made = scored
    assert [(score.type, score.value) for score in made] == [
        ("item_overall", 0.5),
        ("annotation_overall", 0.25),
        ("item_overall", 0.6),
        ("annotation_overall", 0.25),
    ]
    page = dataset.tasks.task_scores(task_id=task.id)
    assert [score["id"] for score in page["items"]] == [score.id for score in made]
    assert page["totalItemsCount"] == 4
    page = dataset.tasks.task_scores(task_id=task.id, page_offset=1, page_size=3)
    assert [score["id"] for score in page["items"]] == [made[3].id]
    of_item = items[0].task_scores(task_id=task.id)["items"]
    assert {score["entityId"] for score in of_item} == {items[0].id, annotations[0].id}
    (score,) = annotations[1].task_scores(task_id=task.id)["items"]
    assert (score["entityId"], score["value"]) == (annotations[1].id, 0.25)
    assert score["context"]["taskId"] == task.id


def test_scores_are_deleted_by_context(dl, dataset, scored):
    task, items, _, _ = scored
    assert Scores(client_api=dl.client_api).delete(context={"itemId": items[0].id, "taskId": task.id})
    left = dataset.tasks.task_scores(task_id=task.id)["items"]
    assert {score["context"]["itemId"] for score in left} == {items[1].id}
    items[1].delete()
    assert dataset.tasks.task_scores(task_id=task.id)["items"] == []


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"scores": [{"type": "t", "entityId": "e", "value": "high"}]},
        {"scores": [{"type": "t", "value": 1}]},
        {"scores": [{"type": "t", "entityId": "e", "value": 1, "context": {"taskId": 5}}]},
    ],
)
def test_what_is_no_score_is_refused(dl, body):
    refused(dl, "post", "/scores", body)


def test_scores_of_nothing_are_not_deleted(dl, dataset):
    refused(dl, "delete", "/scores", {"context": {}})
    not_found(dl, lambda: dl.tasks.task_scores(task_id=MISSING))
