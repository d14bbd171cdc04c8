"""A server that is killed while executions run: the next one runs them again, each exactly once more."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import psutil
import pytest
import requests
from helpers_execution import APPS, until


class Api:
    """A platform process of its own, and calls to it without the SDK (whose login is the session's)."""

    def __init__(self, folder):
        self.folder = folder
        self.process = None

    def start(self):
        self.process = subprocess.Popen(
            [sys.executable, "-m", "alhelpers.platform", "--state-dir", str(self.folder)],
            stdout=subprocess.PIPE,
        )
        self.base = json.loads(self.process.stdout.readline())["url"] + "/api/v1"
        token = json.loads((self.folder / "credentials.json").read_text())["token"]
        self.headers = {"Authorization": f"Bearer {token}"}

    def __call__(self, method, path, body=None, **options):
        options |= {"headers": self.headers, "timeout": 30}
        answer = requests.request(method, self.base + path, json=body, **options)
        assert answer.ok, answer.text
        return answer.json()

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def status(self, execution_id):
        return self("get", f"/executions/{execution_id}")["latestStatus"]["status"]


@pytest.fixture
def api(tmp_path):
    api = Api(tmp_path / "state")
    api.start()
    yield api
    api.kill()


@pytest.fixture
def service(api, tmp_path):
    """A service with the functions of the tests, made without the SDK."""
    project = api("post", "/projects", data={"name": "p"})
    query = {"filter": {"name": "Binaries"}, "resource": "datasets", "systemSpace": True}
    query["context"] = {"projects": [project["id"]]}
    binaries = api("post", "/datasets/query", query)["items"][0]
    archive = shutil.make_archive(str(tmp_path / "code"), "zip", APPS / "functions")
    form = {"type": (None, "file"), "path": (None, "/codebases/functions/1.zip"), "file": open(archive, "rb")}
    item = api("post", f"/datasets/{binaries['id']}/items", files=form)
    manifest = json.loads((APPS / "functions" / "dataloop.json").read_text())
    manifest["codebase"] = {"type": "item", "itemId": item["id"]}
    dpk = api("post", "/app-registry", manifest)
    return api("post", "/services", {"name": "s", "projectId": project["id"], "packageId": dpk["id"]})


def execute(api, service, name, **inputs):
    body = {"functionName": name, "input": inputs, "projectId": service["projectId"]}
    return api("post", f"/executions/{service['id']}", body)["id"]


def test_a_killed_server_runs_what_was_running_once_more(api, service, tmp_path):
    path = tmp_path / "ran"
    running = execute(api, service, "sleep", seconds=3, path=str(path))
    waiting = [execute(api, service, "double", x=number) for number in range(3)]
    until(lambda: path.exists() and path.read_text())
    workers = psutil.Process(api.process.pid).children(recursive=True)
    assert workers and all(each.cmdline()[1:3] == ["-m", "alhelpers.platform.worker"] for each in workers)
    api.kill()
    until(lambda: not any(each.is_running() and each.status() != psutil.STATUS_ZOMBIE for each in workers))
    api.start()
    until(lambda: all(api.status(each) == "success" for each in [running, *waiting]))
    found = api("get", f"/executions/{running}")
    log = [entry["status"] for entry in found["statusLog"]]
    assert log == ["created", "in-progress", "created", "in-progress", "success"]
    assert "restarted" in found["statusLog"][2]["message"]
    assert found["output"] == "slept" and found["attempts"] == 2
    pids = path.read_text().split()
    assert len(pids) == len(set(pids)) == 2
    assert [api("get", f"/executions/{each}")["output"] for each in waiting] == [0, 2, 4]
    assert [api("get", f"/executions/{each}")["attempts"] for each in waiting] == [1, 1, 1]
    left = [each.name for each in (tmp_path / "state" / "workers").iterdir()]
    assert len(left) == 1  # the folder of the one worker that lives


def test_a_server_that_stops_ends_its_workers(api, service, tmp_path):
    path = tmp_path / "ran"
    running = execute(api, service, "sleep", seconds=600, path=str(path))
    until(lambda: path.exists() and path.read_text())
    (pid,) = path.read_text().split()
    api("post", "/local/stop")
    assert api.process.wait(timeout=30) == 0
    assert not psutil.pid_exists(int(pid))
    assert not (tmp_path / "state" / "workers").exists()
    api.start()
    until(lambda: len(path.read_text().split()) == 2)
    assert api.status(running) == "in-progress"


def test_a_server_for_its_clients_waits_for_what_runs(tmp_path, service, api):
    path = tmp_path / "ran"
    execute(api, service, "sleep", seconds=600, path=str(path))
    until(lambda: path.exists() and path.read_text())
    api.kill()
    arguments = ["-m", "alhelpers.platform", "--state-dir", str(api.folder), "--stop-with-clients"]
    code = (
        "import runpy, sys; import alhelpers.platform.server as server;"
        " server.FIRST_CLIENT = server.LAST_CLIENT = 0.5;"
        f" sys.argv = {arguments[1:]!r}; runpy.run_module('alhelpers.platform', run_name='__main__')"
    )
    api.process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    api.base = json.loads(api.process.stdout.readline())["url"] + "/api/v1"
    until(lambda: len(path.read_text().split()) == 2)
    time.sleep(1.5)  # three times what it would wait for a client
    assert api.process.poll() is None
    (execution,) = api("post", "/query/faas", {"resource": "executions", "filter": {}})["items"]
    api("post", f"/executions/{execution['id']}/terminate")
    assert api.process.wait(timeout=30) == 0
    assert os.path.isdir(api.folder)
