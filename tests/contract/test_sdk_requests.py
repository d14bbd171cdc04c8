"""No request that the installed SDK can send is unknown here: a new release names those that it has added."""

import importlib.util
import re
from pathlib import Path

import pytest
import sdk_requests

from alhelpers.platform.services import ROUTES

# Requests that no route answers: what is not emulated (DIFFERENCES.md), and what the SDK sends elsewhere.
UNANSWERED = {
    "GET /app-registry/{}/previews",
    "GET /datasets/{}/schema",
    "GET /inbox/message/user",
    "POST /analytics/metric",
    "POST /analytics/metric/pendo",
    "POST /analytics/query",
    "POST /apiKeys",
    "POST /datasets/{}/export/v3",
    "POST /datasets/{}/imports",
    "POST /datasets/{}/schema/items",
    "POST /datasets/{}/sync",
    "POST /outbox",
    "POST /projects/{}/mail",
    "POST /services/{}/notify",
    "POST /trigger-resource-information",
}
# Where the SDK sends a request to a path that its caller has, so that the scan cannot know it.
GIVEN = {
    "repositories/commands.py",
    "repositories/datasets.py",
    "repositories/recipes.py",
    "repositories/services.py",
}
# What the server answers without a service: bytes and logs.
OTHERS = [
    ("POST", "/datasets/{id}/items"),
    ("GET", "/items/{id}/stream"),
    ("POST", "/items/{id}/revisions"),
    ("POST", "/services/logs"),
    ("GET", "/services/{id}/status"),
]


def _fits(path, route):
    """Return whether a path can be one of a route: a variable part of either takes any segment of the other."""
    asked, answered = path.split("/"), route.split("/")
    return len(asked) == len(answered) and all(
        one == other or one.startswith("{") or other.startswith("{")
        for one, other in zip(asked, answered, strict=True)
    )


@pytest.fixture(scope="module")
def source():
    return Path(importlib.util.find_spec("dtlpy").origin).parent


@pytest.fixture(scope="module")
def sent(source):
    return list(sdk_requests.requests(source))


def test_every_request_of_the_sdk_is_answered_or_listed(sent):
    routes = [(route.method, route.path) for route in ROUTES] + OTHERS
    found = {
        f"{request.method} {request.path}": request.place
        for request in sent
        if request.path != sdk_requests.HOLE
        and not any(method == request.method and _fits(request.path, path) for method, path in routes)
    }
    new = {request: place for request, place in found.items() if request not in UNANSWERED}
    assert not new, "requests of the SDK that no route answers:\n" + "\n".join(map(str, new.items()))
    assert not UNANSWERED - found.keys(), "these are answered, or not sent any more"


def test_the_scan_reads_every_call(source, sent):
    calls = sum(
        len(re.findall(r"(?<!def )\bgen_request\(", file.read_text())) for file in source.rglob("*.py")
    )
    assert len({request.place for request in sent}) == calls
    assert {request.place.split(":")[0] for request in sent if request.path == sdk_requests.HOLE} == GIVEN
    paths = {(request.method, request.path) for request in sent}
    for known in (
        ("POST", "/app-registry/{}/revisions"),
        ("DELETE", "/compute/{}"),
        ("PUT", "/ontologies/{}"),
    ):
        assert known in paths
