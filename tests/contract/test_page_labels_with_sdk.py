"""Labels given on the page, by its plain form and as its script sends them, are what the SDK then reads."""

import json

import pytest
from helpers_contract import MISSING, install, make_service
from helpers_tasks import ANN, BOB, make
from page_browser import Browser, check_harmless, fields, texts

CAT, DOG = "cat", "dog"


@pytest.fixture
def items(dataset, fill):
    """Three images of 6 x 8 pixels, in a dataset with two labels."""
    dataset.add_labels([CAT, DOG])
    return sorted(fill(3), key=lambda item: item.id)  # as they follow each other in a task


@pytest.fixture
def task(dataset, items):
    return make(dataset)


class Labeller:
    """A person at the page of one task."""

    def __init__(self, browser, task):
        self.browser, self.task = browser, task

    def open(self, item, query=""):
        """Load the page of an item, from which the next form is sent."""
        self.path = f"/tasks/{self.task.id}/items/{item.id}"
        page = self.browser.page(self.path + query)
        check_harmless(page)
        self.form = fields(page.find(id="label"))
        return page

    def send(self, code=303, **values):
        """Send the form; return the address that follows, or the message of the error."""
        if "boxes" in values:
            values["boxes"] = json.dumps(values["boxes"])
        answer = self.browser.send("POST", self.path, self.form | values)
        assert answer.status == code, answer.text
        return answer.headers["Location"] if code == 303 else answer.text

    def undo(self, code=303):
        answer = self.browser.send("POST", f"/tasks/{self.task.id}/undo", self.form)
        assert answer.status == code, answer.text
        return answer.headers["Location"].partition("?")[0] if code == 303 else answer.text


@pytest.fixture
def ann(browser, task):
    return Labeller(browser, task)


@pytest.fixture
def stored(dataset):
    """Read an item's annotations as JSON, and its status in a task."""

    def stored(item, task):
        item = dataset.items.get(item_id=item.id)
        found = sorted((each.to_json() for each in item.annotations.list()), key=lambda each: each["id"])
        return found, item.status(task_id=task.id)

    return stored


def suggest(dl, item, *definitions):
    """Upload what a model predicts on an item."""
    builder = item.annotations.builder()
    for number, definition in enumerate(definitions):
        info = {"name": "net", "model_id": MISSING, "confidence": 0.9 - number / 10}
        builder.add(annotation_definition=definition, model_info=info)
    return item.annotations.upload(builder)


def labels(found):
    return [(each["type"], each["label"], each["creator"]) for each in found]


# ------------------------------------------------------------------------------------------------------- classes


def test_one_button_an_item(browser, ann, task, items, stored):
    first = browser.send("GET", f"/tasks/{task.id}/label").headers["Location"]
    assert first == f"/tasks/{task.id}/items/{items[0].id}"
    page = ann.open(items[0])
    buttons = page.select("button[name=label]")
    assert [(each["value"], each["data-key"]) for each in buttons] == [(CAT, "1"), (DOG, "2")]
    assert "0 of 3 items" in texts(page) and f"as {ANN}" in texts(page)
    assert ann.send(label=CAT) == f"/tasks/{task.id}/items/{items[1].id}"
    found, status = stored(items[0], task)
    assert (labels(found), status) == ([("class", CAT, ANN)], "completed")
    assert "metadata" not in found[0] or "model" not in str(found[0]["metadata"])
    ann.open(items[1])
    assert ann.send(status="discard") == f"/tasks/{task.id}/items/{items[2].id}"
    assert stored(items[1], task) == ([], "discard")
    ann.open(items[2])
    assert ann.send(label=DOG) == f"/tasks/{task.id}"
    assert task.tasks.get(task_id=task.id).status == "completed"
    assert browser.send("GET", f"/tasks/{task.id}/label").headers["Location"] == f"/tasks/{task.id}"


def test_another_class_replaces_the_first(ann, task, items, stored):
    ann.open(items[0])
    ann.send(label=CAT)
    before = stored(items[0], task)[0]
    page = ann.open(items[0])
    assert page.select_one("button[name=label][aria-pressed=true]")["value"] == CAT
    ann.send(label=DOG)
    after = stored(items[0], task)[0]
    assert labels(after) == [("class", DOG, ANN)] and after[0]["id"] == before[0]["id"]


def test_skipping_comes_round_again(ann, task, items):
    places = [f"/tasks/{task.id}/items/{item.id}" for item in items]
    for item, following in zip(items, [*places[1:], places[0]], strict=True):
        assert ann.open(item).select_one("a[data-key=s]")["href"] == following
    ann.open(items[0], "?tool=boxes")
    assert ann.send(label=CAT) == f"{places[1]}?tool=boxes"


def test_each_annotator_goes_through_their_own(browser, dataset, items):
    task = make(dataset, assignees=[ANN, BOB])
    bob = next(each for each in task.assignments.list() if each.annotator == BOB)
    first = browser.send("GET", f"/tasks/{task.id}/label?assignment={bob.id}").headers["Location"]
    assert first.endswith(f"?assignment={bob.id}")
    labeller, (own,) = Labeller(browser, task), [item for item in bob.get_items().all()]
    assert f"as {BOB}" in texts(labeller.open(own, f"?assignment={bob.id}"))
    assert labeller.send(label=CAT) == f"/tasks/{task.id}"
    assert labels(each.to_json() for each in own.annotations.list()) == [("class", CAT, BOB)]


def test_annotators_of_one_item_keep_their_own_labels(browser, dataset, items, stored):
    task = make(dataset, assignees=[ANN, BOB], consensus_percentage=100, consensus_assignees=2)
    labeller = Labeller(browser, task)
    for assignment, label in zip(task.assignments.list(), (CAT, DOG), strict=True):
        page = labeller.open(items[0], f"?assignment={assignment.id}")
        assert not page.select("button[name=label][aria-pressed=true]")
        labeller.send(label=label)
    found, status = stored(items[0], task)
    assert {each["label"] for each in found} == {CAT, DOG} and len({each["creator"] for each in found}) == 2
    assert status == "completed"


def test_a_recipe_without_labels_says_how_to_add_some(browser, dataset, fill):
    (item,) = fill(1)
    assert "dataset.add_labels" in texts(Labeller(browser, make(dataset)).open(item))


# --------------------------------------------------------------------------------------------------- suggestions


def test_a_suggested_class_is_accepted(dl, ann, task, items, stored):
    suggest(dl, items[0], dl.Classification(DOG), dl.Classification(CAT))
    page = ann.open(items[0])
    assert "net suggests dog 90.0% Accept" in texts(page)
    ann.send(accept="yes")
    found, status = stored(items[0], task)
    assert (labels(found), status) == ([("class", DOG, ANN)], "completed")
    assert "model" not in found[0]["metadata"].get("user", {})


def test_a_label_takes_the_place_of_a_suggestion(dl, ann, task, items, stored):
    suggest(dl, items[0], dl.Classification(DOG), dl.Box(1, 1, 3, 3, CAT))
    ann.open(items[0])
    ann.send(label=CAT)
    assert labels(stored(items[0], task)[0]) == [("class", CAT, ANN)]


def test_a_suggestion_is_neither_accepted_nor_lost_by_itself(dl, ann, task, items, stored):
    suggest(dl, items[0], dl.Classification(DOG))
    before = stored(items[0], task)[0]
    ann.open(items[0])
    assert "accept or delete what it suggests" in ann.send(400)
    assert stored(items[0], task) == (before, None)
    ann.send(status="discard")
    assert stored(items[0], task) == (before, "discard")


def test_there_is_nothing_to_accept(ann, items):
    ann.open(items[0])
    assert "no model suggests anything" in ann.send(400, accept="yes")


# --------------------------------------------------------------------------------------------------------- boxes


def boxes(found):
    return [[*each["coordinates"][0].values(), *each["coordinates"][1].values()] for each in found]


def test_boxes_are_drawn_changed_and_deleted(dl, ann, task, items, stored):
    page = ann.open(items[0])
    assert json.loads(page.find(id="label")["data-boxes"]) == []
    new = [{"label": CAT, "box": [1, 2, 3.5, 4]}, {"label": DOG, "box": [0, 0, 6, 8]}]
    ann.send(boxes={"changed": new, "deleted": []})
    found, status = stored(items[0], task)
    assert labels(found) == [("box", CAT, ANN), ("box", DOG, ANN)] and status == "completed"
    (cat, dog) = items[0].annotations.list()
    assert (cat.left, cat.top, cat.right, cat.bottom) == (1, 2, 3.5, 4)
    page = ann.open(items[0])
    shown = json.loads(page.find(id="label")["data-boxes"])
    assert [each["box"] for each in shown] == [[1, 2, 3.5, 4], [0, 0, 6, 8]]
    assert page.select_one("input[name=tool]")["value"] == "boxes"
    change = {"changed": [{"id": cat.id, "label": DOG, "box": [1, 2, 5, 6]}], "deleted": [dog.id]}
    ann.send(boxes=change)
    (left,) = items[0].annotations.list()
    assert (left.id, left.label, left.right, left.bottom) == (cat.id, DOG, 5, 6)


def test_suggested_boxes_are_accepted_changed_or_dropped(dl, ann, task, items, stored):
    one, two, _ = suggest(dl, items[0], *(dl.Box(n, n, n + 2, n + 2, CAT) for n in range(3)))
    shown = json.loads(ann.open(items[0]).find(id="label")["data-boxes"])
    assert [each["suggested"] for each in shown] == [True] * 3
    changed = [
        {"id": one.id, "label": CAT, "box": shown[0]["box"]},
        {"id": two.id, "label": DOG, "box": [1, 1, 5, 5]},
    ]
    ann.send(boxes={"changed": changed})
    found, _ = stored(items[0], task)
    assert labels(found) == [("box", CAT, ANN), ("box", DOG, ANN)]
    assert boxes(found) == [[0, 0, 0, 2, 2, 0], [1, 1, 0, 5, 5, 0]]
    # One reaches out of the image, and stays as it was predicted.
    (far,) = suggest(dl, items[1], dl.Box(0, 0, 6.5, 8.2, CAT))
    ann.open(items[1])
    ann.send(boxes={"changed": [{"id": far.id, "label": CAT, "box": [0, 0, 6.5, 8.2]}]})
    assert boxes(stored(items[1], task)[0]) == [[0, 0, 0, 6.5, 8.2, 0]]
    suggest(dl, items[1], dl.Box(0, 0, 2, 2, CAT))
    ann.open(items[1])
    ann.send(accept="yes")
    assert labels(stored(items[1], task)[0]) == [("box", CAT, ANN)] * 2
    (wrong,) = suggest(dl, items[2], dl.Box(0, 0, 2, 2, CAT))
    ann.open(items[2])
    ann.send(boxes={"deleted": [wrong.id]})
    assert stored(items[2], task) == ([], "completed")


def test_a_turned_box_stays_as_it_is(dl, ann, task, items):
    (turned,) = items[0].annotations.upload(
        [dl.Annotation.new(annotation_definition=dl.Box(1, 1, 4, 3, CAT, angle=30))]
    )
    page = ann.open(items[0])
    assert json.loads(page.find(id="label")["data-boxes"]) == [] and page.select("svg .mark.box rect")
    text = ann.send(400, boxes={"changed": [{"id": turned.id, "label": CAT, "box": [1, 1, 2, 2]}]})
    assert "has no box" in text


GOOD = {"label": CAT, "box": [1, 1, 3, 4]}
BAD_BOXES = [
    ({"box": [1, 1, 7, 4]}, "must lie in the image of 6 x 8 pixels"),
    ({"box": [-1, 1, 3, 4]}, "must lie in the image"),
    ({"box": [1, 1, 1, 4]}, "left &lt; right"),
    ({"box": [3, 1, 1, 4]}, "left &lt; right"),
    ({"box": [1, 1, 3]}, "must be [left, top, right, bottom]"),
    ({"box": [1, 1, True, 4]}, "must be [left, top, right, bottom]"),
    ({"box": "1234"}, "must be [left, top, right, bottom]"),
    (
        {"label": "cow"},
        "&#39;cow&#39; is not in the recipe of task &#39;label&#39;: &#39;cat&#39;, &#39;dog&#39;",
    ),
    ({"label": ["cat"]}, "is not in the recipe"),
    ({"id": MISSING}, "has no box"),
    ({"id": 5}, "has no box"),
]
NO_BOXES = (
    "[",
    "[]",
    "7",
    '{"changed": 7}',
    '{"changed": [7]}',
    '{"changed": [{"id": "x"}]}',
    "[NaN]",
    '{"deleted": 7}',
)


def test_a_box_that_is_none_is_refused(browser, ann, task, items, stored):
    ann.open(items[0])
    for box, message in BAD_BOXES:
        assert message in ann.send(400, boxes={"changed": [GOOD, GOOD | box]})
    for text in NO_BOXES:
        answer = browser.send("POST", ann.path, ann.form | {"boxes": text})
        assert answer.status == 400 and "must be JSON" in answer.text
    assert stored(items[0], task) == ([], None)


def test_a_box_of_another_item_is_refused(dl, ann, items):
    suggest(dl, items[1], dl.Box(1, 1, 3, 3, CAT))
    (other,) = items[1].annotations.list()
    ann.open(items[0])
    assert "has no box" in ann.send(400, boxes={"deleted": [other.id]})
    assert "has no box" in ann.send(
        400, boxes={"changed": [{"id": other.id, "label": CAT, "box": [1, 1, 2, 2]}]}
    )
    assert len(items[1].annotations.list()) == 1


# ---------------------------------------------------------------------------------------------- what is refused


def test_what_cannot_be_labelled(browser, dataset, ann, task, items, fill, stored):
    ann.open(items[0])
    assert "&#39;cow&#39; is not in the recipe" in ann.send(400, label="cow")
    assert "has no status" in ann.send(400, status="nice")
    ann.send(403, form_token="0" * 64, label=CAT)
    assert stored(items[0], task) == ([], None)
    (foreign,) = fill(1, names=["late.png"])
    path = f"/tasks/{task.id}/items/{foreign.id}"
    assert "item in task" in texts(browser.page(path, 404))
    assert browser.send("POST", path, ann.form | {"label": CAT}).status == 404
    assert browser.page(f"/tasks/{task.id}/items/{items[0].id}?assignment={MISSING}", 404)
    assert browser.page(f"/tasks/{MISSING}/items/{items[0].id}", 404)


def test_a_finished_task_is_closed_until_a_status_is_cleared(ann, task, items, stored):
    for item in items:
        ann.open(item)
        ann.send(label=CAT)
    page = ann.open(items[1])
    assert "This task is finished" in texts(page) and page.find("fieldset").has_attr("disabled")
    assert "is finished: clear the status" in ann.send(400, label=DOG)
    assert ann.send(status="") == ann.path
    assert [labels(stored(items[1], task)[0]), stored(items[1], task)[1]] == [[("class", CAT, ANN)], None]
    ann.open(items[1])
    ann.send(label=DOG)
    assert labels(stored(items[1], task)[0]) == [("class", DOG, ANN)]


def test_two_browsers_in_one_task_lose_nothing(dl, platform, browser, ann, task, items, stored):
    second = Browser(platform.url)
    second.send("GET", platform.page.removeprefix(platform.url))
    other = Labeller(second, task)
    ann.open(items[0])
    other.open(items[0])
    ann.send(label=CAT)
    before = stored(items[0], task)
    assert "changed elsewhere meanwhile, so nothing was changed here" in other.send(409, label=DOG)
    other.send(409, status="discard")
    assert stored(items[0], task) == before
    other.open(items[0])
    other.send(label=DOG)
    # What the other browser has saved since then is not undone here, and there is nothing more to undo.
    assert "changed elsewhere" in ann.undo(409)
    assert "nothing of this task can be undone" in ann.undo(400)
    assert labels(stored(items[0], task)[0]) == [("class", DOG, ANN)]
    # The SDK counts as another browser, too.
    ann.open(items[1])
    items[1].annotations.upload([dl.Annotation.new(annotation_definition=dl.Classification(DOG))])
    ann.send(409, label=CAT)


# -------------------------------------------------------------------------------------------------------- undoing


@pytest.mark.parametrize(
    "values",
    [
        {"label": CAT},
        {"accept": "yes"},
        {"status": "discard"},
        {"boxes": {"changed": [{"label": DOG, "box": [1, 1, 3, 4]}]}},
        {"boxes": "all", "label": DOG},
    ],
)
def test_undo_brings_everything_back(dl, browser, ann, task, items, stored, values):
    """Also what only the SDK sees: ids, times, and the stored fields of predictions."""
    item = items[0]
    suggest(dl, item, dl.Classification(DOG), dl.Box(1, 1, 3, 3, CAT))
    own = [dl.Classification(CAT), dl.Box(0, 0, 2, 2, CAT)]
    item.annotations.upload([dl.Annotation.new(annotation_definition=each) for each in own])
    for each in item.annotations.list():
        each.metadata.setdefault("user", {})["prediction"] = {"confidences": [0.1, 0.9]}
        each.update()
    before = stored(item, task)
    page = ann.open(item)
    assert page.select_one("[data-key=u]").has_attr("disabled")
    if values.get("boxes") == "all":
        values = values | {"boxes": {"deleted": [each["id"] for each in before[0] if each["type"] == "box"]}}
    ann.send(**values)
    assert stored(item, task) != before
    assert not ann.open(items[1]).select_one("[data-key=u]").has_attr("disabled")
    assert ann.undo() == f"/tasks/{task.id}/items/{item.id}"
    assert stored(item, task) == before
    assert dl.items.get(item_id=item.id).annotations_count == 4
    ann.open(item)
    ann.send(**values)


def test_undo_goes_back_item_by_item_and_reopens_a_finished_task(ann, task, items, stored):
    for item in items:
        ann.open(item)
        ann.send(label=CAT)
    for item in reversed(items):
        assert ann.undo() == f"/tasks/{task.id}/items/{item.id}"
        assert stored(item, task) == ([], None)
    assert task.tasks.get(task_id=task.id).progress == 0
    ann.undo(400)


# -------------------------------------------------------------------------------------------- what follows from it


def test_triggers_fire_as_after_the_sdk(dl, project, ann, items):
    service = make_service(dl, project, install(dl, project).dpk.id, f"counted-{project.id}")
    service.pause()  # executions are created, and no worker starts
    watched = dict.fromkeys(("Created", "Updated", "Deleted"), "Annotation") | {"statusChanged": "Item"}
    made = {
        action: service.triggers.create(
            **{"name": action, "function_name": "run", "resource": resource, "execution_mode": "Always"},
            actions=[action],
        ).id
        for action, resource in watched.items()
    }
    (old,) = suggest(dl, items[0], dl.Classification(DOG))
    ann.open(items[0])
    ann.send(label=CAT)
    ann.open(items[0])
    ann.send(label=DOG)
    seen = [each.trigger_id for each in project.executions.list().all()]
    counts = {action: seen.count(trigger_id) for action, trigger_id in made.items()}
    assert counts == {"Created": 2, "Updated": 1, "Deleted": 1, "statusChanged": 1}
    assert old.id not in [each.id for each in items[0].annotations.list()]


def test_a_pipeline_goes_on(dl, project, dataset, browser, items):
    recipe = dataset.recipes.list()[0]
    places = (project.id, dataset.id)
    pipeline = project.pipelines.create(name="label", project_id=project.id)
    raw = dl.DatasetNode("Raw", *places, position=(1, 1))
    work = (ANN, [dl.WorkloadUnit(ANN, 100)])
    options = {"actions": ["completed", "discard"], "position": (2, 1)}
    label = dl.TaskNode("Label", *places, recipe.title, recipe.id, *work, **options)
    done = dl.DatasetNode("Done", *places, "/done", position=(3, 1))
    pipeline.nodes.add(raw).connect(label).connect(done, source_port=label.outputs[0], action="completed")
    pipeline.update()
    pipeline.install()
    cycle = pipeline.execute(execution_input={"item": items[0].id})
    labeller = Labeller(browser, project.tasks.list()[0])
    labeller.open(items[0])
    labeller.send(label=CAT)
    assert (
        project.pipelines.get(pipeline_id=pipeline.id).pipeline_executions.get(cycle.id).status == "success"
    )
    assert labels(each.to_json() for each in items[0].annotations.list()) == [("class", CAT, ANN)]


def test_a_review_is_done_the_same_way(browser, ann, task, items, stored):
    for item in items:
        ann.open(item)
        ann.send(label=CAT)
    review = task.create_qa_task(due_date=0, assignee_ids=[BOB])
    bob = Labeller(browser, review)
    page = bob.open(items[0])
    assert page.select_one("button[data-key=Enter]")["value"] == "approved" and "Review as" in texts(page)
    bob.send()
    bob.open(items[1])
    bob.send(label=DOG)
    assert [stored(item, review)[1] for item in items] == ["approved", "approved", None]
    assert labels(stored(items[1], review)[0]) == [("class", DOG, ANN)]


# ------------------------------------------------------------------------------------------------------ the page


def test_only_the_labelling_page_has_scripts(browser, ann, task, items):
    ann.open(items[0])
    policy = browser.send("GET", ann.path).headers["Content-Security-Policy"]
    assert "script-src 'self';" in policy and "connect-src 'self'" in policy and "unsafe" not in policy
    assert "default-src 'none'" in policy
    assert "script-src" not in browser.send("GET", f"/tasks/{task.id}").headers["Content-Security-Policy"]
    for name in ("boxes.js", "label.js"):
        script = browser.send("GET", f"/{name}")
        assert script.headers["Content-Type"].startswith("text/javascript")
        assert script.headers["X-Content-Type-Options"] == "nosniff"


def test_hostile_labels_stay_text(dl, browser, dataset, fill):
    hostile = """"><script>alert('x')</script>&{{7*7}}"""
    dataset.add_labels([hostile, "a" * 300])
    (item,) = fill(1)
    suggest(dl, item, dl.Classification(hostile), dl.Box(1, 1, 3, 3, hostile))
    labeller = Labeller(browser, make(dataset))
    page = labeller.open(item)
    assert json.loads(page.find(id="label")["data-boxes"])[0]["label"] == hostile
    labeller.send(label=hostile)
    assert [each.label for each in item.annotations.list()] == [hostile]


def test_a_file_that_is_no_picture_is_labelled(browser, dataset, items, tmp_path):
    (tmp_path / "text.txt").write_text("x")
    item = dataset.items.upload(str(tmp_path / "text.txt"))
    labeller = Labeller(browser, make(dataset))
    assert "No picture to show" in texts(labeller.open(item))
    box = {"changed": [{"label": CAT, "box": [1, 1, 2, 2]}]}
    assert "a box needs an image of known size" in labeller.send(400, boxes=box)
    labeller.send(label=CAT)
