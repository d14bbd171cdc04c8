"""Killing servers under load: a nursery of server processes, clients that keep books, and an audit of what is left."""

import hashlib
import http.client
import io
import json
import os
import random
import resource
import signal
import subprocess
import sys
import threading
import time
import zipfile
from contextlib import suppress
from dataclasses import dataclass, field
from math import inf
from pathlib import Path

from alhelpers.platform import index
from alhelpers.platform.store import Store

# A process that has imported the server, and forks one for each line "folder" it reads: no second of imports a start.
NURSERY = """
import os, signal, sys
from alhelpers.platform.__main__ import main
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
for line in sys.stdin:
    child = os.fork()
    if child == 0:
        folder, log = line.rstrip("\\n").split("\\t")
        os.dup2(os.open(log, os.O_CREAT | os.O_WRONLY | os.O_APPEND), 2)
        os._exit(main(["--state-dir", folder]))
    print(f"forked {child}", flush=True)
"""


# Kills with one folder; the last of them come while pipelines run, and some before them while the disk is full.
GENERATION, WITH_FULL_DISK, WITH_PIPELINES = 25, range(8, 12), range(21, 25)
PORTS = [{"portId": "i", "name": "n", "type": "Integer"}, {"portId": "o", "name": "twice", "type": "Integer"}]
NODE = {"id": "n", "name": "n", "type": "code", "metadata": {}, "inputs": PORTS[:1], "outputs": PORTS[1:]}
CODE = "class ServiceRunner:\n    def run(self, n):\n        return 2 * n\n"
NODE["config"] = {"package": {"code": CODE, "name": "run", "type": "code"}}


class Lost(Exception):
    """The server went away in the middle of a request: it may have been done, or not."""


class Full(Exception):
    """The server could not write: it has done nothing."""


class Nursery:
    """Starts servers fast."""

    def __init__(self) -> None:
        root = Path(__file__).resolve().parents[3]
        self.slowest = 0.0
        self.process = subprocess.Popen(
            [sys.executable, "-c", NURSERY],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": str(root)},
        )

    def fork(self, folder: Path) -> int:
        """Begin a server, and return its process id without waiting for it."""
        self.process.stdin.write(f"{folder}\t{folder.with_suffix('.log')}\n")
        self.process.stdin.flush()
        while True:  # the servers' own lines come the same way
            line = self.process.stdout.readline()
            if line.startswith("forked "):
                return int(line.split()[1])

    def start(self, folder: Path) -> tuple[int, str]:
        """Start a server, and return its process id and address."""
        begun = time.monotonic()
        child = self.fork(folder)
        while True:
            line = self.process.stdout.readline()
            if line.startswith("{") and json.loads(line)["pid"] == child:
                self.slowest = max(self.slowest, time.monotonic() - begun)
                return child, json.loads(line)["url"].removeprefix("http://")

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait(10)
        self.process.stdout.close()


def kill(pid: int) -> None:
    """Kill a process, and wait until it is gone."""
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
        while True:
            os.kill(pid, 0)
            time.sleep(0.001)


@dataclass
class Book:
    """What a client knows of its own things: what the server has acknowledged, and what it was asked last."""

    seed: int
    dataset: str = ""
    project: str = ""
    model: str = ""
    # id -> {"sha", "user", "annotations"}
    items: dict[str, dict] = field(default_factory=dict)
    deleted: set[str] = field(default_factory=set)
    metrics: int = 0
    # How many files are in an export, and what the cycles of the pipeline were given.
    exports: dict[str, int] = field(default_factory=dict)
    pipeline: str = ""
    cycles: dict[str, int] = field(default_factory=dict)
    artifacts: list[str] = field(default_factory=list)
    pending: tuple | None = None
    number: int = 0
    requests: int = 0


class Caller:
    """A client that works on its own dataset and model until the server dies."""

    def __init__(self, book: Book, address: str, token: str, *, full: bool, pipelines: bool) -> None:
        self.book = book
        self.full, self.pipelines = full, pipelines
        self.token = token
        self.connection = http.client.HTTPConnection(address, timeout=30)
        self.random = random.Random(book.seed * 1000 + book.requests)

    def send(self, method: str, path: str, body: object = None, kind: str = "application/json") -> object:
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        headers = {"Content-Type": kind, "Authorization": f"Bearer {self.token}"}
        try:
            self.connection.request(method, f"/api/v1{path}", data, headers)
            answer = self.connection.getresponse()
            content = answer.read()
        except (OSError, http.client.HTTPException) as error:
            raise Lost from error
        if self.full and answer.status == 507:
            raise Full
        assert answer.status == 200, (method, path, answer.status, content)
        self.book.requests += 1
        return json.loads(content)

    def upload(self, path: str, content: bytes, metadata: dict, mode: str = "skip") -> dict:
        part = '--b\r\nContent-Disposition: form-data; name="{}"\r\n\r\n{}\r\n'
        form = part.format("path", path) + part.format("metadata", json.dumps(metadata))
        form += '--b\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n\r\n'
        body = form.encode() + content + b"\r\n--b--\r\n"
        address = f"/datasets/{self.book.dataset}/items?mode={mode}"
        return self.send("POST", address, body, "multipart/form-data; boundary=b")

    def prepare(self) -> None:
        """Make what this client works on."""
        form = f"name=p{self.book.seed}".encode()
        self.book.project = self.send("POST", "/projects", form, "application/x-www-form-urlencoded")["id"]
        body = {"name": "d", "projects": [self.book.project]}
        self.book.dataset = self.send("POST", "/datasets", body)["id"]
        self.book.model = self.send("POST", "/ml/models", {"name": "m", "projectId": self.book.project})["id"]
        body = {"name": "p", "projectId": self.book.project, "nodes": [NODE]}
        body["startNodes"] = [{"nodeId": "n", "type": "root"}]
        self.book.pipeline = self.send("POST", "/pipelines", body)["id"]
        self.send("POST", f"/pipelines/{self.book.pipeline}/install", {})

    def work(self) -> None:
        """Send requests until the server is gone."""
        with suppress(Lost):
            while True:
                try:
                    self.step()
                except Full:
                    self.book.pending = None
        self.connection.close()

    def step(self) -> None:
        book = self.book
        book.number += 1
        known = list(book.items)
        choice = self.random.random() if known else 0.0
        if self.pipelines and choice < 0.1:
            book.pending = ("cycle", book.number)
            made = self.send(
                "POST", f"/pipelines/{book.pipeline}/execute", {"pipeline": {"input": {"n": book.number}}}
            )
            book.cycles[made["id"]] = book.number
            book.pending = None
            return
        item = self.random.choice(known) if known else ""
        if choice < 0.3:
            content = self.random.randbytes(self.random.choice([0, 10, 5_000, 300_000]))
            expected = {"sha": digest(content), "user": {"n": book.number}, "annotations": 0}
            book.pending = ("new", expected)
            path, metadata = f"/f{book.number % 3}/{book.number}.bin", {"user": {"n": book.number}}
            made = self.upload(path, content, metadata)
            book.items[made["id"]] = expected
        elif choice < 0.5:
            change = {f"k{self.random.randrange(3)}": book.number}
            book.pending = ("user", item, change)
            self.send("PATCH", f"/items/{item}", {"metadata": {"user": change}})
            book.items[item]["user"] |= change
        elif choice < 0.6:
            book.pending = ("annotations", item, 3)
            annotation = {"type": "class", "label": str(book.number)}
            self.send("POST", f"/items/{item}/annotations", [annotation] * 3)
            book.items[item]["annotations"] += 3
        elif choice < 0.68:
            book.pending = ("bulk", {"bulk": book.number})
            body = {"filter": {"type": "file"}, "update": {"metadata": {"user": {"bulk": book.number}}}}
            self.send("POST", f"/datasets/{book.dataset}/query", body)
            for known_item in book.items.values():
                known_item["user"] |= {"bulk": book.number}
        elif choice < 0.76:
            book.pending = ("delete", item)
            self.send("DELETE", f"/items/{item}")
            book.deleted.add(item)
            del book.items[item]
        elif choice < 0.84:
            expected = json.loads(json.dumps(book.items[item]))
            book.pending = ("new", expected)
            body = {"targetDatasetId": book.dataset, "remoteFileName": f"/c/{book.number}.bin"}
            body["allowMany"] = True
            made = self.send("POST", f"/items/{item}/clone", body)
            book.items[made["spec"]["returnedModelId"][0]] = expected
        elif choice < 0.9:
            content = self.random.randbytes(2_000)
            name = self.send("GET", f"/items/{item}")["filename"]
            book.pending = ("content", item, digest(content))
            self.upload(name, content, {}, mode="overwrite")
            book.items[item]["sha"] = digest(content)
        elif choice < 0.92:
            made = self.send("POST", f"/datasets/{book.dataset}/export", {"exportType": "zip"})
            book.exports[made["spec"]["outputItemId"]] = made["spec"]["totalItems"]
        elif choice < 0.96:
            book.pending = ("metrics", 5)
            sample = {"modelId": book.model, "figure": "loss", "legend": "train"}
            sample["data"] = {"x": book.number, "y": 1}
            self.send("POST", "/ml/metrics/publish", [sample] * 5)
            book.metrics += 5
        else:
            artifacts = [f"{book.number}-{each}" for each in range(2)]
            book.pending = ("artifacts", artifacts)
            body = {"artifacts": [{"type": "link", "url": each} for each in artifacts], "status": "trained"}
            self.send("PATCH", f"/ml/models/{book.model}", body)
            book.artifacts = artifacts
        book.pending = None


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def audit(folder: Path, books: list[Book], thorough: bool) -> None:
    """Compare what is stored with the books, and settle what was asked last as it turned out."""
    store = Store(folder)
    try:
        for book in books:
            audit_book(store, book)
            book.pending = None
        blobs = {row.blob for row in store.find("items") if row.blob}
        assert blobs == {path.name for path in store.blobs.glob("*/*")}
        assert not list(store.incoming.iterdir())
        if thorough:
            (found,) = store._database.execute("PRAGMA integrity_check").fetchone()
            assert found == "ok", found
            stored = set(store._database.execute("SELECT path, value, id FROM entries"))
            rows = [(kind, row) for kind in index.KINDS for row in store.find(kind)]
            assert stored == {
                (path, value, row.id)
                for kind, row in rows
                for path, value in index.entries(kind, row.scope, json.loads(row.doc))
            }
    finally:
        store.close()


def audit_book(store: Store, book: Book) -> None:
    pending = book.pending or ("nothing",)
    found = {}
    for row in store.find("items", datasetId=book.dataset, type="file"):
        document = json.loads(row.doc)
        content = store.blob_path(row.blob).read_bytes()
        assert document["metadata"]["system"]["size"] == len(content), document
        number = store.count("annotations", itemId=row.id)
        assert document["annotationsCount"] == number
        user = document["metadata"].get("user", {})
        found[row.id] = {"sha": digest(content), "user": user, "annotations": number}
    for item, expected in book.items.items():
        actual = found.pop(item, None)
        if actual is None:
            assert pending == ("delete", item), f"item {item} is lost"
            continue
        assert actual in (expected, after(pending, item, expected)), (pending, expected, actual)
        book.items[item] = actual
    if pending[0] == "bulk" and book.items:  # all of them, or none
        assert len({each["user"].get("bulk") == pending[1]["bulk"] for each in book.items.values()}) == 1
    if pending[0] == "delete" and store.count("items", id=pending[1]) == 0:
        assert store.count("annotations", itemId=pending[1]) == 0
        book.items.pop(pending[1])
        book.deleted.add(pending[1])
    assert len(found) <= (pending[0] == "new"), (pending, found)
    for item, actual in found.items():
        assert actual == pending[1], (pending, actual)
        book.items[item] = actual
    assert not [item for item in book.deleted if store.count("items", id=item)]
    audit_model(store, book, pending)
    for export, number in book.exports.items():
        content = store.blob_path(store.row("items", export).blob).read_bytes()
        assert len(zipfile.ZipFile(io.BytesIO(content)).namelist()) == number
    found = {row.id: json.loads(row.doc) for row in store.find("cycles", pipelineId=book.pipeline)}
    assert len(found.keys() - book.cycles.keys()) <= (pending[0] == "cycle")
    for cycle in book.cycles:
        assert found[cycle]["status"] in ("pending", "in-progress", "success"), found[cycle]
    book.cycles |= {cycle: pending[1] for cycle in found.keys() - book.cycles.keys()}


def audit_ends(caller: Caller) -> None:
    """Wait until all cycles have ended, and check what came out of them."""
    book, query = caller.book, {"resource": "pipelineState", "pageSize": 1000}
    query["filter"] = {"pipelineId": caller.book.pipeline}
    limit = time.monotonic() + 120
    while time.monotonic() < limit:
        found = caller.send("POST", "/pipelines/query", query)["items"]
        if all(each["status"] == "success" for each in found):
            break
        time.sleep(0.2)
    ended = {each["id"]: each["status"] for each in found}
    assert ended == dict.fromkeys(book.cycles, "success"), (ended, book.cycles)
    for cycle, number in book.cycles.items():
        body = {"resource": "executions", "filter": {"pipeline.executionId": cycle}}
        (execution,) = caller.send("POST", "/query/faas", body)["items"]
        assert execution["output"] == 2 * number, execution


def after(pending: tuple, item: str, expected: dict) -> dict:
    """Return what an item looks like if the last request about it was done."""
    match pending:
        case ("user", str(known), change) if known == item:
            return expected | {"user": expected["user"] | change}
        case ("annotations", str(known), number) if known == item:
            return expected | {"annotations": expected["annotations"] + number}
        case ("content", str(known), sha) if known == item:
            return expected | {"sha": sha}
        case ("bulk", change):
            return expected | {"user": expected["user"] | change}
    return expected


def audit_model(store: Store, book: Book, pending: tuple) -> None:
    metrics = store.count("metrics", modelId=book.model)
    assert metrics in (book.metrics, book.metrics + (pending[1] if pending[0] == "metrics" else 0))
    book.metrics = metrics
    artifacts = [each["url"] for each in store.get("models", book.model)["artifacts"]]
    assert artifacts == book.artifacts or pending == ("artifacts", artifacts)
    book.artifacts = artifacts


def soak(
    folder: Path, kills: int, clients: int = 3, seed: int = 0, stop_at: float = inf
) -> tuple[int, int, float]:
    """Kill a server again and again, under load and while it starts.

    Return the kills, the acknowledged requests, and the seconds of the slowest start.
    """
    chance = random.Random(seed)
    nursery = Nursery()
    books: list[Book] = []
    done, state, generation = 0, folder, 0
    total = 0
    try:
        while done < kills and time.monotonic() < stop_at:
            if done % GENERATION == 0:  # a new folder, so that audits stay short
                generation += 1
                total += sum(book.requests for book in books)
                state, books = folder / f"state{generation}", [Book(number) for number in range(clients)]
            if books[0].dataset and chance.random() < 0.3:  # while it starts, recovers and sweeps
                pid = nursery.fork(state)
                time.sleep(chance.random() * 0.15)
                kill(pid)
            pid, address = nursery.start(state)
            full, pipelines = done % GENERATION in WITH_FULL_DISK, done % GENERATION in WITH_PIPELINES
            token = json.loads((state / "credentials.json").read_text())["token"]
            callers = [Caller(book, address, token, full=full, pipelines=pipelines) for book in books]
            if not books[0].dataset:
                for caller in callers:
                    caller.prepare()
            if full:
                size = chance.randrange(2_000_000)
                resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, size))
            failures: list[BaseException] = []
            threads = [threading.Thread(target=_work, args=(caller, failures)) for caller in callers]
            for thread in threads:
                thread.start()
            time.sleep(0.02 + chance.random() * (4.0 if pipelines else 0.3))
            kill(pid)
            for thread in threads:
                thread.join(40)
            assert not failures, failures
            done += 1
            audit(state, books, thorough=done % 10 < 2)
            if done % GENERATION == 0:
                pid, address = nursery.start(state)
                for book in books:
                    audit_ends(Caller(book, address, token, full=False, pipelines=False))
                kill(pid)
    finally:
        nursery.close()
    return done, total + sum(book.requests for book in books), nursery.slowest


def _work(caller: Caller, failures: list[BaseException]) -> None:
    try:
        caller.work()
    except BaseException as error:  # noqa: BLE001 - handed to the main thread
        failures.append(error)
