"""The app: its manifest and pipelines under any name, its code, and installing it.

The code is the modules that the app's services import, their requirements, and files of one's own; nothing else.
"""

from __future__ import annotations

import copy
import json
import re
import shutil
import tempfile
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import dtlpy as dl

from alhelpers.configurations import shipped

__all__ = ["install_app", "read_manifest", "read_pipeline", "write_codebase"]

PACKAGE = Path(__file__).resolve().parents[1]
#: The modules that the app's services import; notebooks, the offline platform and the command line are left out.
ROOMS = (
    "__init__",
    "_moved",
    "configurations",
    "data",
    "dataloop",
    "evaluation",
    "files",
    "learners",
    "mining",
    "parallel",
    "protocols",
    "records",
    "scores",
    "storage",
    "training",
    "uncertainty",
)
#: The packages that these modules import.
REQUIREMENTS = ("cloudpickle", "dtlpy", "numpy", "pillow", "pyarrow", "pydantic", "scikit-learn", "torch")
#: The folder of the codebase for files of one's own, as :mod:`alhelpers.dataloop.own_code` has it.
OWN_CODE = "own_code"


def install_app(
    project: dl.Project,
    *,
    app_name: str | None = None,
    display_name: str | None = None,
    own_code: str | Path | None = None,
    requirements: Sequence[str] = (),
) -> dl.App:
    """Publish the kit as an app and install it in a project, unless it is installed there already.

    Parameters
    ----------
    project : dl.Project
        The project, which also owns the published package.
    app_name, display_name : str, optional
        As in :func:`read_manifest`.
    own_code, requirements
        As in :func:`write_codebase`. With ``own_code`` the code is published also if the app is installed, which then
        gets the new version; models that are trained or deployed after that use it.

    Returns
    -------
    dl.App
        The installed app: ``project.models.create(app=app, dpk_model_name="digit-classifier", ...)``.
    """
    manifest = read_manifest(app_name, display_name)
    there = next((app for app in project.apps.list().all() if app.dpk_name == manifest["name"]), None)
    if there is not None and own_code is None:
        return there
    # Without a version the platform increases it: all projects share the name, and each install publishes its code.
    manifest.pop("version", None)
    with tempfile.TemporaryDirectory() as folder:
        code = write_codebase(folder, own_code=own_code, requirements=requirements)
        dpk = dl.Dpk.from_json(manifest, client_api=dl.client_api, project=project)
        published = project.dpks.publish(dpk=dpk, local_path=str(code))
    if there is None:
        return project.apps.install(dpk=published, app_name=manifest["displayName"])
    there.dpk_version = published.version
    there.update()
    return project.apps.get(app_id=there.id)


def read_manifest(app_name: str | None = None, display_name: str | None = None) -> dict[str, Any]:
    """Read the app's manifest, ``dataloop.json``, under a name.

    Parameters
    ----------
    app_name : str, optional
        What the app is called where it is published, a text of small letters, digits and '-'; the default is the
        kit's own. Organisations that share a platform need one each.
    display_name : str, optional
        What people see; the default is ``app_name`` in words.

    Returns
    -------
    dict
        The manifest, with its nodes and pipeline templates.

    Raises
    ------
    ValueError
        If the name is not valid.
    """
    manifest = shipped("dataloop.json")
    if app_name is None:
        return manifest | ({"displayName": display_name} if display_name else {})
    display_name = display_name or _in_words(app_name)
    former, manifest["name"], manifest["displayName"] = manifest["name"], _checked(app_name), display_name
    components = manifest["components"]
    for node in components["pipelineNodes"]:
        node["invoke"]["namespace"] = app_name + node["invoke"]["namespace"].removeprefix(former)
    components["pipelineTemplates"] = [
        _renamed(template, app_name, display_name) for template in components["pipelineTemplates"]
    ]
    return manifest


def read_pipeline(
    name: str | Path, app_name: str | None = None, display_name: str | None = None
) -> dict[str, Any]:
    """Read a pipeline for ``project.pipelines.create(pipeline_json=...)``, whose nodes run the code of an app.

    Parameters
    ----------
    name : str or path
        A file of ``pipeline_configs``, such as ``"active_learning_pipeline.json"``, or the path of one's own.
    app_name, display_name : str, optional
        The app's, as in :func:`read_manifest`; of an installed app, ``app.dpk_name`` and ``app.name``. Without a name
        the nodes keep the app that the file names.

    Returns
    -------
    dict
        The pipeline.

    Raises
    ------
    ValueError
        If the name is not valid, or a node's service is not named after its app.
    """
    pipeline = _read(name)
    if app_name is None:
        return pipeline
    return _renamed(pipeline, _checked(app_name), display_name or _in_words(app_name))


def _read(name: str | Path) -> dict[str, Any]:
    path = Path(name)
    return json.loads(path.read_text(encoding="utf-8")) if path.parent.name else shipped(path.name)


def _checked(app_name: str) -> str:
    if not re.fullmatch(r"[a-z0-9][a-z0-9-]*", app_name):
        raise ValueError(
            f"app_name {app_name!r} must be small letters, digits and '-', such as 'bird-finder'"
        )
    return app_name


def _in_words(app_name: str) -> str:
    return app_name.replace("-", " ").strip().capitalize()


def _renamed(pipeline: dict[str, Any], app_name: str, display_name: str) -> dict[str, Any]:
    """Return a pipeline whose nodes of an app are those of another one; nodes of the platform stay."""
    pipeline = copy.deepcopy(pipeline)
    for node in pipeline["nodes"]:
        if "dpkName" not in node:
            continue
        former, namespace = node["dpkName"], node["namespace"]
        service = namespace.get("serviceName", former)
        if not service.startswith(former):
            raise ValueError(
                f"the service {service!r} of node {node['name']!r} is not named after its app {former!r}: rename it"
            )
        namespace |= {"serviceName": app_name + service.removeprefix(former), "packageName": app_name}
        node |= {"dpkName": app_name, "appName": display_name}
    return pipeline


def write_codebase(
    folder: str | Path, *, own_code: str | Path | None = None, requirements: Sequence[str] = ()
) -> Path:
    """Write the code of the app, ready for ``project.dpks.publish(manifest_filepath=..., local_path=folder)``.

    Parameters
    ----------
    folder : path
        Must be empty or missing; it gets ``alhelpers``, the modules that services import, and ``requirements.txt``, the
        versions that are installed here.
    own_code : path, optional
        A Python file, or a folder whose files are all published; a model's configuration may name functions in it
        (:class:`~alhelpers.dataloop.adapter.LearnerAdapter`).
    requirements : sequence of str
        Further lines of ``requirements.txt``, for what ``own_code`` imports.

    Returns
    -------
    pathlib.Path
        The folder.

    Raises
    ------
    FileExistsError
        If the folder is not empty.
    ValueError
        If ``own_code`` holds no Python file.
    """
    own = None if own_code is None else _checked_code(Path(own_code))
    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    if any(target.iterdir()):
        raise FileExistsError(
            f"{target} is not empty: everything in it would be published, choose another folder"
        )
    package = target / PACKAGE.name
    package.mkdir()
    ignored = shutil.ignore_patterns("__pycache__")
    for room in ROOMS:
        if (PACKAGE / room).is_dir():
            shutil.copytree(PACKAGE / room, package / room, ignore=ignored)
        else:
            shutil.copy2(PACKAGE / f"{room}.py", package)
    if own is not None and own.is_dir():
        shutil.copytree(own, target / OWN_CODE, ignore=ignored)
    elif own is not None:
        (target / OWN_CODE).mkdir()
        shutil.copy2(own, target / OWN_CODE)
    lines = [f"{name}=={version(name).partition('+')[0]}" for name in REQUIREMENTS]
    (target / "requirements.txt").write_text("\n".join([*lines, *requirements]) + "\n")
    return target


def _checked_code(path: Path) -> Path:
    files = [path] if path.is_file() else path.glob("*.py")
    if not any(each.suffix == ".py" for each in files):
        raise ValueError(f"own_code {str(path)!r} must be a Python file, or a folder that holds one")
    return path
