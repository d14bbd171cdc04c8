"""A fuzzer: requests as the SDK sends them, with changed fields, about everything that is stored; none may fail.

A `World` speaks to the handlers as the server does (one transaction a request, listeners included), without the wire: a
thousand requests take about a second. A `Wire` speaks to a server, and to its own routes and its page too. Run as a
script: ``python tests/unit/platform/platform_fuzz.py --requests 100000 --seed 7``.
"""

import argparse
import ast
import http.client
import json
import random
import re
import sqlite3
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote, urlencode

import alhelpers.platform.services
from alhelpers.platform.api import Call, Raw, run_listeners
from alhelpers.platform.errors import ApiError
from alhelpers.platform.services import LISTENERS, ROUTES
from alhelpers.platform.services.items import models as items
from alhelpers.platform.store import Store

API = "/api/v1"
CORPUS = Path(__file__).with_name("platform_requests.json")
MARK = re.compile(r"<(\w+)>")
SCALARS = [None, True, False, 0, 1, -1, 2, 0.5, -0.0, 1e308, 2**53 + 1, 2**63, -(2**64), 10**30, 10**307]
SCALARS += [float("nan"), float("inf")]
TEXTS = ["", " ", "x", "a" * 300, "\0", "\ud800", "é日本", "/", "/a/b.png", "../../etc/passwd", "*", "**/*"]
TEXTS += [
    "a.b.c",
    "' OR 1=1 --",
    '"; DROP TABLE documents; --',
    "<script>alert(1)</script>",
    "%00",
    "{{7*7}}",
]
TEXTS += ["__proto__", "2024-01-01T00:00:00Z", "2024-13-99", "9999-12-31", "* * * * *", "*/0 * * * *"]
TEXTS += ["$x", ".", "1", "ascending", "none", "nan", "9" * 5000, "a." * 99 + "7" * 5000, "*a" * 2000]
TEXTS += ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "0001-01-01", "a\nb"]
#: Filters of many conditions, and values that nest deeply.
LARGE: list = [
    {"$and": [{"name": "x"}] * 1100},
    {"$and": [{f"a.b.c{number}": number} for number in range(700)]},
]
for wrap in (lambda inner: {"a": inner}, lambda inner: [inner], lambda inner: {"$or": [inner]}):
    deep: object = 1
    for _ in range(200):
        deep = wrap(deep)
    LARGE.append(deep)
#: Requests to the routes that are the server's own, as those that were recorded.
FORM = {"path": "/f/x.png", "metadata": '{"user": {"a": 1}}', "description": "d", "file": "x"}
OWN: dict[str, list] = {
    "POST /token": [[{}, {}, {"username": "x", "password": "x", "type": "password", "refresh_token": "x"}]],
    f"POST {API}/local/clients": [[{}, {}, {"pid": 1, "createTime": 1.5}]],
    f"POST {API}/local/clock": [[{}, {}, {"seconds": 1}]],
    f"POST {API}/services/logs": [
        [
            {},
            {},
            {"serviceId": "<services>", "size": 9, "executionId": ["<executions>"], "checkpoint": {"a": 1}},
        ],
        [
            {},
            {},
            {"modelId": "<models>", "start": "2024-01-01", "end": "2024-01-01", "text": "", "logLevel": "x"},
        ],
    ],
    f"POST {API}/datasets/{{dataset_id}}/items": [
        [{"dataset_id": "<datasets>"}, {"mode": "overwrite"}, FORM]
    ],
    f"POST {API}/items/{{item_id}}/revisions": [[{"item_id": "<items>"}, {}, FORM]],
    "GET /datasets/{dataset_id}": [
        [
            {"dataset_id": "<datasets>"},
            {"page": "1", "folder": "/", "label": "x", "tag": "x", "name": "x"},
            None,
        ]
    ],
    "GET /projects/{project_id}/executions": [
        [{"project_id": "<projects>"}, {"page": "1", "status": "x"}, None]
    ],
}
OWN |= {
    f"GET {path}": [[{"id": f"<{kind}>"}, {"page": "1"}, None]]
    for kind in ("projects", "items", "tasks", "pipelines", "cycles", "models", "executions")
    for path in (f"/{kind}/{{id}}", *((f"{API}/items/{{id}}/stream",) * (kind == "items")))
}
COMPONENTS = {
    "modules": [{"name": "a", "entryPoint": "main.py", "functions": [{"name": "run"}]}],
    "models": [{"name": "m", "moduleName": "a"}],
    "services": [{"name": "s", "moduleName": "a"}],
}


def vocabulary() -> list[str]:
    """List the words that the services themselves use: fields, operators, statuses."""
    words = set()
    for path in Path(alhelpers.platform.services.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                words.update(word for word in re.findall(r"\$?[A-Za-z_][\w.]{1,30}", node.value[:60]))
    return sorted(words)


class Undo(Exception):
    """Rolls a request back."""


class World:
    """A store with things of all kinds in it, and the requests that are sent to it."""

    scalars = SCALARS

    def __init__(self, folder: Path, seed: int) -> None:
        self.random = random.Random(seed)
        self.words = vocabulary()
        self.handlers = {f"{route.method} {route.path}": route.handler for route in ROUTES}
        recorded = json.loads(CORPUS.read_text())
        self.corpus = {key: recorded.get(key, []) for key in self.handlers}
        self.bodies = [each for each in self.corpus.values() if each and isinstance(each[0][2], dict)]
        self.ids: dict[str, list[str]] = {}
        self.first: dict[str, list[str]] = {}
        self.failures: dict[str, str] = {}
        self.statuses: Counter[tuple[str, int]] = Counter()
        self.open(folder)

    # -------------------------------------------------------------------------------------------- transport

    def open(self, folder: Path) -> None:
        self.store = Store(folder)
        self.database = self.store._database

    def close(self) -> None:
        self.store.close()

    def send(self, key: str, request: list, *, keep: bool = True) -> tuple[int, object]:
        """Send one request; return its status and answer, or raise what would be a 5xx."""
        try:
            with self.store.transaction():
                params, query, body = request
                call = Call(self.store, f"http://127.0.0.1:1{API}", "fuzz@example.com", params, query, body)
                result = self.handlers[key](call)
                run_listeners(call, LISTENERS)
                text = result.text if isinstance(result, Raw) else json.dumps(result)
                answer = json.loads(text, parse_constant=_no_constant)
                if not keep:
                    raise Undo
        except Undo:
            return 200, None
        except ApiError as error:
            return error.status, error.message
        except (UnicodeEncodeError, RecursionError, OverflowError) as error:
            return 400, str(error) or "too deep"  # the server's guard answers these
        return 200, answer

    def prefixed(self, route: str) -> str:
        return route

    def upload(self, dataset: str, path: str) -> None:
        with self.store.transaction():
            items.add_bytes(self.store, dataset, path, b"x", "fuzz@example.com")

    # ------------------------------------------------------------------------------------------------ things

    def look(self) -> None:
        """Learn which things there are."""
        self.ids = {}
        for document_id, kind in self.database.execute("SELECT id, kind FROM documents"):
            self.ids.setdefault(kind, []).append(document_id)

    def make(self, route: str, body: object, **params: str) -> dict:
        """Send a request that must succeed, and return its answer."""
        status, answer = self.send(self.prefixed(route), [params, {}, body])
        assert status < 300, (route, status, answer)
        return answer

    def grow(self) -> None:
        """Fill the world: what most requests are about by hand, the rest as the recorded requests make it."""
        project = self.make("POST /projects", {"name": f"p-{self.random.random()}"})["id"]
        for name in ("d", "e"):
            dataset = self.make("POST /datasets", {"name": name, "projects": [project]})["id"]
            for number in range(4):
                self.upload(dataset, f"/f/{number}.png")
        self.look()
        for item in self.ids["items"]:
            labels = [
                {"type": "class", "label": "x"},
                {"type": "point", "label": "y", "coordinates": {"x": 1, "y": 2}},
            ]
            self.attempt(self.prefixed("POST /items/{id}/annotations"), [{"id": item}, {}, labels])
        dpk = {
            "name": f"tiny-{self.random.randrange(10**6)}",
            "scope": "project",
            "components": COMPONENTS,
            "context": {"project": project},
        }
        self.make("POST /app-registry", dpk)
        self.make("POST /apps", {"projectId": project, "dpkName": dpk["name"]})
        workload = [{"assigneeId": "ann@example.com", "load": 100}]
        task = {"name": "t", "projectId": project, "datasetId": dataset, "workload": workload}
        self.make("POST /annotationtasks", task | {"query": {"filter": {}}})
        self.make("POST /pipelines", {"name": "p", "projectId": project})
        for _ in range(2):
            for key, requests in self.corpus.items():
                if key.startswith("POST") and not re.search(
                    "query|delete|uninstall|termin|stop|remove|token|clock", key
                ):
                    for request in requests[:4]:
                        self.look()
                        self.attempt(key, self.filled(request, honest=True))
        self.look()
        self.first = {kind: ids[:3] for kind, ids in self.ids.items()}

    def attempt(self, key: str, request: list, *, keep: bool = True) -> None:
        """Send a request, and remember what failed inside the platform, if anything did."""
        try:
            status, answer = self.send(key, request, keep=keep)
            self.statuses[key, status] += 1
            assert status < 500 and answer != "", f"status {status}: {answer!r}"
        except Exception as error:  # noqa: BLE001 - any exception is a finding
            frames = traceback.extract_tb(error.__traceback__)[::-1]
            places = [f"{each.filename}:{each.lineno}" for each in frames if "alhelpers" in each.filename]
            where = f"{type(error).__name__} at {' < '.join(places[:4]) or key}"
            self.failures.setdefault(where, f"{key}: {error!r}; {json.dumps(request)[:600]}")

    # ---------------------------------------------------------------------------------------------- requests

    def thing(self, kind: str, honest: bool) -> str:
        known = self.ids.get(kind)
        if known and self.first.get(kind) and self.random.random() < 0.6:
            known = self.first[kind]
        if honest or self.random.random() < 0.9:
            return self.random.choice(known) if known else "f" * 24
        others = [document_id for ids in self.ids.values() for document_id in ids]
        return self.random.choice([*TEXTS, "0" * 24, self.random.choice(others or [""])])

    def filled(self, request: list, honest: bool = False) -> list:
        """Give a recorded request with marks such as <items> replaced by ids of such things."""

        def fill(value: object) -> object:
            if isinstance(value, dict):
                return {fill(key): fill(inner) for key, inner in value.items()}
            if isinstance(value, list):
                return [fill(inner) for inner in value]
            if isinstance(value, str):
                return MARK.sub(lambda mark: self.thing(mark[1], honest), value)
            return value

        return fill(request)

    def value(self, depth: int = 0) -> object:
        choice = self.random.random()
        if choice < 0.04:
            return self.random.choice(LARGE)
        if choice < 0.4 or depth > 3:
            return self.random.choice([*self.scalars, *TEXTS])
        if choice < 0.5:
            return self.random.choice(self.words)
        if choice < 0.6:
            return self.thing(self.random.choice(sorted(self.ids) or ["items"]), honest=False)
        if choice < 0.8:
            return [self.value(depth + 1) for _ in range(self.random.randrange(3))]
        return {self.key(): self.value(depth + 1) for _ in range(self.random.randrange(4))}

    def key(self) -> str:
        return self.random.choice([self.random.choice(self.words), self.random.choice(TEXTS)])

    def request(self, key: str, number: int, path: tuple) -> list:
        """Make up a request to a route: a recorded one whose field at a path is changed, and maybe others."""
        if self.corpus[key] and self.random.random() < 0.95:
            request = self.filled(self.corpus[key][number])
        else:
            names = re.findall(r"{(\w+)", key)
            params = {name: self.thing(self.kind_of(name, key), honest=False) for name in names}
            # What another route gets looks like what this one wants.
            request = [params, {}, self.filled(self.random.choice(self.random.choice(self.bodies)))[2]]
        others = self.random.choices(list(fields(request)), k=self.random.choice([0, 0, 1, 3]))
        for each in [path, *others]:
            self.change(request, each)
        if self.random.random() < 0.3:
            request[1]["system"] = "true"
        return request

    def change(self, request: list, path: tuple) -> None:
        """Replace, remove or join something to the field at a path, if it is still there."""
        *above, last = path
        place: object = request
        for step in above:
            try:
                place = place[step]
            except (LookupError, TypeError):
                return
        if not isinstance(place, dict | list):
            return
        choice, part = self.random.random(), path[0]
        if len(path) == 1:
            place[last] = self.value() if part == 2 else place[last]
        elif isinstance(place, dict) and last in place and part > 0 and choice < 0.1:
            del place[last]
        elif isinstance(place, dict) and part > 0 and choice < 0.2:
            place[self.key()] = self.text() if part == 1 else self.value()
        elif last in (place if isinstance(place, dict) else range(len(place))):
            place[last] = self.value() if part == 2 else self.text()

    def text(self) -> str:
        return self.random.choice([*TEXTS, "true", "false", *self.words[:50]])

    def kind_of(self, name: str, key: str) -> str:
        stem = name.removesuffix("_id")
        kinds = [kind for kind in self.ids if kind.rstrip("s") == stem or kind.rstrip("s") in key]
        return self.random.choice(kinds or sorted(self.ids) or ["items"])


class Wire(World):
    """A server with things of all kinds, and the requests that are sent to it over HTTP; nothing is undone."""

    scalars = [*SCALARS, 10**400, -(10**400)]

    def __init__(self, folder: Path, seed: int, url: str, token: str) -> None:
        super().__init__(folder, seed)
        self.headers = {"Authorization": f"Bearer {token}"}
        self.connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=60)
        self.corpus = {self.prefixed(key): requests for key, requests in self.corpus.items()} | OWN

    def open(self, folder: Path) -> None:
        self.database = sqlite3.connect(f"file:{folder / 'platform.sqlite'}?mode=ro", uri=True)

    def prefixed(self, route: str) -> str:
        return route.replace(" ", f" {API}", 1)

    def close(self) -> None:
        self.connection.close()
        self.database.close()

    def send(self, key: str, request: list, *, keep: bool = True) -> tuple[int, object]:
        method, path = key.split()
        params, query, body = request
        path = re.sub(r"{(\w+)[^}]*}", lambda mark: _quoted(str(params.get(mark[1], "x"))), path)
        path += f"?{urlencode(query, errors='surrogatepass')}" if query else ""
        content, kind = json.dumps(body).encode(), "application/json"
        if "file" in (body if isinstance(body, dict) else ()):
            content, kind = _form(body), "multipart/form-data; boundary=b"
        self.connection.request(method, path, content, self.headers | {"Content-Type": kind})
        answer = self.connection.getresponse()
        text = answer.read()
        if answer.headers["Content-Type"].startswith("application/json") and "stream" not in path:
            return answer.status, json.loads(text, parse_constant=_no_constant)
        return answer.status, len(text) or None

    def upload(self, dataset: str, path: str) -> None:
        self.make("POST /datasets/{dataset_id}/items", FORM | {"path": path}, dataset_id=dataset)


def _quoted(text: str) -> str:
    # An empty part or a dot would be another address.
    return quote(text, safe="", errors="surrogatepass") if text.strip(".") else "%20"


def _form(body: dict) -> bytes:
    parts = [
        f'--b\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.replace("\0", "")
        for name, value in body.items()
    ]
    return "".join([*parts, "--b--\r\n"]).encode(errors="surrogatepass")


def _no_constant(name: str) -> object:
    raise AssertionError(f"the answer holds {name}, which is no JSON")


def fields(value: object, path: tuple = ()) -> Iterator[tuple]:
    """Iterate over the paths of all fields of a request, its three parts included."""
    if path:
        yield path
    for key in value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        yield from fields(value[key], (*path, key))


def plan(world: World, only: str) -> list[tuple[str, int, tuple]]:
    """List every field of every recorded request to every route, in the order of chance."""
    found = {
        (key, path): (key, number, path)
        for key, requests in world.corpus.items()
        for number, request in enumerate(requests or [[{}, {}, None]])
        for path in fields(request)
        if only in key
    }
    chosen = list(found.values())
    world.random.shuffle(chosen)
    return chosen


def fuzz(world: World, requests: int, only: str = "") -> list[str]:
    """Change every field of every route in turn; return what failed, each with all that it takes to repeat it."""
    world.grow()
    chosen = plan(world, only)
    for number in range(requests):
        if number % 20 == 0:
            world.look()
        key, place, path = chosen[number % len(chosen)]
        request = world.request(key, place, path)
        # Too many deletions, and all that follows would only meet 404s.
        deletes = "DELETE" in key or "delete" in json.dumps(request)
        keep = world.random.random() < (0.03 if deletes else 0.6)
        if keep or not (deletes and isinstance(world, Wire)):
            world.attempt(key, request, keep=keep)
    world.close()
    return [f"{where}: {text}" for where, text in world.failures.items()]


def main() -> int:
    parser = argparse.ArgumentParser(description="fuzz the routes of the offline platform")
    parser.add_argument("--requests", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="routes that hold this text")
    options = parser.parse_args()
    failures = []
    for part in range(0, options.requests, 2000):  # what was deleted or spoiled comes back
        with tempfile.TemporaryDirectory() as folder:
            world = World(Path(folder), options.seed + part)
            failures += fuzz(world, min(2000, options.requests - part), options.only)
    print("\n".join(failures) or f"{options.requests} requests, none failed")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
