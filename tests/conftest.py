"""Fixtures for every test that talks to the offline platform, and the marker of tests that start a process."""

import gc
import inspect
import itertools
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import hypothesis
import pytest

# How long an example takes depends on what else runs.
hypothesis.settings.register_profile("alhelpers", deadline=None)
hypothesis.settings.load_profile("alhelpers")

# dtlpy reads its folder when it is imported, and some test modules import it while they are collected.
SDK_FOLDER = Path(tempfile.mkdtemp(prefix="alhelpers-tests-"))
os.environ["DATALOOP_PATH"] = str(SDK_FOLDER)
# Tests run side by side, one a core: threads of torch would only fight for the same cores, in kernels as well.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["NO_PROXY"] = os.environ["no_proxy"] = "127.0.0.1,localhost"

# Names of what starts a process or a server.
STARTERS = {
    *("subprocess", "multiprocessing", "ProcessPoolExecutor", "Parallel", "LocalCluster"),
    *("ServerProcess", "Starter", "Processes"),
}
TESTS = Path(__file__).parent

_numbers = itertools.count(1)


def pytest_xdist_auto_num_workers(config):
    """One more than there are cores, as many tests wait for a process to start or for a timer."""
    return (os.cpu_count() or 1) + 1


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """Mark a test with `process` if its code, its fixtures or the tests' functions that these call name a starter."""
    cache = {}
    for item in items:
        fixtures = [each.func for found in item._fixtureinfo.name2fixturedefs.values() for each in found]
        if any(_starts_process(each, cache) for each in (item.function, *fixtures)):
            item.add_marker("process")


def _starts_process(function, cache):
    function = inspect.unwrap(function)
    if function not in cache:
        cache[function] = False  # for functions that call each other
        used = {}
        codes = [function.__code__]
        for code in codes:
            codes += [each for each in code.co_consts if inspect.iscode(each)]
            used |= {name: function.__globals__.get(name) for name in code.co_names}
        methods = [vars(each).values() for each in used.values() if inspect.isclass(each)]
        called = [each for each in (*used.values(), *itertools.chain(*methods)) if inspect.isfunction(each)]
        cache[function] = (
            not STARTERS.isdisjoint(used)
            or ("platform" in used and not {"start", "ensure"}.isdisjoint(used))
            or any(_starts_process(each, cache) for each in called if _is_of_tests(each))
        )
    return cache[function]


def _is_of_tests(function):
    return Path(function.__code__.co_filename).is_relative_to(TESTS)


def pytest_sessionstart(session):
    """Prepare for fast imports, and let no test start a process when those with the marker are left out."""
    if not hasattr(session.config, "workerinput") and session.config.option.dist != "no":
        return  # this process starts those that run the tests
    import alhelpers.runs.notebooks  # noqa: F401 - imports jsonschema without its grammar, which takes a second

    # The million objects of imported packages stay: the garbage collector need not visit them, now or later.
    gc.disable()
    if session.config.option.markexpr == "not process":
        sys.addaudithook(_refuse_processes)


def pytest_collection_finish():
    gc.freeze()
    gc.enable()


def _refuse_processes(event, arguments):
    if event in ("subprocess.Popen", "os.fork", "os.posix_spawn"):
        raise RuntimeError(f"{event}: a test that starts a process needs the marker pytest.mark.process")


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
def other_process():
    """An executor of one process."""
    from joblib.externals.loky import ProcessPoolExecutor

    with ProcessPoolExecutor(1) as executor:
        yield executor


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


@pytest.fixture
def storage(tmp_path_factory):
    """A small object storage with an empty bucket."""
    from object_storage import serving

    folder = tmp_path_factory.mktemp("storage")
    (folder / "bucket").mkdir()
    with serving(folder) as server:
        yield server
