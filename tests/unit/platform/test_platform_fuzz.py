"""No request fails inside the platform: short runs of the fuzzer. A long one is a benchmark, see `platform_fuzz`."""

import json
import re

import pytest
from platform_fuzz import CORPUS, Wire, World, fuzz

from alhelpers.platform.services import ROUTES


@pytest.mark.parametrize("seed", [1, 2])
def test_no_request_fails_inside_the_platform(tmp_path, seed):
    failures = []
    for part in range(3):  # what was deleted or spoiled comes back
        failures += fuzz(World(tmp_path / str(part), 10 * seed + part), requests=2000)
    assert not failures, "\n".join(failures)


def test_no_request_over_http_fails(server, tmp_path):
    failures = fuzz(Wire(server.state_dir, 3, server.url, server.token), requests=400)
    assert not failures, "\n".join(failures)


def test_the_requests_are_all_of_routes_that_there_are():
    assert not json.loads(CORPUS.read_text()).keys() - {f"{route.method} {route.path}" for route in ROUTES}


def test_the_requests_name_nothing_private():
    """They were recorded from the contract tests."""
    text = CORPUS.read_text()
    assert not re.search(r"/(tmp|home|root|work|Users)/|[0-9a-f]{24}|Bearer|eyJ", text)
