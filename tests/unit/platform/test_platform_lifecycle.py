"""Servers: started, found, refused, killed, restarted."""

import contextlib
import http.client
import http.server
import json
import os
import stat
import subprocess
import sys
import threading
import time
import urllib.request

import psutil
import pytest
from platform_client import Client, Refused

import alhelpers.platform
from alhelpers.platform import Platform, StateFolderBusy, launcher, server
from alhelpers.platform.services.items import models as items


def connect(platform):
    return Client(platform.url, platform.token)


def spawn(folder, *options):
    command = [sys.executable, "-m", "alhelpers.platform", "--state-dir", str(folder), *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    ready = json.loads(process.stdout.readline())
    return process, ready


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "state"


def test_state_survives_a_restart(folder):
    with alhelpers.platform.start(folder) as first:
        client = connect(first)
        dataset = client.dataset()
        item = client.upload(dataset["id"], "/a/b.txt", b"bytes")
    with alhelpers.platform.start(folder) as second:
        client = connect(second)
        assert second.token == first.token
        assert client.send("GET", f"/items/{item['id']}")["stream"].startswith(second.url)
        assert client.stream(item["id"]) == b"bytes"
        assert client.upload(dataset["id"], "/later.txt", b"")["id"] > item["id"]


def test_without_a_folder_nothing_stays():
    with alhelpers.platform.start() as platform:
        folder = platform.state_dir
        assert (folder / "platform.sqlite").is_file()
    assert not folder.exists()
    platform.stop()


def test_a_second_server_is_refused(folder):
    with alhelpers.platform.start(folder) as first:
        with pytest.raises(StateFolderBusy) as caught:
            alhelpers.platform.start(folder)
        assert str(folder) in str(caught.value) and first.url in str(caught.value)
        command = [sys.executable, "-m", "alhelpers.platform", "--state-dir", str(folder)]
        other = subprocess.run(command, capture_output=True, text=True, check=False)
        assert other.returncode == 1 and first.url in other.stderr
        assert alhelpers.platform.running(folder).url == first.url
    assert alhelpers.platform.running(folder) is None


def test_a_taken_port_is_an_error_that_leaves_the_folder_free(folder, tmp_path):
    with alhelpers.platform.start(tmp_path / "other") as other:
        with pytest.raises(OSError):
            alhelpers.platform.start(folder, port=int(other.url.rpartition(":")[2]))
    alhelpers.platform.start(folder).stop()


def test_a_port_that_does_not_exist_is_an_error_that_leaves_the_folder_free(folder):
    with pytest.raises(OSError, match="port must be 0-65535"):
        alhelpers.platform.start(folder, port=99999)
    alhelpers.platform.start(folder).stop()


def test_secrets_are_private(folder):
    with alhelpers.platform.start(folder) as platform:
        for name in ("server.json", "credentials.json"):
            assert stat.S_IMODE((folder / name).stat().st_mode) == 0o600
        assert platform.token not in repr(platform)


def test_login_needs_the_secret(folder):
    with alhelpers.platform.start(folder) as platform:
        secret = json.loads((folder / "credentials.json").read_text())["secret"]
        client = Client(platform.url, None)
        client.api = platform.url
        good = {"type": "refresh_token", "refresh_token": secret}
        assert client.send("POST", "/token?default", good)["id_token"] == platform.token
        wrong = [{"type": "refresh_token"} | more for more in ({"refresh_token": "x"}, {})]
        wrong += [{}, *({"username": "a", "password": each} for each in ("b", None, ["x"], ""))]
        for body in wrong:
            with pytest.raises(Refused, match="login failed") as caught:
                client.send("POST", "/token", body)
            assert caught.value.status == 401


def test_a_killed_server_is_not_found_and_the_next_one_starts(folder):
    """What it had acknowledged is checked by the tests that kill it under load."""
    process, ready = spawn(folder)
    process.kill()
    process.communicate()
    assert (folder / "server.json").is_file() and "token" not in ready
    assert alhelpers.platform.running(folder) is None
    alhelpers.platform.start(folder).stop()


class Stranger(http.server.BaseHTTPRequestHandler):
    """A program that listens on a port that a server had, and gives one answer to all requests."""

    protocol_version = "HTTP/1.1"

    def answer(self):
        self.server.heard.append(self.requestline + str(self.headers))
        content = self.server.answer(self.path)
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        for number in range(len(content)):
            self.wfile.write(content[number : number + 1])
            time.sleep(self.server.pause)

    do_GET = do_POST = answer

    def log_message(self, *_):
        pass


@pytest.fixture
def stranger():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Stranger) as server:
        server.heard, server.pause = [], 0
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def test_the_token_goes_only_to_a_server_that_has_proved_itself(folder, stranger):
    """The file of a killed server names a port that another program has now, which may even ask the next server."""
    with alhelpers.platform.start(folder) as first:
        killed = json.loads((folder / "server.json").read_text())
    killed["url"] = f"http://127.0.0.1:{stranger.server_port}"
    for odd in (
        {"url": 5},
        {"url": "http://127.0.0.1:x"},
        {"url": "http://127.0.0.1:99999"},
        {"token": None},
    ):
        (folder / "server.json").write_text(json.dumps(killed | odd))
        assert alhelpers.platform.running(folder) is None
    with alhelpers.platform.start(folder) as second:

        def relayed(path):
            with urllib.request.urlopen(second.url + path) as answer:
                return answer.read()

        health = json.dumps({"status": "ok", "pid": killed["pid"], "proof": "x"}).encode()
        for answer in (lambda _: b"[]", lambda _: b"hello", lambda _: health, relayed):
            stranger.answer = answer
            (folder / "server.json").write_text(json.dumps(killed))
            assert alhelpers.platform.running(folder) is None
        stolen = Platform(killed["url"], first.token, folder, killed["pid"])
        with pytest.raises(OSError, match=f"is not the platform of {folder}"):
            stolen.advance_clock(1)
    assert len(stranger.heard) == 5 and not [each for each in stranger.heard if first.token in each]


def test_a_wait_for_an_answer_ends(folder, stranger):
    stranger.answer, stranger.pause = lambda _: b" " * 1000, 0.05
    platform = Platform(f"http://127.0.0.1:{stranger.server_port}", "token", folder, 1)
    begun = time.monotonic()
    with pytest.raises(OSError):
        launcher.call(platform, "GET", "/local/health", timeout=0.3)
    assert time.monotonic() - begun < 3


def test_ensure_gives_one_server_to_all_and_it_ends_with_them(folder):
    code = (
        "import sys, alhelpers.platform as p; print(p.ensure(sys.argv[1]).pid, flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", code, str(folder)]
    options = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    clients = [subprocess.Popen(command, **options) for _ in range(3)]
    pids = {int(client.stdout.readline()) for client in clients}
    assert len(pids) == 1
    platform = alhelpers.platform.running(folder)
    server = psutil.Process(platform.pid)
    assert {platform.pid} == pids
    for client in clients:
        client.communicate(timeout=30)
    server.wait(timeout=30)
    assert alhelpers.platform.running(folder) is None
    assert not (folder / "server.json").exists()


def test_ensure_then_stop(folder):
    with alhelpers.platform.ensure(folder) as platform:
        assert alhelpers.platform.ensure(folder).pid == platform.pid != os.getpid()
        assert connect(platform).send("GET", "/users/me")["email"]
    assert alhelpers.platform.running(folder) is None


def test_bad_requests_are_400_with_a_way_out(folder):
    with alhelpers.platform.start(folder, upload_limit=10) as platform:
        client = connect(platform)
        dataset = client.dataset()
        items = f"/datasets/{dataset['id']}/items"
        sample = {"modelId": "m", "figure": "f", "legend": "l"}
        cases = [
            ("POST", "/datasets", b"{not json", "not valid JSON"),
            ("POST", "/datasets", b"[" * 100_000, "nests too deeply|not valid JSON"),
            ("POST", "/datasets", ["list"], "needs a JSON object"),
            ("POST", "/datasets", {"name": ""}, "'name' must be a non-empty string"),
            ("POST", "/datasets", {"name": "x", "projects": "p"}, "'projects' must be a list"),
            ("POST", items, {"type": "file"}, "multipart form"),
            ("POST", "/ml/models", {"name": "m"}, "'projectId' must be"),
            ("POST", "/ml/metrics/publish", [sample], "'data' with 'x'"),
            ("POST", "/pipelines", {"name": "p", "projectId": 3}, "'projectId' must be"),
            ("PATCH", "/nothing", {}, "not emulated offline: PATCH /api/v1/nothing"),
            ("POST", "/local/clients", {"pid": "x"}, "a client is"),
            ("POST", "/local/clients", {"pid": 1 << 40, "createTime": 0}, "a client is"),
            ("POST", "/datasets", {"name": "\ud800", "projects": ["p"]}, "not found"),
            ("POST", "/datasets/query", {"filter": {"name": "\ud800"}}, "not valid Unicode"),
            ("POST", "/datasets", {"name": "x", "metadata": []}, "'metadata' must be an object"),
        ]
        for method, path, body, message in cases:
            with pytest.raises(Refused, match=message) as caught:
                client.send(method, path, body)
            assert caught.value.status in (400, 404)
        with pytest.raises(Refused, match="limit of 10 bytes"):
            client.upload(dataset["id"], "/a", b"01234567890")
        with pytest.raises(Refused, match="an item needs a path"):
            client.upload(dataset["id"], "/", b"0")
        for form in (b"--b\r\n", b"", b"--b\r\nContent-Disposition: form-data\r\n\r\nx\r\n--b--\r\n"):
            with pytest.raises(Refused) as caught:
                client.send("POST", items, form, "multipart/form-data; boundary=b")
            assert caught.value.status == 400
        assert os.listdir(folder / "incoming") == []


def test_the_cookie_keeps_everything_in_the_state_folder(folder):
    with alhelpers.platform.start(folder) as platform:
        cookie = alhelpers.platform.cookie(platform)
        assert cookie["url"] == platform.environment == platform.url + "/api/v1"
        assert cookie["login_parameters"][platform.environment]["gate_url"] == platform.url
        assert cookie["cache_configs"]["cache_path"].startswith(str(platform.state_dir))
        json.dumps(cookie)


PLACES = "projects datasets items ml/models packages app-registry services executions pipelines compositions"


@pytest.mark.parametrize(
    "place", [*PLACES.split(), "tasks", "triggers", "recipes", "ontologies", "annotations"]
)
def test_an_id_that_names_nothing_is_refused_in_one_way(client, place):
    place = {"tasks": "annotationtasks"}.get(place, place)
    for offered, status, words in (
        ("no-id", 400, "'no-id' is not an id of 24 hexadecimal digits"),
        ("0" * 24, 400 if place == "annotations" else 404, "Check the id, or list what the project holds"),
    ):
        with pytest.raises(Refused, match=f"not found: .*{words}") as refusal:
            client.send("GET", f"/{place}/{offered}")
        assert refusal.value.status == status


@pytest.mark.parametrize("field", ["nodes", "startNodes", "connections"])
@pytest.mark.parametrize("wrong", ["x", 3, {"a": {}}])
def test_what_is_no_list_in_a_pipeline_is_told_as_other_errors_of_it(client, field, wrong):
    body = {"name": "listless", "projectId": client.project(f"{field} {type(wrong).__name__}")["id"]}
    known = client.send("POST", "/pipelines", body)
    about = f"'{field}' of the pipeline must be a list, got"
    for action, method, path, sent in (
        ("create", "POST", "/pipelines", body | {"name": "other", field: wrong}),
        ("update", "PATCH", f"/pipelines/{known['id']}", {field: wrong}),
        ("update", "POST", "/pipelines/validate", known | {field: wrong}),
    ):
        with pytest.raises(Refused, match=f"^Invalid input specified, Failed to {action} pipeline: {about}"):
            client.send(method, path, sent)


def test_a_server_that_stops_undoes_what_takes_long(tmp_path, monkeypatch):
    """All items of a dataset are changed, one after the other, for a minute."""
    changed = threading.Event()

    def slow(document, patch):
        changed.set()
        time.sleep(0.05)
        document["metadata"] = patch

    monkeypatch.setattr(items, "merge_metadata", slow)
    monkeypatch.setattr(server, "STOP_SECONDS", 0.5)
    with alhelpers.platform.start(tmp_path) as platform:
        client = Client(platform.url, platform.token)
        dataset = client.dataset()["id"]
        for number in range(20):
            client.upload(dataset, f"/{number}", b"x")
        change = {"filter": {}, "update": {"metadata": {"user": {"a": 1}}}}
        path = f"/datasets/{dataset}/query"
        threads = [threading.Thread(target=_quiet, args=(client, path, change)) for _ in range(30)]
        for thread in threads:
            thread.start()
        changed.wait(20)
        begun = time.monotonic()
    assert time.monotonic() - begun < 8
    for thread in threads:
        thread.join()
    with alhelpers.platform.start(tmp_path) as platform:
        found = Client(platform.url, platform.token).send("POST", path, {"filter": {}})["items"]
    assert len(found) == 20 and len({json.dumps(item["metadata"].get("user")) for item in found}) == 1


def _quiet(client, path, body):
    with contextlib.suppress(Refused, OSError, http.client.HTTPException):
        client.send("POST", path, body)
