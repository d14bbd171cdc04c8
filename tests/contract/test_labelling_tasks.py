"""Labelling a task of the platform through the SDK: with an oracle, in parts, by several people, as boxes."""

import io
import re
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from helpers_contract import classify
from helpers_tasks import ANN, BOB, make
from PIL import Image

from alhelpers.notebook import label_task


@pytest.fixture
def task(dataset, fill):
    dataset.add_labels(["cat", "dog"])
    fill(4)
    return make(dataset, assignees=[ANN, BOB])


def statuses(task):
    return {item.name: item.status(task_id=task.id) for item in task.get_items().all()}


def labels_by_name(dl, task, kind="classification"):
    from alhelpers.dataloop.labelling import read_answers

    return {dl.items.get(item_id=item_id).name: found for item_id, found in read_answers(task, kind).items()}


def test_an_oracle_answers_skips_and_discards(dl, task):
    from alhelpers.dataloop.labelling import Discard

    answers = {"0000.png": "cat", "0001.png": "dog", "0002.png": Discard.DISCARD, "0003.png": None}
    queue = label_task(task, oracle=lambda item: answers[item.name])
    assert (queue.done, queue.total, queue.waiting) == (3, 4, 1)
    expected = {"0000.png": "completed", "0001.png": "completed", "0002.png": "discard", "0003.png": None}
    assert statuses(task) == expected
    assert labels_by_name(dl, task) == {"0000.png": ["cat"], "0001.png": ["dog"]}
    item = next(item for item in task.get_items().all() if item.name == "0000.png")
    (annotation,) = item.annotations.list()
    assert annotation.creator == dl.client_api.info()["user_email"]


def test_labelling_again_continues_with_what_is_open(dl, task):
    label_task(task, oracle=lambda item: "cat" if item.name < "0002.png" else None)
    asked = []
    queue = label_task(task, oracle=lambda item: asked.append(item.name) or "dog")
    assert asked == ["0002.png", "0003.png"] and queue.done == 4
    assert label_task(task, oracle=lambda item: pytest.fail("nothing is open")).current is None


def test_each_annotator_labels_their_share(dl, task):
    assert label_task(task, annotator=ANN, oracle=lambda item: "cat").total == 2
    assert sorted(statuses(task).values(), key=str) == [None, None, "completed", "completed"]
    label_task(task, annotator=BOB, oracle=lambda item: "dog")
    assert sorted(labels_by_name(dl, task).values()) == [["cat"], ["cat"], ["dog"], ["dog"]]
    assert dl.tasks.get(task_id=task.id).status == "completed"


def test_undo_takes_back_the_annotation_and_the_status(dl, task):
    queue = label_task(task, oracle=lambda item: None)
    for answer in ("cat", "dog"):
        queue.answer(answer)
    assert queue.undo() and queue.done == 1
    assert labels_by_name(dl, task) == {"0000.png": ["cat"]}
    assert statuses(task)["0001.png"] is None


def test_undo_keeps_what_another_person_has_added(dl, dataset, task):
    queue = label_task(task, oracle=lambda item: None)
    item_id = queue.current
    queue.answer("cat")
    item = dataset.items.get(item_id=item_id)
    item.annotations.upload([dl.Annotation.new(annotation_definition=dl.Classification(label="dog"))])
    queue.undo()
    assert labels_by_name(dl, task) == {item.name: ["dog"]}
    assert queue.done == 1 and queue.current != item_id


def test_two_kernels_at_once_lose_no_label(dl, task):
    queues = [label_task(task, oracle=lambda item: None) for _ in range(2)]
    given = {}

    def work(number):
        while (item_id := queues[number].current) is not None:
            if queues[number].answer(["cat", "dog"][number]):
                given.setdefault(item_id, set()).add(["cat", "dog"][number])

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(work, [0, 1]))
    from alhelpers.dataloop.labelling import read_answers

    assert {item_id: set(found) for item_id, found in read_answers(task).items()} == given
    assert set(statuses(task).values()) == {"completed"}


def test_an_item_is_seen_large_with_the_suggestion_of_a_model(dl, dataset, task):
    from alhelpers.dataloop.labelling import LabellingTask, read_answers

    store = LabellingTask(task)
    item = store.items()[0]
    builder = item.annotations.builder()
    model = {"name": "m", "confidence": 0.62}
    builder.add(annotation_definition=dl.Classification(label="dog"), model_info=model)
    item.annotations.upload(builder)
    picture = store.look(item.id)
    assert picture.suggestion == "the model suggests dog (62%)"
    assert picture.size == (6, 8)
    assert Image.open(io.BytesIO(picture.png)).size == (6 * 40, 8 * 40)
    assert store.still_open(item.id) and read_answers(task) == {}
    store.write(item.id, "cat")
    assert read_answers(task) == {item.id: ["cat"]}, "the prediction is kept, and is no label"
    assert len(item.annotations.list()) == 2


def test_boxes_are_written_and_read(dl, task):
    from alhelpers.dataloop.labelling import Box

    drawn = [Box("cat", 0, 1, 3, 4), Box("dog", 2.5, 2, 5, 7)]
    outside = Box("dog", 0, 0, np.float64(900), 7)
    for wrong, message in (
        ([outside], r"the box 'dog' of item '/0000.png', \[0, 0, 900.0, 7\], is not inside of the image"),
        ([{"label": "dog", "left": 1}], "must be a Box, or a dict with label, left, top, right, bottom"),
    ):
        with pytest.raises(ValueError, match=message):
            label_task(task, kind="detection", oracle=lambda item, wrong=wrong: wrong)
    assert set(statuses(task).values()) == {None}
    given = {"0000.png": drawn, "0001.png": [box._asdict() for box in drawn]}
    queue = label_task(task, kind="detection", oracle=lambda item: given.get(item.name, []))
    assert queue.done == 4
    with pytest.raises(ValueError, match="'label' are boxes, not classes: pass kind='detection'"):
        labels_by_name(dl, task)
    found = labels_by_name(dl, task, "detection")
    assert "np." not in repr(found)
    assert {name: sorted(boxes) for name, boxes in found.items()} == {
        "0000.png": drawn,
        "0001.png": drawn,
        "0002.png": [],
        "0003.png": [],
    }


def test_what_cannot_be_is_named(dl, project, dataset, task):
    with pytest.raises(ValueError, match="kind is 'masks': it must be classification or detection"):
        label_task(task, kind="masks", oracle=lambda item: "cat")
    with pytest.raises(
        ValueError, match="annotator 'eve' has no items in task 'label': it must be one of ann"
    ):
        label_task(task, annotator="eve", oracle=lambda item: "cat")
    with pytest.raises(ValueError, match="the label is 'bird': it must be one of cat, dog"):
        label_task(task, oracle=lambda item: "bird")
    with pytest.raises(ValueError, match="in a task of classification it must be a class"):
        label_task(task, oracle=lambda item: [("cat", 0, 0, 1, 1)])
    assert set(statuses(task).values()) == {None}
    other = project.datasets.create("without labels")
    with pytest.raises(ValueError, match="dataset 'without labels' has no labels to choose from"):
        label_task(make(other), oracle=lambda item: "cat")


def test_a_panel_shows_answers_and_goes_on(dl, task):
    from alhelpers.dataloop.labelling import LabellingTask
    from alhelpers.notebook.labelling_panel import LabellingPanel

    queue = label_task(task, oracle=lambda item: None)
    panel = LabellingPanel(queue, LabellingTask(task))

    def press(do, label=None, item=None):
        state = panel.widget.state
        panel._pressed(None, {"do": do, "label": label, "item": item or state["item"]}, [])
        return state["item"], panel.widget.state

    first, state = press("label", "cat")
    assert state["progress"] == "1 of 4" and state["image"].startswith("data:image/png;base64,")
    _, state = press("label", "dog", item=first)  # the key was pressed twice
    assert state["progress"] == "1 of 4"
    press("discard")
    press("skip")
    press("label", "dog")
    _, state = press("label", "dog")
    assert (state["item"], state["progress"]) == (None, "4 of 4") and "All done" in state["message"]
    _, state = press("undo")
    assert state["progress"] == "3 of 4" and state["item"] is not None
    assert list(statuses(task).values()).count("discard") == 1


def test_every_class_has_a_key_that_does_nothing_else(dl):
    from alhelpers.notebook.labelling_panel import ACTIONS, keys_of

    assert keys_of("0123456789") == list("0123456789")
    assert keys_of(["s", "t"]) == ["1", "2"], "s skips"
    assert keys_of(["cat", "dog"]) == ["1", "2"]
    many = keys_of([f"class {number}" for number in range(40)])
    used = [key for key in many if key]
    assert len(many) == 40 and len(used) == len(set(used)) == 33
    assert not set(used) & set(ACTIONS.values())


def test_the_panel_of_boxes_starts_with_the_suggestions(dl, task):
    from alhelpers.dataloop.labelling import Box, LabellingTask, read_answers
    from alhelpers.notebook.labelling_panel import LabellingPanel

    store = LabellingTask(task, "detection")
    first = store.items()[0]
    builder = first.annotations.builder()
    box = dl.Box(left=1, top=2, right=3, bottom=6, label="cat")
    builder.add(annotation_definition=box, model_info={"name": "m", "confidence": 0.9})
    first.annotations.upload(builder)
    panel = LabellingPanel(label_task(task, kind="detection", oracle=lambda item: None), store)
    assert panel.widget.state["suggestion"] == "the model suggests 1 box"
    assert panel.widget.state["size"] == (6, 8)
    boxes = panel.widget.state["boxes"]
    assert boxes == [{"label": "cat", "box": [1, 2, 3, 6], "suggested": True}]
    wrong = [boxes[0] | {"label": "bird"}]
    panel._pressed(None, {"do": "save", "item": first.id, "boxes": wrong}, [])
    assert "must be one of cat, dog" in panel.widget.state["message"]
    panel._pressed(None, {"do": "save", "item": first.id, "boxes": boxes}, [])
    assert read_answers(task, "detection") == {first.id: [Box("cat", 1, 2, 3, 6)]}
    assert panel.widget.state["boxes"] == []


def test_labels_that_are_there_are_said_and_kept(dl, task):
    from alhelpers.dataloop.labelling import LabellingTask

    store = LabellingTask(task)
    item = store.items()[0]
    classify(dl, item, "cat")
    assert store.look(item.id).suggestion == "1 label of people is there already and kept"


def test_what_is_no_image_is_only_discarded_or_skipped(dl, dataset, tmp_path):
    from alhelpers.dataloop.labelling import LabellingTask
    from alhelpers.notebook.labelling_panel import LabellingPanel

    dataset.add_labels(["cat", "dog"])
    (tmp_path / "note.txt").write_text("not an image")
    dataset.items.upload(str(tmp_path / "note.txt"))
    task = make(dataset, filters=dl.Filters(field="name", values="note.txt"))
    for kind, press in (
        ("classification", {"do": "label", "label": "cat"}),
        ("detection", {"do": "save", "boxes": []}),
    ):
        panel = LabellingPanel(
            label_task(task, kind=kind, oracle=lambda item: None), LabellingTask(task, kind)
        )
        panel._pressed(None, press | {"item": panel.widget.state["item"]}, [])
        assert "discard it, or skip it" in panel.widget.state["message"]
        assert set(statuses(task).values()) == {None}
    panel._pressed(None, {"do": "discard", "item": panel.widget.state["item"]}, [])
    assert set(statuses(task).values()) == {"discard"}


def test_a_class_of_boxes_has_a_key_and_a_colour(dl, task):
    from alhelpers.dataloop.labelling import LabellingTask
    from alhelpers.notebook.labelling_panel import LabellingPanel

    queue = label_task(task, kind="detection", oracle=lambda item: None)
    buttons = LabellingPanel(queue, LabellingTask(task, "detection")).widget.buttons
    classes = [button for button in buttons if button["do"] == "class"]
    assert [(button["text"], button["key"]) for button in classes] == [("cat", "1"), ("dog", "2")]
    assert all(re.fullmatch("#[0-9a-f]{6}", button["colour"], re.IGNORECASE) for button in classes)
    assert len({button["colour"] for button in classes}) == 2
    assert [button["do"] for button in buttons[2:]] == ["save", "delete", "undo", "skip", "discard"]


def test_a_panel_that_loses_the_platform_says_so_and_goes_on(dl, task):
    from alhelpers.dataloop.labelling import LabellingTask
    from alhelpers.notebook.labelling_panel import LabellingPanel

    store = LabellingTask(task)
    panel = LabellingPanel(label_task(task, oracle=lambda item: None), store)
    item_id = panel.widget.state["item"]
    token = dl.client_api.token
    press = {"do": "label", "label": "cat", "item": item_id}
    try:
        dl.client_api.token = token[:-4] + "xxxx"
        panel._pressed(None, press, [])
    finally:
        dl.client_api.token = token
    assert panel.widget.state["item"] == item_id and "Press again" in panel.widget.state["message"]
    assert set(statuses(task).values()) == {None}
    panel._pressed(None, press, [])
    assert panel.widget.state["progress"] == "1 of 4"


def test_an_answer_without_its_status_leaves_no_annotation(dl, dataset, task):
    from alhelpers.dataloop.labelling import LabellingTask, TaskError

    store = LabellingTask(task)
    item = store.items()[0]
    dl.tasks.get(task_id=task.id).delete()
    with pytest.raises(TaskError, match="the platform did not do it"):
        store.write(item.id, "cat")
    assert len(item.annotations.list()) == 0


def test_undo_of_what_was_deleted_elsewhere_passes_over_it(dl, dataset, task):
    queue = label_task(task, oracle=lambda item: None)
    item_id = queue.current
    queue.answer("cat")
    dataset.items.delete(item_id=item_id)
    assert queue.undo()
    assert queue.current not in (None, item_id)
