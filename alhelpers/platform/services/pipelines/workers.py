"""Nodes whose work is done by a service: functions, custom nodes, code, and the operations of models."""

import hashlib
import io
import zipfile

from ...errors import bad_request
from ...store import Document, Store
from ..apps import models as apps
from ..datasets import models as datasets
from ..executions import models as executions
from ..items import models as items
from ..packages import models as packages
from ..services import models as services
from . import graph, ml


def launch(
    store: Store, pipeline: Document, node: Document, inputs: Document, link: Document, user: str
) -> Document:
    if node["type"] == graph.ML:
        return ml.launch(store, pipeline, node, inputs, link, user)
    known = store.find_one("services", id=(pipeline.get("serviceIds") or {}).get(node["id"]))
    service = known or service_of(store, pipeline, node, user)
    return executions.create(store, _function_name(node), inputs, user, service=service, pipeline=link)


def prepare(store: Store, pipeline: Document, user: str, *, models_only: bool = False) -> None:
    """Make the services that a pipeline's nodes need; after a change of its variables those of models."""
    for node in graph.nodes(pipeline):
        if node["type"] == graph.ML:
            ml.prepare(store, pipeline, node, user)
        elif not models_only and node["type"] in (graph.CODE, graph.FUNCTION, graph.CUSTOM):
            service = service_of(store, pipeline, node, user)
            pipeline.setdefault("serviceIds", {})[node["id"]] = service["id"]
            # Readers of the pipeline find a node's service and package by these names.
            names = {"serviceName": service["name"], "packageName": service["packageName"]}
            node["namespace"] = (node.get("namespace") or {}) | names
    store.put("pipelines", pipeline)


def remove_code(store: Store, pipeline: Document) -> None:
    """Delete the services of a pipeline's own code; those of apps may have other users."""
    prefix = f"{pipeline['id']}-"
    for service in store.find_all("services", projectId=pipeline["projectId"]):
        if str(service["packageName"]).startswith(prefix):
            services.delete(store, service["id"])
            store.delete("packages", id=service["packageId"])


def _function_name(node: Document) -> str:
    package = (node.get("config") or {}).get("package") or {}
    return (node.get("namespace") or {}).get("functionName") or package.get("name") or "run"


def service_of(store: Store, pipeline: Document, node: Document, user: str) -> Document:
    """Return the service of a node, made or updated if it is the pipeline's own."""
    if node["type"] == graph.CODE:
        return _code_service(store, pipeline, node, user)
    namespace = node.get("namespace") or {}
    named = store.find_one("services", projectId=pipeline["projectId"], name=namespace.get("serviceName"))
    package_name = node.get("dpkName") or namespace.get("packageName")
    if named is not None and (node["type"] == graph.FUNCTION or not package_name):
        return named
    if not package_name:
        raise bad_request(
            f"node {graph.label(node)!r}: there is no service {namespace.get('serviceName')!r} in the project,"
            " and the node has no 'dpkName'"
        )
    return _app_service(store, pipeline, node, package_name, named, user)


def _app_service(
    store: Store, pipeline: Document, node: Document, dpk_name: str, named: Document | None, user: str
) -> Document:
    """Return the service of an app's module; without an installed app that of the dpk's latest revision."""
    namespace = node.get("namespace") or {}
    app = apps.installed(store, pipeline["projectId"], dpk_name)
    package = app["dpk"] if app else apps.revision(store, dpk_name, None)
    module = services.module_of(package, namespace.get("moduleName"))
    if named is not None and (named["packageName"], named["moduleName"]) == (dpk_name, module["name"]):
        return named
    if services.function_of(module, _function_name(node)) is None and module.get("functions"):
        names = [each.get("name") for each in module["functions"]]
        raise bad_request(
            f"node {graph.label(node)!r}: module {module['name']!r} of dpk {dpk_name!r} has no function"
            f" {_function_name(node)!r}; it has {names}"
        )
    config = (node.get("metadata") or {}).get("serviceConfig") or {}
    name = namespace.get("serviceName") or config.get("name") or f"{dpk_name}-{module['name']}"
    other = store.find_one("services", projectId=pipeline["projectId"], name=name)
    if other is not None and (other["packageName"], other["moduleName"]) != (dpk_name, module["name"]):
        name = f"{name}-{pipeline['id']}"
    settings = _settings(config) | {"module": module["name"], "app": app}
    return services.ensure(store, pipeline["projectId"], name, package, user, **settings)


def _code_service(store: Store, pipeline: Document, node: Document, user: str) -> Document:
    """Return the service of a code node, whose package holds the node's code."""
    given = (node.get("config") or {}).get("package") or {}
    code = given.get("code")
    if not isinstance(code, str) or not code.strip():
        raise bad_request(f"node {graph.label(node)!r} has no code: 'config.package.code' must hold it")
    # A template may be used twice, so neither the node's id nor the name in it is unique.
    own = f"{pipeline['id']}-{node['id']}"
    package = _code_package(store, pipeline, node, own, code, user)
    name = (node.get("namespace") or {}).get("serviceName") or own
    other = store.find_one("services", projectId=pipeline["projectId"], name=name)
    if other is not None and other["packageName"] != own:
        name = own
    config = (node.get("metadata") or {}).get("serviceConfig") or (node.get("config") or {})
    return services.ensure(store, pipeline["projectId"], name, package, user, **_settings(config))


def _settings(config: Document) -> Document:
    return {key: config[key] for key in ("runtime", "initParams", "executionTimeout") if config.get(key)}


def _code_package(
    store: Store, pipeline: Document, node: Document, name: str, code: str, user: str
) -> Document:
    function = {
        "name": _function_name(node),
        "input": [{"name": port["name"], "type": port["type"]} for port in graph.inputs(node)],
        "output": [{"name": port["name"], "type": port["type"]} for port in graph.outputs(node)],
    }
    modules = [packages.DEFAULT_MODULE | {"functions": [function]}]
    digest = hashlib.sha256(code.encode()).hexdigest()
    found = store.find_one("packages", projectId=pipeline["projectId"], name=name)
    if found is not None and (found["metadata"].get("code"), found["modules"]) == (digest, modules):
        return found
    binaries = datasets.binaries(store, pipeline["projectId"])["id"]
    path = f"/codebases/pipelines/{pipeline['id']}/{digest}.zip"
    item = items.by_path(store, binaries, path) or items.add_bytes(store, binaries, path, _zipped(code), user)
    body = {
        "name": name,
        "projectId": pipeline["projectId"],
        "modules": modules,
        "metadata": {"code": digest},
    }
    package = packages.new(store, body | {"codebase": {"type": "item", "itemId": item["id"]}}, user)
    if found is not None:
        store.delete("packages", id=found["id"])
    store.put("packages", package)
    return package


def _zipped(code: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("main.py", code)
    return buffer.getvalue()
