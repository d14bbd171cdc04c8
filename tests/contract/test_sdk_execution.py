"""Executions of services through the real SDK: worker processes run a published codebase."""

import contextlib
import io
import itertools
import json
import os
import time
from pathlib import Path

import psutil
import pytest
from helpers_contract import MISSING, classify, fails, get_json, make_service, not_found, send
from helpers_execution import ended, publish, statuses, until

# Tests are shared among processes as these become free: a module's fixtures may be made several times in one of them.
_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def home(dl):
    return dl.projects.create(f"execution-{os.getpid()}-{next(_numbers)}")


@pytest.fixture(scope="module")
def service(dl, home, tmp_path_factory):
    name = f"functions-{os.getpid()}-{next(_numbers)}"
    dpk = publish(home, "functions", tmp_path_factory.mktemp("dpk"), name=name)
    return make_service(dl, home, dpk.id, "functions-service")


@pytest.fixture(scope="module")
def run(dl, home, service):
    """Execute a function of the service and wait for its end."""

    def execute(function_name, wait=True, **inputs):
        execution = service.execute(execution_input=inputs, function_name=function_name, project_id=home.id)
        return ended(dl, execution) if wait else execution

    return execute


@pytest.fixture(scope="module")
def item(home, tmp_path_factory):
    path = tmp_path_factory.mktemp("item") / "one.txt"
    path.write_text("one")
    return home.datasets.create("of-executions").items.upload(str(path), raise_on_error=True)


# ------------------------------------------------------------------------------------------------ what a run is


def test_an_execution_runs_and_tells(dl, home, service, run):
    execution = run("double", x=21)
    assert execution.latest_status["status"] == dl.ExecutionStatus.SUCCESS == "success"
    assert execution.latest_status["percentComplete"] == 100
    (replica,) = {each["replicaId"] for each in execution.status_log if each["status"] != "created"}
    assert replica == execution.latest_status["replicaId"]
    assert statuses(execution) == ["created", "in-progress", "in-progress", "success"]
    half = execution.status_log[2]
    assert (half["message"], half["percentComplete"]) == ("half way", 50)
    assert execution.status == execution.status_log
    assert execution.output == 42
    assert execution.input == {"x": 21} and execution.function_name == "double"
    assert execution.service_id == service.id and execution.project_id == home.id
    assert execution.package_id == service.package_id and execution.service_version == service.version
    assert execution.duration >= 0 and execution.attempts == 1 and execution.max_attempts == 1
    document, sent = get_json(dl, f"/executions/{execution.id}"), execution.to_json()
    assert document["action"] == "big"
    del sent["syncReplyTo "]  # the SDK misspells one of its own keys
    assert sent == {key: document[key] for key in sent}


def test_ways_to_execute_and_to_wait(home, service, dl):
    double = {"function_name": "double", "project_id": home.id}
    assert service.execute(execution_input={"x": 4}, sync=True, stream_logs=False, **double) == 8
    answer = service.executions.create(execution_input={"x": 4}, sync=True, **double)
    assert answer.output == 8 and answer.latest_status["status"] == "success"
    assert service.execute(execution_input={"x": 1}, **double).wait().output == 2
    given = [dl.FunctionIO(name="x", type=dl.PackageInputType.INT, value=3)]
    assert ended(dl, service.execute(execution_input=given, **double)).output == 6


def test_an_item_by_resource(dl, home, service, item):
    execution = service.execute(
        item_id=item.id, dataset_id=item.dataset_id, function_name="run", project_id=home.id
    )
    execution = ended(dl, execution)
    assert execution.input == {"item": {"dataset_id": item.dataset_id, "item_id": item.id}}
    assert execution.output == item.id
    filters = dl.Filters(resource=dl.FiltersResource.EXECUTION, field="resources.id", values=item.id)
    filters.add("resources.type", "Item")
    assert execution.id in [each.id for each in home.executions.list(filters).all()]
    filters = dl.Filters(resource=dl.FiltersResource.EXECUTION, field="resources.id", values=MISSING)
    assert home.executions.list(filters).items_count == 0


def test_every_type_of_input_and_several_outputs(dl, home, service, run, item):
    annotation = classify(dl, item, "x")[0]
    package = service.package
    body = {"name": "a model", "projectId": home.id, "packageId": service.package_id}
    model = send(dl, "post", "/ml/models", body)
    recipe = item.dataset.recipes.list()[0]
    inputs = {
        "item": {"item_id": item.id},
        "items": [item.id, {"item_id": item.id}],
        "dataset": item.dataset_id,
        "annotation": annotation.id,
        "model": {"model_id": model["id"]},
        "models": [model["id"]],
        "project": home.id,
        "recipe": recipe.id,
        "service": service.id,
        "package": package.id,
        "json": {"a": [1, None, {"item_id": "not touched"}]},
        "string": "word",
        "number": 1.5,
        "integer": "7",
        "floating": 2,
        "boolean": "true",
        "strings": ["a", "b"],
        "jsons": [{"b": 1}],
    }
    execution = run("kinds", **inputs)
    assert execution.latest_status["status"] == "success", execution.latest_status
    assert execution.output == {
        "item": ["Item", item.id],
        "items": [["Item", item.id]] * 2,
        "dataset": ["Dataset", item.dataset_id],
        "annotation": ["Annotation", annotation.id],
        "model": ["Model", model["id"]],
        "models": [["Model", model["id"]]],
        "project": ["Project", home.id],
        "recipe": ["Recipe", recipe.id],
        "service": ["Service", service.id],
        "package": execution.output["package"],
        "json": ["dict", inputs["json"]],
        "string": ["str", "word"],
        "number": ["float", 1.5],
        "integer": ["int", 7],
        "floating": ["float", 2.0],
        "boolean": ["bool", True],
        "strings": [["str", "a"], ["str", "b"]],
        "jsons": [["dict", {"b": 1}]],
    }
    assert execution.output["package"][1] == package.id
    assert run("several", item=item.id, items=[item.id, item.id]).output == [item.id, [item.id, item.id]]


def test_the_context_and_one_instance(dl, home, service, run, item):
    service.init_input = {"base": item.dataset_id, "greeting": "good day"}
    service.update()
    first = run("double", x=1)
    assert "good day 1" in log_of(service, execution_id=first.id)
    found = run("context")
    assert found.output == {
        "service": service.id,
        "project": home.id,
        "execution": found.id,
        "same": True,
        "calls": 1,
        "base": ["Dataset", item.dataset_id],
    }


# ---------------------------------------------------------------------------------------------------- failures


def test_a_failing_function(run, service):
    execution = run("fail")
    assert execution.latest_status["status"] == "failed"
    assert execution.latest_status["message"] == "ValueError: the cat is out"
    trace = execution.latest_status["error"]
    assert "main.py" in trace and 'raise ValueError("the cat is out")' in trace and "runner.py" not in trace
    assert "the cat is out" in log_of(service, execution_id=execution.id)
    assert run("double", x=1).output == 2


@pytest.mark.parametrize(
    ("function", "inputs", "message"),
    [
        ("leave", {}, "SystemExit: 3"),
        ("say_failed", {}, "said so"),
        ("no_json", {}, "cannot be written as JSON: object is neither JSON"),
        ("double", {}, "needs the inputs"),
        ("double", {"x": "many"}, "input 'x' must be of type Integer, got 'many'"),
        ("run", {"item": 7}, "input 'item' must be the id of a Item"),
        ("run", {"item": MISSING}, "not found"),
    ],
)
def test_what_a_function_refuses(run, function, inputs, message):
    execution = run(function, **inputs)
    assert execution.latest_status["status"] == "failed"
    assert message in execution.latest_status["message"]


def test_inputs_that_a_function_does_not_have_are_left_out(run):
    assert run("double", x=1, z=2).output == 2


def test_what_the_platform_refuses(dl, home, service, run):
    fails(dl.exceptions.BadRequest, "no function 'nothing'", run, "nothing")
    not_found(
        dl,
        lambda: dl.executions.get(execution_id=MISSING),
        lambda: dl.executions.create(service_id=MISSING, execution_input={}, project_id=home.id),
        lambda: dl.executions.create(service_id=service.id, execution_input={}, project_id=MISSING),
    )


def test_a_worker_that_crashes(run, service, tmp_path):
    execution = run("crash")
    assert execution.latest_status["status"] == "failed"
    assert execution.latest_status["message"] == "its worker process died (exit code 7)"
    assert run("double", x=1).output == 2
    service.on_reset, service.max_attempts = "rerun", 3
    service.update()
    again = run("crash", path=str(tmp_path / "crashed"))
    assert again.output == "survived" and again.attempts == 2
    assert statuses(again) == ["created", "in-progress", "created", "in-progress", "success"]
    service.on_reset = "failed"
    service.update()


def test_a_timeout(service, run, tmp_path):
    service.execution_timeout = 0.5
    service.update()
    execution = run("sleep", seconds=60, path=str(tmp_path / "s"))
    assert execution.latest_status["status"] == "failed"
    assert "longer than the 0.5 seconds" in execution.latest_status["message"]
    service.execution_timeout = 3600
    service.update()
    (pid,) = {int(line) for line in (tmp_path / "s").read_text().split()}
    until(lambda: not psutil.pid_exists(pid))


# --------------------------------------------------------------------------------------- terminate, rerun, pause


def test_terminate_and_rerun(dl, run, tmp_path):
    path = tmp_path / "grandchild"
    execution = run("child", wait=False, path=str(path))
    until(lambda: path.exists() and path.read_text())
    stopped = execution.terminate()
    assert stopped.id == execution.id and stopped.to_terminate
    assert stopped.latest_status["status"] == "terminated" and not stopped.in_progress()
    until(lambda: not alive(int(path.read_text())))
    assert dl.executions.get(execution_id=execution.id).latest_status["status"] == "terminated"
    assert run("double", x=2).output == 4
    assert stopped.terminate().latest_status["status"] == "terminated"


def alive(pid):
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_rerun(dl, service, run, tmp_path):
    execution = run("double", x=5)
    again = ended(dl, execution.rerun())
    assert again.id == execution.id and again.output == 10
    assert statuses(again) == ["created", "in-progress", "in-progress", "success"] * 2
    assert execution.rerun(sync=True).latest_status["status"] == "success"
    only = dl.Filters(resource=dl.FiltersResource.EXECUTION, field="id", values=execution.id)
    assert service.rerun_batch(only).status == "success"
    assert ended(dl, dl.executions.get(execution_id=execution.id)).attempts == 4
    execution = run("sleep", wait=False, seconds=60, path=str(tmp_path / "s"))
    fails(dl.exceptions.BadRequest, "has not ended", execution.rerun)
    execution.terminate()


def test_pause_and_resume(dl, service, run):
    assert service.pause() is True
    assert dl.services.get(service_id=service.id).active is False
    execution = run("double", wait=False, x=1)
    assert run_status(service) == []
    time.sleep(0.2)
    assert dl.executions.get(execution_id=execution.id).latest_status["status"] == "created"
    assert service.resume()["active"] is True
    assert ended(dl, execution).output == 2
    assert [each["status"] for each in run_status(service)] == ["Running"]
    assert service.restart() is True
    assert run("double", x=1).output == 2


def test_pause_stops_a_worker_that_waits_for_work(dl, service, run):
    assert run("double", x=1).output == 2
    assert len(run_status(service)) == 1
    service.pause()
    execution = run("double", wait=False, x=2)
    fails(TimeoutError, "created", dl.executions.wait, execution_id=execution.id, timeout=1)
    until(lambda: run_status(service) == [])
    service.resume()
    assert ended(dl, execution).output == 4


def run_status(service):
    return service.status()["runtimeStatus"]


def test_progress_from_outside(dl, service, run, tmp_path):
    execution = run("sleep", wait=False, seconds=1, path=str(tmp_path / "s"))
    until(lambda: (tmp_path / "s").exists())
    told = execution.progress_update(percent_complete=40, message="forty")
    assert told.latest_status["status"] == "in-progress" and told.latest_status["percentComplete"] == 40
    assert told.latest_status["message"] == "forty"
    told = execution.progress_update(status="failed", message="enough", output={"a": 1})
    assert told.latest_status["status"] == "failed" and told.output == {"a": 1}
    execution.increment()
    assert execution.attempts == 2
    with pytest.raises(dl.exceptions.BadRequest, match="unknown execution status 'asleep'"):
        execution.progress_update(status="asleep")


# -------------------------------------------------------------------------------------------------- lists, logs


def test_lists(dl, home, service, run):
    made = [run("double", x=number).id for number in range(3)]
    failed = run("fail").id
    by_service = service.executions.list()
    assert {*made, failed} <= {each.id for each in by_service.all()}
    assert home.executions.list().items_count >= by_service.items_count
    filters = dl.Filters(resource=dl.FiltersResource.EXECUTION)
    filters.add(field="latestStatus.status", values="failed")
    filters.add(field="id", values=[*made, failed], operator=dl.FiltersOperations.IN)
    assert [each.id for each in service.executions.list(filters).all()] == [failed]
    filters = dl.Filters(resource=dl.FiltersResource.EXECUTION)
    filters.add(field="functionName", values="double")
    filters.sort_by(field="createdAt", value=dl.FiltersOrderByDirection.DESCENDING)
    filters.page_size = 2
    page = service.executions.list(filters)
    assert [each.id for each in page.items] == made[:0:-1] and page.items_count >= 3
    assert dl.executions.get(execution_id=made[0]).service.id == service.id


def log_of(service, **options):
    """The lines of a log as the SDK shows them."""
    return "\n".join(service.log(view=False, **options))


def test_logs(service, run, capsys):
    execution = run("double", x=77)
    other = run("double", x=78)
    lines = log_of(service, execution_id=execution.id).splitlines()
    assert [line.split(": ", 1)[1] for line in lines] == [
        "[Start] Executing function.",
        lines[1].split(": ", 1)[1],
        "[functions] logged 77",
        "[Done] Executing function.",
    ]
    assert lines[1].endswith(" 77")
    execution.logs()
    assert "logged 77" in capsys.readouterr().out
    found = log_of(service, text="logged 78")
    assert "logged 78" in found and "logged 77" not in found
    assert log_of(service, start=other.created_at).count("[Start]") == 1
    followed = io.StringIO()
    with contextlib.redirect_stdout(followed):
        service.log(execution_id=other.id, follow=True)
    assert "[Done]" in followed.getvalue()
    run("double", x=5)
    run("run")
    assert "[Start] Executing function." in log_of(service, function_name="run")
    assert "hello" not in log_of(service, function_name="run")
    assert "5" in log_of(service, function_name="double")
    assert log_of(service, function_name="leave_me") == ""


def test_all_that_is_printed_is_logged_and_nothing_secret_shows(dl, platform, service, run, monkeypatch):
    monkeypatch.setenv("A_SECRET_OF_THE_SERVER", "sesame")
    service.pause()
    service.resume()
    execution = run("noise")
    log = log_of(service, execution_id=execution.id)
    assert "no line break" in log and "an error line" in log and "bytes \N{SNOWMAN} of a line" in log
    assert "a child" in log_of(service)
    until(lambda: "below python" in log_of(service))
    found = execution.output
    assert platform.token not in json.dumps(found) and platform.token not in log_of(service)
    assert "sesame" not in json.dumps(found) and found["environ"]["PATH"]
    assert found["argv"][1:] == []
    folder = Path(found["environ"]["DATALOOP_PATH"])
    assert (folder / "cookie.json").stat().st_mode & 0o077 == 0
    assert folder.parent.parent == platform.state_dir / "workers"
    assert found["environ"]["NO_PROXY"] == "127.0.0.1,localhost"


def test_a_query_makes_an_execution_for_each_item(dl, home, service, tmp_path):
    dataset = home.datasets.create("batch")
    for number in range(3):
        (tmp_path / f"{number}.txt").write_text("x")
    items = dataset.items.upload(f"{tmp_path}/*", raise_on_error=True, return_as_list=True)
    filters = dl.Filters(field="name", values="*.txt", context={"datasets": [dataset.id]})
    command = service.execute_batch(filters=filters, function_name="run")
    assert command.status == "success" and command.spec["count"] == 3
    everywhere = service.execute_batch(filters=dl.Filters(field="name", values="*.zip"), function_name="run")
    assert everywhere.spec["count"] == 0  # codebases are no data
    of_dataset = {"field": "input.item.dataset_id", "values": dataset.id}
    filters = dl.Filters(resource=dl.FiltersResource.EXECUTION, **of_dataset)
    found = [ended(dl, each) for each in service.executions.list(filters).all()]
    assert sorted(each.output for each in found) == sorted(item.id for item in items)


def test_executions_of_an_item(dl, home, service, run, tmp_path):
    path = tmp_path / "mine.txt"
    path.write_text("mine")
    item = home.datasets.create("of-items").items.upload(str(path), raise_on_error=True)
    assert item.resource_executions.list().items_count == 0
    ran = [run("run", item={"item_id": item.id}), run("several", item=item.id, items=[item.id])]
    run("kinds", json={"a": item.id})  # no entity there
    found = item.resource_executions.list()
    assert found.items_count == 2
    assert {each.execution_id for each in found.items} == {each.id for each in ran}
    assert {each.status for each in found.items} == {"success"}
    first = found.items[0]
    assert (first.resource_id, first.resource_type) == (item.id, "Item")
    assert first.service_name == service.name and first.function_name == "run" and first.progress == 100
    with pytest.raises(dl.exceptions.BadRequest, match="need a filter with its 'resourceId'"):
        item.resource_executions._list(dl.Filters(resource=dl.FiltersResource.RESOURCE_EXECUTION))


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({}, "needs 'serviceId' or 'modelId'"),
        ({"serviceId": MISSING}, "not found"),
        ({"serviceId": {"a": 1}}, "is not an id"),
        ({"text": 5}, "'text' is text"),
        ({"executionId": 5}, "is an id or a list of ids"),
        ({"executionId": [{}, None], "start": [], "size": -1, "checkpoint": 3, "logLevel": {}}, None),
        ({"start": "tomorrow", "checkpoint": {"a": "b"}, "functionName": 3, "follow": "no"}, None),
    ],
)
def test_odd_requests_for_logs(dl, service, body, message):
    base = {} if not body or "serviceId" in body else {"serviceId": service.id}
    success, answer = dl.client_api.gen_request("post", "/services/logs", json_req=base | body)
    assert answer.status_code == (200 if message is None else 404 if "not found" in message else 400)
    assert message is None or message in answer.json()["message"]


def test_a_talkative_function_keeps_a_short_status_log(dl, run):
    execution = run("chatter", times=220)
    entries = execution.status_log
    assert len(entries) == 200
    assert (statuses(execution)[0], statuses(execution)[-1]) == ("created", "success")
    assert entries[-2]["message"] == "step 219"
