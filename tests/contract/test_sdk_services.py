"""Services through the real SDK: made by apps, by packages, from a function; changed, listed, deleted."""

import itertools
import os
import threading
import time

import pytest
from helpers_contract import MISSING, fails, get_json, not_found
from helpers_execution import ended, publish, succeeded, until

_numbers = itertools.count(1)


@pytest.fixture
def app(project, tmp_path):
    dpk = publish(project, "functions", tmp_path, name=f"of-services-{os.getpid()}-{next(_numbers)}")
    return project.apps.install(dpk=dpk)


@pytest.fixture
def service(project, app):
    return project.services.get(service_name="functions-service")


@pytest.fixture
def start(project, service):
    """Start an execution of a function of the service."""

    def start(function, **inputs):
        return service.execute(execution_input=inputs, function_name=function, project_id=project.id)

    return start


def test_an_app_makes_its_services_which_are_found_by_name_and_id(dl, project, app, service):
    assert service.app == {
        "id": app.id,
        "dpkId": app.dpk.base_id,
        "dpkName": app.dpk_name,
        "dpkVersion": "1.0.0",
        "componentName": "functions-service",
    }
    assert service.module_name == "functions" and service.active is True
    assert service.execution_timeout == 77 and service.runtime.concurrency == 1
    assert service.package.name == app.dpk_name
    assert project.services.list().items_count == 1
    assert dl.services.get(service_id=service.id).project_id == project.id
    document, sent = get_json(dl, f"/services/{service.id}"), service.to_json()
    assert {key: document.get(key) for key in sent} == sent
    project.services.name_validation("a-name")
    fails(dl.exceptions.NotFound, "Service not found", project.services.get, service_name="nothing")
    not_found(dl, lambda: dl.services.get(service_id=MISSING))
    filters = dl.Filters(resource=dl.FiltersResource.SERVICE, field="name", values="functions-service")
    assert [each.id for each in project.services.list(filters).all()] == [service.id]


def test_a_service_goes_with_its_app(dl, app, service, start):
    execution = succeeded(dl, start("double", x=2))
    app.uninstall()
    not_found(dl, lambda: dl.services.get(service_id=service.id))
    assert dl.executions.get(execution_id=execution.id).output == 4
    not_found(dl, execution.rerun)


def test_what_an_app_may_not_bring(dl, project, service, tmp_path):
    other = publish(project, "functions", tmp_path, name=f"others-{os.getpid()}-{next(_numbers)}")
    with pytest.raises(dl.exceptions.FailedDependency, match="'functions-service' exists in the project"):
        project.apps.install(dpk=other)
    assert project.apps.list().items_count == 1


def test_update_and_revisions(dl, project, service):
    before = service.version
    service.runtime.concurrency = 3
    service.max_attempts = 2
    service.name = "renamed"
    changed = service.update()
    assert changed.runtime.concurrency == 3 and changed.max_attempts == 2 and changed.name == "renamed"
    assert changed.version != before and changed.created_at == service.created_at
    assert project.services.get(service_name="renamed").id == service.id
    revisions = changed.revisions
    assert [each["version"] for each in revisions] == [before, changed.version]
    assert [each["runtime"]["concurrency"] for each in revisions] == [1, 3]
    assert all(each["id"] == service.id for each in revisions)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("execution_timeout", -1, "'executionTimeout' must be a number of seconds above 0"),
        ("init_input", ["x"], "'initParams' must be an object"),
        ("runtime", {"concurrency": 0}, "'runtime.concurrency' must be a whole number"),
        ("on_reset", "shrug", "'onReset' must be one of"),
        ("max_attempts", 0, "'maxAttempts' must be a whole number"),
    ],
)
def test_a_wrong_setting_is_refused(dl, service, field, value, message):
    setattr(service, field, value)
    fails(dl.exceptions.BadRequest, message, service.update)
    assert dl.services.get(service_id=service.id).version == "1.0.0"


def test_a_broken_service_fails_its_executions_and_says_why(dl, service, start):
    service.init_input = {"base": MISSING}
    service.update()
    execution = ended(dl, start("double", x=2))
    assert execution.latest_status["status"] == "failed" and "not found" in execution.latest_status["message"]
    service.init_input = {}
    service.update()
    assert succeeded(dl, execution.rerun()).output == 4


def test_executions_run_side_by_side(dl, service, start, tmp_path):
    service.runtime.concurrency = 3
    service.update()
    begun = time.monotonic()
    path = tmp_path / "pids"
    slow = [start("sleep", seconds=60, path=str(path)) for _ in range(2)]
    until(lambda: path.exists() and len(path.read_text().split()) == 2)
    assert len(set(path.read_text().split())) == 1  # one process, two threads
    assert succeeded(dl, start("double", x=2)).output == 4
    slow[0].terminate()
    assert dl.executions.get(execution_id=slow[1].id).latest_status["status"] == "in-progress"
    again = [start("double", x=2) for _ in range(2)]
    assert [succeeded(dl, each).output for each in again] == [4, 4]
    assert dl.executions.get(execution_id=slow[1].id).attempts == 1  # it was not disturbed
    slow[1].terminate()
    assert time.monotonic() - begun < 60


def test_from_function(dl, project):
    def shout(string, item=None):
        return string.upper()

    name = f"shout-{os.getpid()}"
    made = dl.Service.from_function(shout, name=name, project=project, client_api=dl.client_api)
    execution = made.execute(execution_input={"string": "hey"}, function_name="shout", project_id=project.id)
    assert succeeded(dl, execution).output == "HEY"


def test_a_package_deployed(dl, project, tmp_path):
    (tmp_path / "main.py").write_text(
        "import dtlpy as dl\n"
        "class ServiceRunner(dl.BaseServiceRunner):\n"
        "    def __init__(self, word):\n"
        "        self.word = word\n"
        "    def run(self, string):\n"
        "        return f'{self.word} {string}'\n"
    )
    function = dl.PackageFunction(name="run", inputs=[dl.FunctionIO(name="string", type="String")])
    word = dl.FunctionIO(name="word", type="String")
    about = {"name": "m", "entry_point": "main.py"}
    module = dl.PackageModule(**about, functions=[function], init_inputs=[word])
    package = project.packages.push(package_name="pushed", src_path=str(tmp_path), modules=[module])
    service = package.services.deploy(
        service_name="deployed",
        module_name="m",
        init_input=[dl.FunctionIO(name="word", type="String", value="good")],
        runtime=dl.KubernetesRuntime(concurrency=2),
        execution_timeout=100,
    )
    assert service.package_id == package.id and service.runtime.concurrency == 2
    execution = service.execute(execution_input={"string": "day"}, function_name="run", project_id=project.id)
    assert succeeded(dl, execution).output == "good day"
    text = (tmp_path / "main.py").read_text()
    (tmp_path / "main.py").write_text(text.replace("{self.word} {string}", "{string}!"))
    package = project.packages.push(package_name="pushed", src_path=str(tmp_path), modules=[module])
    service.package_revision = package.version
    service = service.update()
    assert succeeded(dl, execution.rerun()).output == "day!"
    assert package.services.list().items_count == 1
    assert package.services.deploy(service_name="deployed").id == service.id
    assert service.delete() is True
    assert package.delete() is True


def test_a_follower_sees_lines_as_they_come(service, start, tmp_path):
    path = tmp_path / "pids"
    execution = start("sleep", seconds=60, path=str(path))
    until(path.exists)
    seen = []
    log = service.log(execution_id=execution.id, follow=True, view=False)
    follower = threading.Thread(target=lambda: seen.extend(log), daemon=True)
    follower.start()
    until(lambda: any("[Start]" in line for line in seen))
    execution.terminate()
    follower.join(30)
    assert not follower.is_alive()
