"""The page shows what the SDK has made, and a person can give the statuses that the SDK then reads."""

import json

import pytest
from helpers_contract import MISSING, install
from page_browser import check_harmless, fields, texts


def rows(page, caption):
    """The texts of a table's cells, by the first one of their row."""
    region = page.find(attrs={"aria-label": caption})
    return {
        row.th.get_text(strip=True): [texts(cell) for cell in row("td")] for row in region.select("tbody tr")
    }


@pytest.fixture
def model(dl, project, dataset):
    return project.models.create(
        model_name='digits "<b>"',
        app=install(dl, project),
        dpk_model_name="tiny-base",
        dataset_id=dataset.id,
        labels=["cat", "<i>dog</i>"],
        configuration={"epochs": 3, "<u>": "</pre>"},
    )


def test_a_model_with_its_curves(dl, browser, dataset, model):
    points = [(name, x) for name in ("train", "<b>val") for x in (1, 2)]
    samples = [dl.PlotSample(figure="loss", legend=name, x=x, y=1 / x) for name, x in points]
    model.metrics.create(samples=samples, dataset_id=dataset.id)
    model.status = "trained"
    model.update()
    page = browser.page(f"/models/{model.id}")
    check_harmless(page)
    assert page.h1.text == 'digits "<b>"'
    assert texts(page.select_one(".log")).split()[::3] == ["pre-trained", "trained"]
    assert '"<u>": "</pre>"' in page.pre.text
    assert page.find("a", string="images")["href"] == f"/datasets/{dataset.id}"
    (chart,) = page.select("figure")
    drawing = chart.find("svg")
    assert "train: from 1 at 1 to 0.5 at 2" in drawing["aria-label"]
    assert [texts(entry) for entry in chart.select(".legend li")] == ["<b>val", "train"]
    assert len(drawing.select(".series path")) == 2
    assert {tick.text for tick in drawing.select("text.tick")} >= {"1", "2", "0.4"}


def test_a_model_with_its_evaluation(browser, dataset, model, tmp_path):
    curve = {"0.5": {"recall": [0, 0.5, 1], "precision": [1, 0.75, 0.5], "confidence": [0.9, 0.8, 0.7]}}
    (tmp_path / f"{model.id}-interpolated.json").write_text(json.dumps(curve))
    (tmp_path / f"{model.id}.csv").write_text("score")
    dataset.items.upload(f"{tmp_path}/*", remote_path="/.modelscores", raise_on_error=True)
    model.metadata["system"] = {"evaluate": {"datasets": [dataset.id, MISSING]}}
    model.update(system_metadata=True)
    page = browser.page(f"/models/{model.id}")
    (figure,) = page.select("figure")
    assert figure.figcaption.text == "Precision by recall on images"
    assert "from 1 at 0 to 0.5 at 1" in figure.svg["aria-label"]
    listed = page.find("h2", string="Evaluations").find_next("ul")
    assert texts(listed) == "on images ( scores ) on a deleted dataset"
    assert browser.send("GET", listed.find("a", string="scores")["href"]).content == b"score"


def test_a_clone_knows_its_source(browser, model):
    copy = model.clone(model_name="copy")
    assert browser.page(f"/models/{copy.id}").find("a", string=model.name)["href"] == f"/models/{model.id}"
    assert browser.page(f"/models/{model.id}").find("a", string="copy")["href"] == f"/models/{copy.id}"


def test_a_model_that_has_done_nothing_and_one_that_failed(browser, model, dl, platform):
    shown = texts(browser.page(f"/models/{model.id}"))
    assert "No metrics yet" in shown and "Not evaluated" in shown
    model.status = "failed"
    model.update()
    assert browser.page(f"/models/{model.id}").select_one(".log .state.bad").text == "failed"


@pytest.fixture
def task(dataset, fill):
    fill(3)
    return dataset.tasks.create(task_name="label <b>", assignee_ids=["ann@example.com"])


def form_of(page, name, action):
    """Find the form of an item, and what it sends when this button is pressed."""
    buttons = page.select(f"form.statuses button[aria-label$='{name}']")
    (button,) = [button for button in buttons if button["value"] == action]
    return button.parent["action"], fields(button.parent) | {"status": action}


def test_a_person_gives_statuses(browser, task):
    path = f"/tasks/{task.id}"
    page = browser.page(path)
    check_harmless(page)
    assert "0 of 3 items have a status" in texts(page)
    for name, action in (("0000.png", "completed"), ("0001.png", "discard"), ("0002.png", "completed")):
        answer = browser.send("POST", *form_of(browser.page(path), name, action))
        assert (answer.status, answer.headers["Location"]) == (303, path)
    items = {item.name: item for item in task.get_items().all()}
    given = {name: item.status(task_id=task.id) for name, item in items.items()}
    assert given == {"0000.png": "completed", "0001.png": "discard", "0002.png": "completed"}
    read = task.tasks.get(task_id=task.id)
    assert (read.status, read.progress) == ("completed", 100)
    # And back again, by the button that clears.
    browser.send("POST", *form_of(browser.page(path), "0001.png", ""))
    assert task.tasks.get(task_id=task.id).status == "open"


def test_items_of_a_task_by_status_and_annotator(browser, task):
    path = f"/tasks/{task.id}"
    browser.send("POST", *form_of(browser.page(path), "0000.png", "completed"))

    def shown(query):
        return sorted(name.text for name in browser.page(path + query).select(".grid .name"))

    assert shown("") == ["0000.png", "0001.png", "0002.png"]
    assert shown("?status=open") == ["0001.png", "0002.png"]
    assert shown("?status=completed") == ["0000.png"]
    assert shown("?status=discard") == []
    page = browser.page(path)
    assert [texts(tab) for tab in page.select(".tabs a")] == ["All 3", "Open 2", "Completed 1", "Discarded 0"]
    assert rows(page, "Assignments") == {"ann@example.com": ["in progress", "3", "2"]}
    (assignment,) = task.assignments.list()
    assert shown(f"?assignment={assignment.id}&status=open") == ["0001.png", "0002.png"]


def test_a_review_task_offers_its_own_statuses(browser, task):
    for item in task.get_items().all():
        item.update_status(status="completed", task_id=task.id)
    review = task.create_qa_task(due_date=0, assignee_ids=["bob@example.com"])
    page = browser.page(f"/tasks/{review.id}")
    assert {button.text for button in page.select("form.statuses button")} == {"Approved", "Discarded"}


@pytest.mark.parametrize("change", [{"form_token": "0" * 64}, {"form_token": ""}, {"form_token": None}])
def test_a_form_of_another_site_changes_nothing(browser, task, change):
    path, form = form_of(browser.page(f"/tasks/{task.id}"), "0000.png", "completed")
    form = {name: value for name, value in (form | change).items() if value is not None}
    assert browser.send("POST", path, form).status == 403
    assert task.tasks.get(task_id=task.id).progress == 0


def test_a_status_that_the_task_does_not_know(browser, task):
    path, form = form_of(browser.page(f"/tasks/{task.id}"), "0000.png", "completed")
    answer = browser.send("POST", path, form | {"status": "<b>wrong"})
    assert answer.status == 400 and "&lt;b&gt;wrong" in answer.text
    without = {name: value for name, value in form.items() if name != "status"}
    assert browser.send("POST", path, without).status == 400
    assert browser.send("POST", path.replace(path.split("/")[4], MISSING), form).status == 404
    assert browser.send("POST", path, form, {"Content-Type": "text/plain"}).status == 400


def test_a_pipeline_with_live_counts(dl, browser, project, dataset, fill):
    items = fill(3)
    recipe = dataset.recipes.list()[0]
    pipeline = project.pipelines.create(name="label <b>", project_id=project.id)
    places = (project.id, dataset.id)
    raw = dl.DatasetNode("Raw", *places, position=(1, 1))
    work = ("ann@example.com", [dl.WorkloadUnit("ann@example.com", 100)])
    options = {"actions": ["completed", "discard"], "position": (2, 1)}
    label = dl.TaskNode("Label <i>", *places, recipe.title, recipe.id, *work, **options)
    done = dl.DatasetNode("Done", *places, "/done", position=(3, 1))
    pipeline.nodes.add(raw).connect(label).connect(done, source_port=label.outputs[0], action="completed")
    pipeline.update()
    path = f"/pipelines/{pipeline.id}"
    page = browser.page(path)
    check_harmless(page)
    assert [texts(cell) for cell in page.select("svg .node .title")] == ["Raw", "Label <i>", "Done"]
    assert len(page.select("svg path.edge")) == 2
    assert [text.text for text in page.select("svg .action")] == ["completed"]
    assert rows(page, "Nodes")["Label <i>"][:3] == ["task", "not run", "Done (completed)"]
    assert not page.find("meta", {"http-equiv": "refresh"})

    pipeline.install()
    for item in items:
        pipeline.execute(execution_input={"item": item.id})
    page = browser.page(path)
    assert rows(page, "Nodes")["Raw"][1] == "3 success"
    assert rows(page, "Nodes")["Label <i>"][1] == "3 in-progress"
    assert page.find("meta", {"http-equiv": "refresh"})["content"] == "5"
    assert not browser.page(f"{path}?live=no").find("meta", {"http-equiv": "refresh"})

    # A person completes one item, and the pipeline goes on.
    task = page.select_one("[aria-label=Nodes] a[href^='/tasks/']")["href"]
    browser.send("POST", *form_of(browser.page(task), items[0].name, "completed"))
    page = browser.page(path)
    assert rows(page, "Nodes")["Label <i>"][1] == "2 in-progress 1 success"
    assert rows(page, "Nodes")["Done"][1] == "1 success"
    states = [row[0] for row in rows(page, "Runs").values()]
    assert sorted(states) == ["in-progress", "in-progress", "success"]

    (run,) = [row.a["href"] for row in page.select("[aria-label=Runs] tbody tr") if "success" in texts(row)]
    page = browser.page(run)
    assert [row[:3] for row in rows(page, "Nodes").values()][2] == ["storage", "1 success", ""]
    cells = page.select("[aria-label=Executions] td:nth-of-type(2)")
    assert [texts(cell) for cell in cells] == ["Raw", "Label <i>", "Done"]
    execution = browser.page(page.select_one("[aria-label=Executions] a")["href"])
    check_harmless(execution)
    assert items[0].id in execution.find("summary", string="Input").parent.pre.text
    assert execution.find("a", string="label <b>")["href"] == path
    listed = browser.page(f"/projects/{project.id}/executions")
    assert [texts(tab) for tab in listed.select(".tabs a")] == ["All 7", "in-progress 2", "success 5"]
    only = browser.page(f"/projects/{project.id}/executions?status=success")
    assert len(only.select("[aria-label=Executions] tbody tr")) == 5


def test_what_the_sdk_opens_in_a_browser_is_there(
    dl, platform, browser, monkeypatch, project, dataset, fill, model
):
    opened = []
    monkeypatch.setattr("webbrowser.open", lambda url, **_: opened.append(url))

    def seen():
        path = opened[-1].removeprefix(platform.url)
        return browser.page(browser.send("GET", path).headers.get("Location", path))

    (item,) = fill(1)
    task = dataset.tasks.create(task_name="label", assignee_ids=["ann@example.com"])
    pipeline = project.pipelines.create(name="flow")
    own_page = ((dataset, "images"), (item, "/0000.png"), (task, "label"), (pipeline, "flow"))
    for entity, title in (*own_page, (model, model.name)):
        entity.open_in_web()
        assert seen().h1.text == title
    for entity in (project, dataset.recipes.list()[0], task.assignments.list()[0], project.models):
        entity.open_in_web()
        assert seen().h1.text == project.name
    for entity in (project.datasets, project.pipelines, dataset.tasks, dl.projects):
        entity.open_in_web()
        seen()
    dl.Filters(field="annotated", values=True).open_in_web(dataset)
    assert seen().h1.text == "images"
    assert len(opened) == 14
