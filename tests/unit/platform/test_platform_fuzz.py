"""No request fails inside the platform: a short run of the fuzzer. A long one is a script, see `platform_fuzz`."""

import re

import pytest
from platform_fuzz import CORPUS, fuzz


@pytest.mark.parametrize("seed", [1, 2])
def test_no_request_fails_inside_the_platform(tmp_path, seed):
    failures = fuzz(tmp_path, seed, requests=6000)
    assert not failures, "\n".join(failures)


def test_the_requests_name_nothing_private():
    """They were recorded from the contract tests."""
    text = CORPUS.read_text()
    assert not re.search(r"/(tmp|home|root|work|Users)/|[0-9a-f]{24}|Bearer|eyJ", text)
