"""Views of models, pipelines and executions: plain data for the templates, as in views.py."""

import contextlib
import json
from collections import Counter
from pathlib import Path
from typing import Any

from ..api import Call
from ..services.executions import models
from ..services.items import models as items
from ..services.pipelines import graph as flow
from . import charts, graph
from .views import as_dict, as_list, listing, name_of, project_crumbs, system_of

MAX_SAMPLES = 20_000
MAX_ARTIFACTS = 50
MAX_LOG = 30
MAX_MODEL_EXECUTIONS = 20
# The folder of evaluation files, and the largest one that is drawn.
SCORES = "/.modelscores"
MAX_CURVE = 4 << 20
MAX_CYCLES = 1000
MAX_EXECUTIONS = 200
# Colours of statuses.
GOOD = ("success", "completed", "trained", "deployed", "pre-trained", "approved", "installed")
BAD = ("failed", "error", "terminated", "aborted", "failure", "rejected")
BUSY = ("in-progress", "inprogress", "running", "training", "pending", "queue", "cloning")


def mood(status: Any) -> str:
    word = str(status).lower()
    for name, words in (("good", GOOD), ("bad", BAD), ("busy", BUSY)):
        if word in words:
            return name
    return "plain"


def model(call: Call) -> dict[str, Any]:
    row = call.store.row("models", call.params["model_id"])
    shown = call.store.parsed(row)
    mine = {"projectId": row.scope, "model": row.id}
    return {
        "model": shown,
        "crumbs": project_crumbs(call, row.scope),
        "tags": [str(tag) for tag in as_list(shown.get("tags"))],
        "labels": [str(label) for label in as_list(shown.get("labels"))],
        "log": shown["statusLogs"][-MAX_LOG:],
        "figures": charts.figures(call.store.find_all("metrics", modelId=row.id, limit=MAX_SAMPLES)),
        "lineage": _lineage(call, shown),
        "evaluations": _evaluations(call, shown),
        "artifacts": _artifacts(call, shown),
        "executions": call.store.find_all("executions", order="-id", limit=MAX_MODEL_EXECUTIONS, **mine),
        "executions_total": call.store.count("executions", **mine),
    }


def _lineage(call: Call, model: dict[str, Any]) -> list[dict[str, Any]]:
    app = as_dict(model.get("app"))
    found = [
        _link(call, "Trained on", "datasets", model.get("datasetId")),
        _link(call, "App", "apps", app.get("id"), linked=False),
        _link(call, "App's package", "dpks", app.get("dpkId"), linked=False),
        _link(call, "Cloned from", "models", _source(model)),
    ]
    for clone in call.store.find_all("models", projectId=model["projectId"], limit=1000):
        if _source(clone) == model["id"]:
            found.append(_link(call, "Cloned to", "models", clone["id"]))
    return [one for one in found if one]


def _source(model: dict[str, Any]) -> Any:
    return next((entry["srcModelId"] for entry in model["statusLogs"] if entry.get("srcModelId")), None)


def _link(call: Call, what: str, kind: str, found: Any, *, linked: bool = True) -> dict[str, Any] | None:
    name = name_of(call, kind, found)
    return {"what": what, "name": name, "url": f"/{kind}/{found}" if linked else None} if name else None


def _evaluations(call: Call, model: dict[str, Any]) -> list[dict[str, Any]]:
    evaluate = as_dict(system_of(model).get("evaluate"))
    ids = [str(found) for found in as_list(evaluate.get("datasets"))[:20]]
    found = []
    for dataset_id in ids:
        curve = items.by_path(call.store, dataset_id, f"{SCORES}/{model['id']}-interpolated.json")
        scores = items.by_path(call.store, dataset_id, f"{SCORES}/{model['id']}.csv")
        blob = call.store.row("items", curve["id"]).blob if curve else None
        name = name_of(call, "datasets", dataset_id)
        path = str(call.store.blob_path(blob)) if blob else None
        found.append(
            {"id": dataset_id, "name": name, "scores": scores["id"] if scores else None, "curve": path}
        )
    return found


def curves(evaluations: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Draw the files of evaluations; it reads them, so it does not run on the state thread."""
    drawn = []
    for one in evaluations:
        path = Path(one["curve"]) if one["curve"] else None
        with contextlib.suppress(OSError, ValueError, RecursionError):
            if path is not None and path.stat().st_size <= MAX_CURVE:
                name = f"Precision by recall on {one['name']}"
                drawn.append(charts.precision_recall(name, json.loads(path.read_bytes())))
    return [one for one in drawn if one]


def _artifacts(call: Call, model: dict[str, Any]) -> list[dict[str, Any]]:
    found = []
    for artifact in as_list(model.get("artifacts"))[:MAX_ARTIFACTS]:
        item_id = as_dict(artifact).get("itemId")
        name = name_of(call, "items", item_id)
        if name:
            found.append({"id": item_id, "name": name})
    return found


def pipeline(call: Call) -> dict[str, Any]:
    row = call.store.row("pipelines", call.params["pipeline_id"])
    shown = call.store.parsed(row)
    # A reset restarts the counters and keeps earlier cycles.
    since = {"pipelineId": row.id, "id__gt": shown.get("countedFrom") or ""}
    counted = call.store.find_all("cycles", order="-id", limit=MAX_CYCLES, **since)
    paging, rows = listing(call, "cycles", pipelineId=row.id)
    return {
        "pipeline": shown,
        "crumbs": project_crumbs(call, row.scope),
        "graph": drawn(shown, _counts(counted)),
        "opens": _opens(call, shown),
        "cycles": [call.store.parsed(one) for one in rows],
        "counted": len(counted),
        "to_count": call.store.count("cycles", **since),
        "paging": paging,
        "live": any(mood(one.get("status")) == "busy" for one in counted),
    }


def cycle(call: Call) -> dict[str, Any]:
    """Show one cycle of a pipeline: the same graph, with the statuses of this cycle."""
    row = call.store.row("cycles", call.params["cycle_id"])
    shown = call.store.parsed(row)
    pipeline_row = call.store.row("pipelines", str(row.parent))
    whole = call.store.parsed(pipeline_row)
    crumbs = [*project_crumbs(call, pipeline_row.scope), (whole["name"], f"/pipelines/{pipeline_row.id}")]
    mine = {"projectId": pipeline_row.scope, "cycle": row.id}
    return {
        "cycle": shown,
        "pipeline": whole,
        "crumbs": crumbs,
        "graph": drawn(whole, _counts([shown])),
        "opens": _opens(call, whole),
        "node_names": {str(node.get("id")): str(node.get("name")) for node in shown["nodes"]},
        "executions": call.store.find_all("executions", limit=MAX_EXECUTIONS, **mine),
        "executions_total": call.store.count("executions", **mine),
        "live": mood(shown.get("status")) == "busy",
    }


def _counts(cycles: list[dict[str, Any]]) -> dict[str, Counter[str]]:
    counts: dict[str, Counter[str]] = {}
    for one in cycles:
        for node_id, found in one["counts"].items():
            counts.setdefault(node_id, Counter()).update(found)
    return counts


def _opens(call: Call, pipeline: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Link each node to its dataset, model or task."""
    tasks = pipeline.get("taskIds") or {}
    found = {}
    for node in flow.nodes(pipeline)[: graph.MAX_NODES]:
        kind, document_id = "tasks", tasks.get(node["id"])
        if node["type"] == "storage":
            kind, document_id = "datasets", flow.dataset_id(pipeline, node)
        if node["type"] == "ml":
            kind, document_id = "models", flow.model_id(pipeline, node)
        if link := _link(call, kind, kind, document_id):
            found[node["id"]] = link
    return found


def drawn(pipeline: dict[str, Any], counts: dict[str, Counter[str]]) -> dict[str, Any]:
    """Lay a pipeline out, and add names, types and counts to its nodes and edges."""
    nodes = {str(node.get("id")): node for node in pipeline.get("nodes") or []}
    layout = graph.lay_out(list(nodes.values()), pipeline.get("connections") or [])
    names = {node_id: str(node.get("name") or node.get("type")) for node_id, node in nodes.items()}
    for place in layout["nodes"]:
        node = nodes[place["id"]]
        place["name"] = names[place["id"]]
        place["lines"] = graph.lines(names[place["id"]])
        place["type"] = str(node.get("type"))
        place["counts"] = [
            {"status": status, "count": count, "mood": mood(status)}
            for status, count in sorted(counts.get(place["id"], Counter()).items())
        ]
    for edge in layout["edges"]:
        edge |= {"from_name": names[edge["from"]], "to_name": names[edge["to"]]}
    return layout


def executions(call: Call) -> dict[str, Any]:
    row = call.store.row("projects", call.params["project_id"])
    only = call.query.get("status", "")
    mine = {"status": only} if only else {}
    paging, rows = listing(call, "executions", projectId=row.id, **mine)
    tally = call.store.count_by("executions", "status", projectId=row.id)
    return {
        "crumbs": project_crumbs(call, row.id),
        "tabs": [("", sum(tally.values())), *sorted((str(status), count) for status, count in tally.items())],
        "only": only,
        "executions": [call.store.parsed(one) for one in rows],
        "paging": paging,
    }


def execution(call: Call) -> dict[str, Any]:
    row = call.store.row("executions", call.params["execution_id"])
    shown = call.store.parsed(row)
    pipeline, model = as_dict(shown.get("pipeline")), as_dict(shown.get("model"))
    links = [
        _link(call, "Model", "models", model.get("modelId")),
        _link(call, "Pipeline", "pipelines", pipeline.get("id")),
        _link(call, "Run", "cycles", pipeline.get("executionId")),
    ]
    crumbs = project_crumbs(call, row.scope)
    return {
        "execution": shown,
        "crumbs": [*crumbs, *(("Executions", f"{url}/executions") for _, url in crumbs)],
        "links": [link for link in links if link],
        "live": not models.ended(shown),
    }
