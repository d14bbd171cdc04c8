"""A fuzzer: requests as the SDK sends them, changed at random, against everything that is stored; none may fail.

It speaks to the handlers as the server does (one transaction a request, listeners included), without the wire: a
thousand requests take about a second. Run as a script it goes on until it is told to stop:
``python tests/unit/platform/platform_fuzz.py --requests 100000 --seed 7``.
"""

import argparse
import ast
import json
import random
import re
import sys
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path

import alhelpers.platform.services
from alhelpers.platform.api import Call, Raw, run_listeners
from alhelpers.platform.errors import ApiError
from alhelpers.platform.services import LISTENERS, ROUTES
from alhelpers.platform.services.items import models as items
from alhelpers.platform.store import Store

CORPUS = Path(__file__).with_name("platform_requests.json")
MARK = re.compile(r"<(\w+)>")
SCALARS = [None, True, False, 0, 1, -1, 2, 0.5, -0.0, 1e308, 2**53 + 1, 2**63, -(2**64), 10**30]
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
TEXTS += ["$x", ".", "1", "ascending", "none", "nan"]


def vocabulary() -> list[str]:
    """List the words that the services themselves use: fields, operators, statuses."""
    words = set()
    for path in Path(alhelpers.platform.services.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                words.update(word for word in re.findall(r"\$?[A-Za-z_][\w.]{1,30}", node.value[:60]))
    return sorted(words)


COMPONENTS = {
    "modules": [{"name": "a", "entryPoint": "main.py", "functions": [{"name": "run"}]}],
    "models": [{"name": "m", "moduleName": "a"}],
    "services": [{"name": "s", "moduleName": "a"}],
}


class Undo(Exception):
    """Rolls a request back."""


class World:
    """A store with things of all kinds in it, and the requests that are sent to it."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.store = Store(folder)
        self.random = random.Random(seed)
        self.words = vocabulary()
        self.handlers = {f"{route.method} {route.path}": route.handler for route in ROUTES}
        corpus = json.loads(CORPUS.read_text())
        self.corpus = {key: corpus.get(key, []) for key in self.handlers}
        self.bodies = [each for each in self.corpus.values() if each and isinstance(each[0][2], dict)]
        self.ids: dict[str, list[str]] = {}
        self.first: dict[str, list[str]] = {}
        self.failures: dict[str, str] = {}
        self.statuses: Counter[tuple[str, int]] = Counter()

    def send(self, key: str, params: dict, query: dict, body: object, *, keep: bool = True) -> int:
        """Send one request as the server would, and return its status; what would be a 5xx is raised."""
        status = 200
        try:
            with self.store.transaction():
                self.handle(key, params, query, body)
                if not keep:
                    raise Undo
        except Undo:
            pass
        except ApiError as error:
            status = error.status
            if not error.message or status >= 500:
                raise AssertionError(f"status {status}, message {error.message!r}") from error
        except (UnicodeEncodeError, RecursionError):
            status = 400  # the server's guard answers these
        self.statuses[key, status] += 1
        return status

    def handle(self, key: str, params: dict, query: dict, body: object) -> object:
        call = Call(self.store, "http://127.0.0.1:1/api/v1", "fuzz@example.com", params, query, body)
        result = self.handlers[key](call)
        run_listeners(call, LISTENERS)
        text = result.text if isinstance(result, Raw) else json.dumps(result)
        return json.loads(text, parse_constant=_no_constant)

    def look(self) -> None:
        """Learn which things there are."""
        self.ids = {}
        for document_id, kind in self.store._database.execute("SELECT id, kind FROM documents"):
            self.ids.setdefault(kind, []).append(document_id)

    def make(self, key: str, body: object, **params: str) -> object:
        """Send a request that must succeed, and return its answer."""
        with self.store.transaction():
            return self.handle(key, params, {}, body)

    def grow(self) -> None:
        """Fill the world: what most requests are about by hand, the rest as the recorded requests make it."""
        project = self.make("POST /projects", {"name": "p"})["id"]
        for name in ("d", "e"):
            dataset = self.make("POST /datasets", {"name": name, "projects": [project]})["id"]
            with self.store.transaction():
                for number in range(4):
                    items.add_bytes(self.store, dataset, f"/f/{number}.png", b"x", "fuzz@example.com")
        self.look()
        for item in self.ids["items"]:
            if self.store.row("items", item).blob:
                annotations = [
                    {"type": "class", "label": "x"},
                    {"type": "point", "label": "y", "coordinates": {"x": 1, "y": 2}},
                ]
                self.make("POST /items/{item_id}/annotations", annotations, item_id=item)
        dpk = {"name": "tiny", "scope": "project", "components": COMPONENTS, "context": {"project": project}}
        self.make("POST /app-registry", dpk)
        self.make("POST /apps", {"projectId": project, "dpkName": "tiny"})
        workload = [{"assigneeId": "ann@example.com", "load": 100}]
        task = {"name": "t", "projectId": project, "datasetId": dataset, "workload": workload}
        self.make("POST /annotationtasks", task | {"query": {"filter": {}}})
        self.make("POST /pipelines", {"name": "p", "projectId": project})
        for _ in range(2):
            for key, requests in self.corpus.items():
                if key.startswith("POST") and not re.search("query|delete|uninstall|termin|stop|remove", key):
                    for request in requests[:4]:
                        self.look()
                        self.attempt(key, self.filled(request, honest=True))
        self.look()
        self.first = {kind: ids[:3] for kind, ids in self.ids.items()}

    def attempt(self, key: str, request: list, *, keep: bool = True) -> str | None:
        """Send a request; return what failed inside the platform, if anything did."""
        try:
            self.send(key, *request, keep=keep)
        except Exception as error:  # noqa: BLE001 - any exception is a finding
            frames = traceback.extract_tb(error.__traceback__)[::-1]
            places = [f"{each.filename}:{each.lineno}" for each in frames if "alhelpers" in each.filename]
            failure = f"{type(error).__name__} at {' < '.join(places[:4])}"
            self.failures.setdefault(failure, f"{key}: {error!r}; {json.dumps(request)[:600]}")
            return failure
        return None

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
        if choice < 0.35 or depth > 3:
            return self.random.choice([*SCALARS, *TEXTS])
        if choice < 0.5:
            return self.random.choice(self.words)
        if choice < 0.6:
            return self.thing(self.random.choice(sorted(self.ids) or ["items"]), honest=False)
        if choice < 0.8:
            return [self.value(depth + 1) for _ in range(self.random.randrange(3))]
        return {self.key(): self.value(depth + 1) for _ in range(self.random.randrange(4))}

    def key(self) -> str:
        return self.random.choice([self.random.choice(self.words), self.random.choice(TEXTS)])

    def changed(self, value: object, depth: int = 0) -> object:
        """Change a value in one or two places."""
        if self.random.random() < 0.12:
            return self.value(depth)
        if isinstance(value, dict) and value:
            value = dict(value)
            key = self.random.choice(list(value))
            choice = self.random.random()
            if choice < 0.1:
                del value[key]
            elif choice < 0.2:
                value[self.key()] = self.value(depth)
            else:
                value[key] = self.changed(value[key], depth + 1)
            return value
        if isinstance(value, list) and value:
            value = list(value)
            at = self.random.randrange(len(value))
            if self.random.random() < 0.1:
                value.append(self.changed(value[at], depth + 1))
            else:
                value[at] = self.changed(value[at], depth + 1)
            return value
        if self.random.random() < 0.5:
            return self.value(depth)
        return value

    def request(self, key: str) -> list:
        """Make up a request to a route."""
        known = self.corpus[key]
        if known and self.random.random() < 0.9:
            params, query, body = self.filled(self.random.choice(known))
        else:
            names = re.findall(r"{(\w+)", key)
            params = {name: self.thing(self.kind_of(name, key), honest=False) for name in names}
            query, body = {}, self.value()
            if self.random.random() < 0.7:  # what another route gets looks like what this one wants
                body = self.filled(self.random.choice(self.random.choice(self.bodies)))[2]
        for _ in range(self.random.choice([0, 1, 1, 2, 4])):
            body = self.changed(body)
        if self.random.random() < 0.1:
            query = {**query, self.key(): self.random.choice([*TEXTS, "true", "false", *self.words[:50]])}
        if self.random.random() < 0.3:
            query = {**query, "system": "true"}
        if params and self.random.random() < 0.1:
            params = {**params, self.random.choice(list(params)): self.random.choice(TEXTS)}
        return [params, query, body]

    def kind_of(self, name: str, key: str) -> str:
        stem = name.removesuffix("_id")
        kinds = [kind for kind in self.ids if kind.rstrip("s") == stem or kind.rstrip("s") in key]
        return self.random.choice(kinds or sorted(self.ids) or ["items"])


def _no_constant(name: str) -> object:
    raise AssertionError(f"the answer holds {name}, which is no JSON")


def fuzz(folder: Path, seed: int, requests: int, only: str = "", stop_at: float | None = None) -> list[str]:
    """Send requests to every route, and return what failed, each with all that it takes to repeat it."""
    failures: dict[str, str] = {}
    world = None
    keys = [f"{route.method} {route.path}" for route in ROUTES if only in f"{route.method} {route.path}"]
    for number in range(requests):
        if number % 2000 == 0:  # what was deleted or spoiled comes back
            if world is not None:
                world.store.close()
            world = World(folder / f"{seed}-{number}", seed + number)
            world.failures = failures
            world.grow()
        if number % 20 == 0:
            world.look()
        key = keys[number % len(keys)]
        request = world.request(key)
        # Too many deletions, and all that follows would only meet 404s.
        keep = world.random.random() < (0.03 if "DELETE" in key or "delete" in json.dumps(request) else 0.6)
        world.attempt(key, request, keep=keep)
        if stop_at is not None and time.monotonic() > stop_at:
            break
    world.store.close()
    return [f"{where}: {text}" for where, text in failures.items()]


def main() -> int:
    parser = argparse.ArgumentParser(description="fuzz the routes of the offline platform")
    parser.add_argument("--requests", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="routes that hold this text")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        failures = fuzz(Path(folder), options.seed, options.requests, options.only)
    print("\n".join(failures) or f"{options.requests} requests, none failed")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
