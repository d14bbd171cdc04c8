"""Fresh interpreters and a real kernel, because the SDK reads its settings once, when it is imported."""

import json
import os
import subprocess
import sys
import textwrap

import pytest

from alhelpers import platform
from alhelpers.notebook import connect
from alhelpers.notebook.connection import _bypass_proxies
from alhelpers.runs import recorded


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A state folder, a working folder and a home of our own; the server is stopped at the end."""
    folder = tmp_path_factory.mktemp("connect")
    for name in ("home", "work", "temporary"):
        (folder / name).mkdir()
    yield folder
    if server := platform.running(folder / "state"):
        server.stop()


def environment(place, **more):
    env = {
        name: value for name, value in os.environ.items() if not name.startswith(("DATALOOP_", "NO_PROXY"))
    }
    return env | {
        "HOME": str(place / "home"),
        "TMPDIR": str(place / "temporary"),
        # A proxy that does not exist, and a list of exceptions that lacks this machine.
        "HTTP_PROXY": "http://127.0.0.1:9",
        "no_proxy": "example.invalid",
        # Not ours to test: matplotlib's and IPython's own settings.
        "MPLCONFIGDIR": str(place / "matplotlib"),
        "IPYTHONDIR": str(place / "ipython"),
        **more,
    }


def python(place, code, **more):
    """Run code in a fresh interpreter and return the last line that it printed, read as JSON."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        cwd=place / "work",
        env=environment(place, **more),
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def session(place):
    """One interpreter that connects, loses its server, and connects again."""
    return python(
        place,
        f"""
        import io, json, os, socket
        from alhelpers import notebook, platform

        STATE = {str(place / "state")!r}
        dl = notebook.connect(project="Ours", state_dir=STATE)
        first = platform.running(STATE)
        again = notebook.connect(project="Ours", state_dir=STATE)
        same = platform.running(STATE)
        projects = sorted(project.name for project in dl.projects.list())
        dataset = dl.projects.get("Ours").datasets.create("digits")

        first.stop()
        blocker = socket.socket()  # the next server can't have the same port
        blocker.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        blocker.bind(("127.0.0.1", int(first.url.rsplit(":", 1)[1])))
        back = notebook.connect(project="Ours", state_dir=STATE)
        second = platform.running(STATE)
        buffer = io.BytesIO(b"words")
        buffer.name = "words.txt"
        item = dataset.items.upload(local_path=buffer, raise_on_error=True)
        print(json.dumps({{
            "modules": [again is dl, back is dl],
            "urls": [first.url, same.url, second.url],
            "pids": [first.pid, same.pid, second.pid, os.getpid()],
            "projects": projects,
            "projects_after": sorted(project.name for project in dl.projects.list()),
            "datasets_after": [found.name for found in dl.projects.get("Ours").datasets.list()],
            "item": item.download(save_locally=False).read().decode(),
            "folder": os.environ["DATALOOP_PATH"],
            "no_proxy": [os.environ["NO_PROXY"], os.environ["no_proxy"]],
        }}))
        """,
    )


def test_one_server_serves_a_state_folder_and_the_project_is_made_once(session):
    assert session["modules"] == [True, True]
    assert session["urls"][0] == session["urls"][1]
    first, same, _, own = session["pids"]
    assert first == same != own
    assert session["projects"].count("Ours") == 1
    assert session["projects_after"] == session["projects"]


def test_a_server_that_came_back_elsewhere_is_found_with_its_state(session):
    assert session["urls"][2] != session["urls"][0]
    assert session["datasets_after"] == ["digits"]
    assert session["item"] == "words"


def test_a_proxy_is_passed_by_once_and_the_users_exceptions_stay(session):
    assert session["no_proxy"] == ["127.0.0.1,localhost,example.invalid"] * 2


def test_nothing_is_written_to_the_users_home_or_working_folder(session, place):
    assert list((place / "home").rglob("*")) == []
    assert list((place / "work").rglob("*")) == []
    assert not os.path.exists(session["folder"])  # removed when the interpreter ended


# ------------------------------------------------------------------------------------------------- in a notebook


@pytest.fixture(scope="module")
def in_kernel(place, session):
    """What a kernel sees that connects to the same state folder."""
    import nbformat
    import papermill
    from nbformat.v4 import new_code_cell, new_notebook

    sources = [
        "from alhelpers import notebook\n"
        f"dl = notebook.connect(project='Ours', state_dir={str(place / 'state')!r})",
        "import inspect\ncalls = []\nreal = inspect.stack\n"
        "inspect.stack = lambda *words: calls.append(words) or real(*words)",
        "dataset = dl.projects.get('Ours').datasets.get('digits')\n"
        "item = next(dataset.items.list().all())\nitem = dataset.items.get(item_id=item.id)",
        "notebook.record('name', item.name)\nnotebook.record('walks', len(calls))\n"
        "for _ in notebook.progress('ab', 'counting'):\n    pass",
    ]
    cells = [new_code_cell(source) for source in sources]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    output = place / "executed.ipynb"
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment(place).items():
            patch.setenv(name, value)
        patch.setenv("HOME", str(place))  # Jupyter writes to it
        patch.delenv("DATALOOP_PATH")
        nbformat.write(new_notebook(cells=cells, metadata=kernel), place / "source.ipynb")
        options = {"cwd": str(place / "work"), "progress_bar": False}
        executed = papermill.execute_notebook(str(place / "source.ipynb"), str(output), **options)
    return executed, recorded(output)


def test_a_kernel_shares_the_state_and_its_requests_do_not_walk_the_stack(in_kernel):
    _, values = in_kernel
    assert values == {"name": "words.txt", "walks": 0}


def test_progress_in_a_kernel_is_one_line_that_ends_full(in_kernel):
    executed, _ = in_kernel
    texts = [output.get("data", {}).get("text/plain") for output in executed.cells[-1].outputs]
    assert texts[-1] == "counting: 2 of 2" and texts.count("counting: 2 of 2") == 1
    assert len(texts) == 3


# ------------------------------------------------------------------------------------------------------- refusals


def test_an_unknown_platform_is_named():
    with pytest.raises(ValueError, match="platform is 'moon': choose 'local' .* or 'dataloop'"):
        connect("moon")


def test_an_sdk_with_the_users_settings_is_not_touched(dl, tmp_path):
    before = dict(dl.client_api.environments)
    with pytest.raises(RuntimeError, match="dtlpy is imported already: restart the kernel"):
        connect(state_dir=tmp_path / "state")
    assert dl.client_api.environments == before
    assert not (tmp_path / "state").exists()


def test_no_session_is_offline_and_hosted_at_once(dl, monkeypatch, tmp_path):
    from dtlpy.services import service_defaults

    monkeypatch.setattr(service_defaults, "DATALOOP_PATH", str(tmp_path / "alhelpers-sdk-x"))
    with pytest.raises(RuntimeError, match="connected to the offline platform: restart it"):
        connect("dataloop")


def test_the_hosted_platform_without_a_login_is_refused_at_once(place, monkeypatch):
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PATH", "")
    refused = python(
        place,
        """
        import json
        from alhelpers import notebook

        def refused():
            try:
                notebook.connect("dataloop")
            except RuntimeError as error:
                return str(error)

        found = [refused()]
        import dtlpy, webbrowser
        webbrowser.register("one", None, webbrowser.BackgroundBrowser("one"), preferred=True)
        dtlpy.login = lambda: False  # which waits for a minute
        print(json.dumps([*found, refused()]))
        """,
    )
    way_out = "set the environment variable DATALOOP_API_KEY, or DATALOOP_EMAIL and DATALOOP_PASSWORD"
    assert (
        refused[0].startswith("there is no browser to log in to the hosted platform")
        and way_out in refused[0]
    )
    assert refused[1].startswith("the login in the browser was not completed") and way_out in refused[1]


# ---------------------------------------------------------------------------------------- the login by environment


@pytest.fixture(scope="module")
def hosted(place, request):
    """A folder of the SDK's that takes our server for the hosted platform, and its credentials."""
    server = request.getfixturevalue("platform")
    folder = place / "sdk"
    folder.mkdir()
    cookie = platform.cookie(server)
    (login,) = cookie["login_parameters"].values()
    login["token"] = None
    (folder / "cookie.json").write_text(json.dumps(cookie))
    secret = json.loads((server.state_dir / "credentials.json").read_text())["secret"]
    return folder, server.token, secret


def test_a_login_by_key_and_by_password_and_neither_is_told(place, hosted):
    folder, key, secret = hosted
    found = python(
        place,
        f"""
        import io, json, logging, os, traceback

        log = io.StringIO()
        logging.basicConfig(stream=log, level=logging.DEBUG)
        from alhelpers import notebook

        KEY, SECRET = {key!r}, {secret!r}
        NAMES = ("DATALOOP_API_KEY", "DATALOOP_EMAIL", "DATALOOP_PASSWORD")

        def connected(key=None, email=None, password=None):
            for name, value in zip(NAMES, (key, email, password)):
                os.environ.pop(name, None)
                if value:
                    os.environ[name] = value
            try:
                dl = notebook.connect("dataloop", project="Hosted")
            except Exception as error:
                return [type(error).__name__, traceback.format_exc()]
            return [dl.client_api.token == KEY, [each.name for each in dl.projects.list()]]

        answers = {{
            "key": connected(KEY),
            "password": connected(None, "robot@example.com", SECRET),
            "wrong key": connected(KEY[:-4] + "AAAA"),
            "no token": connected("not-a-token-7"),
            "wrong password": connected(None, "robot@example.com", "wrong-secret-7"),
            "both": connected(KEY, "robot@example.com", SECRET),
            "half": connected(None, None, SECRET),
            "still logged in": connected(),
        }}
        logging.shutdown()
        print(json.dumps({{"answers": answers, "log": log.getvalue()}}))
        """,
        DATALOOP_PATH=str(folder),
        no_proxy="127.0.0.1",
    )
    answers = found["answers"]
    for name in ("key", "password", "still logged in"):
        (logged_in, projects) = answers[name]
        assert logged_in is True and "Hosted" in projects, name
    wrong = {name: answer for name, answer in answers.items() if answer[0] is not True}
    assert {name: error for name, (error, _) in wrong.items()} == dict.fromkeys(
        ("wrong key", "no token", "wrong password", "both", "half"), "RuntimeError"
    )
    expected = {
        "wrong key": "refused the login by DATALOOP_API_KEY (ValueError): check its value",
        "no token": "refused the login by DATALOOP_API_KEY (",
        "wrong password": "refused the login by DATALOOP_EMAIL (RuntimeError): check its value",
        "both": "DATALOOP_API_KEY and DATALOOP_EMAIL are both set: unset one of them",
        "half": "DATALOOP_PASSWORD is set and DATALOOP_EMAIL is not: set both, or DATALOOP_API_KEY",
    }
    for name, text in expected.items():
        assert text in wrong[name][1], wrong[name][1]
    told = json.dumps(found) + "".join(
        path.read_text(errors="replace")
        for path in folder.rglob("*")
        if path.is_file() and path.name != "cookie.json"
    )
    for private in (key, secret, "AAAA", "not-a-token-7", "wrong-secret-7"):
        assert private not in told


@pytest.mark.parametrize("variables", [("DATALOOP_API_KEY",), ("DATALOOP_EMAIL", "DATALOOP_PASSWORD")])
def test_a_platform_that_never_answers_is_given_up(place, hosted, variables):
    folder, key, _ = hosted
    found = python(
        place,
        """
        import json, socket, time

        silent = socket.create_server(("127.0.0.1", 0))  # takes a connection, and says nothing
        address = "http://127.0.0.1:%d" % silent.getsockname()[1]
        import dtlpy

        before = dtlpy.client_api.environments
        dtlpy.client_api.environments = before | {address: {"gate_url": address, "token": None}}
        dtlpy.client_api._environment = address
        from alhelpers import notebook

        start = time.monotonic()
        try:
            notebook.connect("dataloop", timeout=0.7)
        except TimeoutError as error:
            print(json.dumps([str(error), time.monotonic() - start]))
        """,
        DATALOOP_PATH=str(folder),
        no_proxy="127.0.0.1",
        **dict.fromkeys(variables, key),
    )
    text, seconds = found
    assert text.startswith(f"waited 0.7 s for the login by {variables[0]} at http://127.0.0.1:")
    assert "pass connect() a longer timeout" in text and key not in text and seconds < 10


@pytest.mark.parametrize(
    "given, expected",
    [
        ({}, "127.0.0.1,localhost"),
        ({"NO_PROXY": "a,localhost"}, "127.0.0.1,localhost,a"),
        ({"no_proxy": "b", "NO_PROXY": "a"}, "127.0.0.1,localhost,b,a"),
    ],
)
def test_loopback_never_goes_through_a_proxy(monkeypatch, given, expected):
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, given.get(name, ""))
    _bypass_proxies()
    _bypass_proxies()
    assert os.environ["NO_PROXY"] == os.environ["no_proxy"] == expected
