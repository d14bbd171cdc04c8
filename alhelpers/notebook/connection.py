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

from alhelpers import data
from alhelpers import platform as local_platform

#: How the name of our own SDK folder begins; the user's is another, and never touched.
_PREFIX = "alhelpers-sdk-"


def connect(
    platform: str = "local", *, project: str = "Active Learning", state_dir: str | Path | None = None
) -> ModuleType:
    """Return the dtlpy module, logged in, with the project made if it is missing.

    Parameters
    ----------
    platform : {"local", "dataloop"}
        ``local`` is the offline platform: a running one on the same state folder is used, otherwise one is
        started, which ends by itself soon after its last notebook. ``dataloop`` is the hosted one: the SDK asks
        for a login if it needs one.
    project : str
        Name of the project.
    state_dir : path, optional
        Folder of the offline platform's state; the default is ``data/cache/platform`` of the kit.

    Returns
    -------
    module
        ``dtlpy``, so that a cell reads ``dl = connect(...)`` and everything after it is plain SDK code.

    Raises
    ------
    ValueError
        If the platform is unknown.
    RuntimeError
        If dtlpy was imported before, with the user's own settings: they are not touched.
    """
    if platform == "local":
        dl = _local(Path(state_dir or data.cache_folder() / "platform"))
    elif platform == "dataloop":
        dl = _hosted()
    else:
        raise ValueError(f"platform is {platform!r}: choose 'local' (offline) or 'dataloop' (hosted)")
    _skip_stack_inspection(dl)
    # Every adapter warns at its start about names that differ, whether or not they do.
    logging.getLogger("ModelAdapter").setLevel(logging.ERROR)
    _make_project(dl, project)
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

        # The server may have come back at another address; only setenv() makes the SDK forget the former one.
        dl.client_api.environments = local_platform.cookie(server)["login_parameters"]
        dl.client_api.setenv(server.environment)
        dl.client_api.token = server.token
        return dl
    # A folder of its own for every process: the SDK keeps models and settings there by name.
    folder = Path(tempfile.mkdtemp(prefix=_PREFIX))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    (folder / "cookie.json").write_text(json.dumps(local_platform.cookie(server)))
    os.environ["DATALOOP_PATH"] = str(folder)
    import dtlpy as dl

    return dl


def _bypass_proxies() -> None:
    """Keep requests from sending even loopback calls to a proxy; of the two names it reads one only."""
    names = ("no_proxy", "NO_PROXY")
    hosts = [host for name in names for host in os.environ.get(name, "").split(",") if host]
    merged = ",".join(dict.fromkeys(["127.0.0.1", "localhost", *hosts]))
    os.environ.update(dict.fromkeys(names, merged))


def _hosted() -> ModuleType:
    if "dtlpy" in sys.modules and _is_ours(_folder_in_use()):
        raise RuntimeError(
            "this kernel is connected to the offline platform: restart it, then connect to 'dataloop'"
        )
    if _is_ours(os.environ.get("DATALOOP_PATH", "")):  # inherited from a session that works offline
        del os.environ["DATALOOP_PATH"]
    import dtlpy as dl

    if dl.token_expired():
        dl.login()
    return dl


def _folder_in_use() -> str:
    from dtlpy.services import service_defaults

    return service_defaults.DATALOOP_PATH


def _is_ours(folder: str) -> bool:
    return Path(folder).name.startswith(_PREFIX)


def _skip_stack_inspection(dl: ModuleType) -> None:
    """Keep the SDK from walking the whole call stack on every request, for a value that it never uses.

    In Jupyter that walk takes 60 of the 65 ms of an ``items.get``.
    """
    namespace = type(dl.client_api).token_expired.__globals__
    namespace["inspect"] = SimpleNamespace(stack=lambda: (None, None))


def _make_project(dl: ModuleType, name: str) -> None:
    # Listing first: asking for a missing project by its name makes the SDK print an error.
    if any(project.name == name for project in dl.projects.list()):
        return
    try:
        dl.projects.create(project_name=name)
    except dl.exceptions.BadRequest:  # another notebook has just made it, or the name is refused
        dl.projects.get(project_name=name)
