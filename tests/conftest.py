"""Fixtures for every test that talks to the offline platform: `platform`, `dl` and `project`."""

import itertools
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

# dtlpy reads its folder when it is imported, and some test modules import it while they are collected.
SDK_FOLDER = Path(tempfile.mkdtemp(prefix="alhelpers-tests-"))
os.environ["DATALOOP_PATH"] = str(SDK_FOLDER)
# Tests run side by side, one a core: threads of torch would only fight for the same cores, in kernels as well.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["NO_PROXY"] = os.environ["no_proxy"] = "127.0.0.1,localhost"

_numbers = itertools.count(1)


def pytest_unconfigure(config):
    shutil.rmtree(SDK_FOLDER, ignore_errors=True)


@pytest.fixture(scope="session")
def printed_with_hash_seed():
    """Run code in a new Python with a hash seed, and return what it prints."""

    def run(code, seed):
        env = os.environ | {"PYTHONHASHSEED": str(seed)}
        command = [sys.executable, "-c", code]
        return subprocess.run(command, env=env, capture_output=True, text=True, check=True).stdout

    return run


@pytest.fixture(scope="session")
def platform():
    """One offline platform for the whole session, in a thread of this process."""
    import alhelpers.platform

    with alhelpers.platform.start() as running:
        yield running


@pytest.fixture(scope="session")
def dl(platform):
    """The real dtlpy module, logged in to the platform."""
    import alhelpers.platform
    from alhelpers.platform.worker.speed import speed_up_sdk

    content = alhelpers.platform.cookie(platform)
    imported = "dtlpy" in sys.modules
    (SDK_FOLDER / "cookie.json").write_text(json.dumps(content))
    import dtlpy

    speed_up_sdk()
    if imported:
        # It has read an empty cookie before.
        dtlpy.client_api.environments = content["login_parameters"]
        dtlpy.setenv("local")
        dtlpy.client_api.token = platform.token
    return dtlpy


@pytest.fixture
def project(dl):
    """A fresh project with a name of its own."""
    return dl.projects.create(f"project-{os.getpid()}-{next(_numbers)}")
