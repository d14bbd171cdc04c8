"""Log the dtlpy SDK in: to the offline platform, or to the hosted one."""

import atexit
import json
import logging
import os
import shutil
import sys
import tempfile
from pathlib import Path
from types import ModuleType, SimpleNamespace

from alhelpers import platform as local_platform
from alhelpers.files import platform_folder
from alhelpers.notebook.login import log_in, variable_to_log_in_by, within

#: Prefix of the SDK's folder of this kit; the user's own folder is never changed.
_PREFIX = "alhelpers-sdk-"


def connect(
    platform: str = "local",
    *,
    project: str = "Active Learning",
    state_dir: str | Path | None = None,
    timeout: float = 90,
) -> ModuleType:
    """Return the dtlpy module, logged in; the project is created if it is missing.

    Parameters
    ----------
    platform : {"local", "dataloop"}
        ``local`` is the offline platform: the server that runs on the same state folder, or a new one, which ends
        soon after its last notebook. ``dataloop`` is the hosted one: the login is by the environment variable
        ``DATALOOP_API_KEY``, or by ``DATALOOP_EMAIL`` and ``DATALOOP_PASSWORD`` (machine to machine); without them the
        SDK asks for one in the browser if it needs one.
    project : str
        Name of the project.
    state_dir : path, optional
        Folder of the offline platform's state; the default is ``alhelpers.files.platform_folder()``.
    timeout : float
        How many seconds the hosted platform may take for the login, and then for the project.

    Returns
    -------
    module
        ``dtlpy``, so that a cell reads ``dl = connect(...)`` and everything after it is plain SDK code.

    Raises
    ------
    ValueError
        If the platform is unknown.
    RuntimeError
        If dtlpy was imported before, with the user's own settings, or is connected to the other platform; or if the
        hosted platform refuses the login or needs one, and there is no browser or nobody logs in.
    TimeoutError
        If the hosted platform does not answer in time, or nobody logs in.

    Notes
    -----
    The SDK keeps the token of a login in its own folder, ``~/.dataloop``. A login by the environment is not logged, and
    no error holds a key or a password.
    """
    if platform == "local":
        dl = _local(Path(state_dir or platform_folder()))
    elif platform == "dataloop":
        dl = _hosted(timeout)
    else:
        raise ValueError(f"platform is {platform!r}: choose 'local' (offline) or 'dataloop' (hosted)")
    _skip_stack_inspection(dl)
    # Every adapter warns at its start about names that differ, also if they do not.
    logging.getLogger("ModelAdapter").setLevel(logging.ERROR)
    if platform == "local":
        _make_project(dl, project)
    else:
        within(timeout, f"the project {project!r}", lambda: _make_project(dl, project))
    return dl


def _local(state_dir: Path) -> ModuleType:
    imported = "dtlpy" in sys.modules
    if imported and not _is_ours(_folder_in_use()):
        raise RuntimeError(
            "dtlpy is imported already: restart the kernel and call connect() before 'import dtlpy'"
        )
    server = local_platform.ensure(state_dir)
    _bypass_proxies()
    if imported:
        import dtlpy as dl

        # The server may have restarted at another address; only setenv() makes the SDK use it.
        dl.client_api.environments = local_platform.cookie(server)["login_parameters"]
        dl.client_api.setenv(server.environment)
        dl.client_api.token = server.token
        return dl
    # A folder for each process: the SDK stores models and settings there by name.
    folder = Path(tempfile.mkdtemp(prefix=_PREFIX))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    (folder / "cookie.json").write_text(json.dumps(local_platform.cookie(server)))
    os.environ["DATALOOP_PATH"] = str(folder)
    import dtlpy as dl

    return dl


def _bypass_proxies() -> None:
    """Exempt loopback calls from the proxy; ``requests`` reads only one of the two variables."""
    names = ("no_proxy", "NO_PROXY")
    hosts = [host for name in names for host in os.environ.get(name, "").split(",") if host]
    merged = ",".join(dict.fromkeys(["127.0.0.1", "localhost", *hosts]))
    os.environ.update(dict.fromkeys(names, merged))


def _hosted(timeout: float) -> ModuleType:
    variable_to_log_in_by()  # before the SDK makes its folder
    if "dtlpy" in sys.modules and _is_ours(_folder_in_use()):
        raise RuntimeError(
            "this kernel is connected to the offline platform: restart it, then connect to 'dataloop'"
        )
    if _is_ours(os.environ.get("DATALOOP_PATH", "")):  # inherited from a session that works offline
        del os.environ["DATALOOP_PATH"]
    import dtlpy as dl

    log_in(dl, timeout)
    return dl


def _folder_in_use() -> str:
    from dtlpy.services import service_defaults

    return service_defaults.DATALOOP_PATH


def _is_ours(folder: str) -> bool:
    return Path(folder).name.startswith(_PREFIX)


def _skip_stack_inspection(dl: ModuleType) -> None:
    """Keep the SDK from reading the call stack on each request: 60 of 65 ms of an ``items.get`` in Jupyter."""
    namespace = type(dl.client_api).token_expired.__globals__
    namespace["inspect"] = SimpleNamespace(stack=lambda: (None, None))


def _make_project(dl: ModuleType, name: str) -> None:
    # Listed first, as the SDK prints an error if a project is missing.
    if any(project.name == name for project in dl.projects.list()):
        return
    try:
        dl.projects.create(project_name=name)
    except dl.exceptions.BadRequest:  # another notebook has just created it, or the name is refused
        dl.projects.get(project_name=name)
