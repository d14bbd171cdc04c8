"""Pipelines whose nodes run code: the SDK's code nodes, functions of services, custom nodes of apps."""

import os
import signal
import subprocess
import sys

import pytest
from helpers_contract import make_service, send
from helpers_execution import publish, until
from pipeline_samples import code, connect, executed, node, pipeline, port, statuses, successes

import alhelpers.platform
from alhelpers.platform.launcher import call
from alhelpers.platform.services.triggers import models as triggers


def ended(flow, cycle):
    """Wait for a cycle more often than the SDK does, which begins with two seconds."""
    until(lambda: not flow.pipeline_executions.get(cycle.id).in_progress())
    return flow.pipeline_executions.get(cycle.id)


def messages(cycle):
    return [each["latestStatus"].get("message") for each in executed(cycle)]


def test_a_code_node_of_the_sdk(dl, project, dataset, fill):
    """What the function gets, and which way it sends its item."""

    def tag(item, progress, context):
        item.metadata["user"] = {"node": context.node.name, "cycle": context.pipeline_execution_id}
        item = item.update()
        progress.update(action="no" if item.name == "0001.png" else "yes")
        return item

    one, two = fill(2)
    truth = project.datasets.create("truth")
    flow = project.pipelines.create(name="coded")
    output = dl.PipelineNodeIO("Item", "item", "item", actions=["yes", "no"])
    tagger = dl.CodeNode("Tag", project.id, project.name, tag, outputs=[output])
    flow.nodes.add(tagger).connect(dl.DatasetNode("truth", project.id, truth.id), action="yes")
    flow = flow.update().install()
    service = project.services.list().items[0]
    assert service.module_name == "default_module"
    namespace = flow.nodes.get("Tag").namespace
    assert (namespace.service_name, namespace.package_name) == (service.name, service.name)
    cycles = [flow.execute({"item": each.id}) for each in (one, two)]
    cycles = [ended(flow, each) for each in cycles]
    assert [each.status for each in cycles] == ["success", "success"]
    assert [statuses(each)["truth"] for each in cycles] == ["success", "pending"]
    (copy,) = truth.items.list().items
    assert copy.metadata["user"] == {"node": "Tag", "cycle": cycles[0].id}
    first = dl.executions.get(execution_id=executed(cycles[0])[0]["id"])
    assert first.service_id == service.id and first.node_id == tagger.node_id and first.function_name == "tag"
    assert cycles[0].wait().status == "success"
    # Changed code runs with the next cycle.
    tagger = flow.nodes.get("Tag")
    tagger.config["package"]["code"] = tagger.config["package"]["code"].replace('"no" if', '"yes" if')
    flow = flow.update()
    assert statuses(ended(flow, flow.execute({"item": two.id})))["truth"] == "success"


def test_lists_nulls_failures_and_rerun(dl, project, dataset, item):
    """One service for the whole story: it plays the part that its input names."""
    text = """\
if part == "many":
    return [item.id] * 1000
if part == "too many":
    return [item.id] * 1001
if part == "nothing":
    return None
if not item.metadata.get("user"):
    raise ValueError("not ready")
return [item.id]"""
    play = code("Play", text, [port(), port("part", "String")], [port("items", "Item[]")])
    end = node("storage", "end", metadata={"datasetId": dataset.id})
    flow = project.pipelines.create(pipeline_json=pipeline([play, end])).install()

    def run(part):
        return ended(flow, flow.execute({"item": item.id, "part": part}))

    many = run("many")
    assert many.status == "success" and len(executed(many)) == 1001
    assert successes(flow.stats(), end["id"]) == 1000
    too_many = run("too many")
    assert too_many.status == "failed" and len(executed(too_many)) == 1
    nothing = run("nothing")
    assert nothing.status == "failed" and statuses(nothing) == {"Play": "success", "end": "pending"}
    failed = run("ready?")
    assert failed.status == "failed" and messages(failed) == ["ValueError: not ready"]
    item.metadata["user"] = {"ready": True}
    item.update()
    assert failed.rerun(method=dl.CycleRerunMethod.START_FROM_FAILED_EXECUTIONS)
    again = ended(flow, failed)
    assert again.status == "success" and len(executed(again)) == 2
    assert {each.status: each.count for each in flow.stats().pipeline_counters} == {"success": 2, "failed": 2}


def test_custom_and_function_nodes(dl, project, tmp_path):
    (tmp_path / "main.py").write_text(
        "import dtlpy as dl\n\nclass ServiceRunner(dl.BaseServiceRunner):\n"
        "    def double(self, x):\n        return 2 * x\n"
        "    def both(self, x, y, context):\n"
        "        return x + y, context.node.metadata['customNodeConfig']['word']\n"
    )
    x, y, twice, total = ({"name": name, "type": "Integer"} for name in ("x", "y", "twice", "sum"))
    functions = [
        {"name": "double", "input": [x], "output": [twice]},
        {"name": "both", "input": [x, y], "output": [total, {"name": "word", "type": "String"}]},
    ]
    module = {"name": "sums", "entryPoint": "main.py", "className": "ServiceRunner", "functions": functions}
    manifest = {"name": f"sums-{project.id}", "components": {"modules": [module]}}
    dpk = dl.Dpk.from_json(manifest, client_api=dl.client_api, project=project)
    project.apps.install(dpk=project.dpks.publish(dpk=dpk, local_path=str(tmp_path)))
    number = dict(kind="Integer")
    custom = {"dpkName": manifest["name"], "namespace": {"functionName": "double", "moduleName": "sums"}}
    root = node("custom", "Double", [port("x", **number)], [port("twice", **number)], **custom)
    joined = node(
        "custom",
        "Both",
        [port("x", **number), port("y", **number, defaultValue=100)],
        [port("sum", **number), port("word", "String")],
        metadata={"customNodeConfig": {"word": "configured"}},
    ) | {**custom, "namespace": custom["namespace"] | {"functionName": "both"}}
    flow = project.pipelines.create(pipeline_json=pipeline([root, joined])).install()
    (service,) = project.services.list().items
    cycle = ended(flow, flow.execute({"x": 4}))
    assert cycle.status == "success", messages(cycle)
    assert [each["output"] for each in executed(cycle)] == [8, [108, "configured"]]
    function = dl.FunctionNode("Again", service, "double")
    assert function.inputs[0].name == "x"
    other = project.pipelines.create(name="functions")
    other.nodes.add(function)
    other = other.update().install()
    assert executed(ended(other, other.execute({"x": 5})))[0]["output"] == 10
    assert project.services.list().items_count == 1
    broken = pipeline([root | {"namespace": {"functionName": "triple", "moduleName": "sums"}}])
    with pytest.raises(dl.exceptions.BadRequest, match="has no function 'triple'"):
        project.pipelines.create(pipeline_json=broken).install()
    with pytest.raises(dl.exceptions.NotFound, match="dpk not found"):
        project.pipelines.create(pipeline_json=pipeline([root | {"dpkName": "nowhere"}])).install()


def test_a_single_input_is_repeated_for_a_list(dl, project):
    """Values arrive at both inputs of a node: one for each pair of two lists, one for each value of one list."""
    many = code("Many", "return [1, 2, 3], [4, 5, 6] if even else [4, 5]", [port("even", "Boolean")])
    many["outputs"] = [port("a", "Integer[]"), port("b", "Integer[]")]
    number = [port("x", "Integer"), port("y", "Integer")]
    pairs, single = code("Pairs", "return x * y", number), code("Single", "return 10 * x + y", number)
    for each in (pairs, single):
        each["inputs"] = [port("x", "Integer"), port("y", "Integer")]
        each["outputs"] = [port("z", "Integer")]
        each["namespace"]["serviceName"] = f"{each['name'].lower()}-of-{project.id}"
    last = code("Last", "return 7", [port("even", "Boolean")], [port("z", "Integer")])
    start = code("Start", "return even", [port("even", "Boolean")], [port("even", "Boolean")])
    ways = [connect(start, many), connect(start, last)]
    ways += [connect(many, pairs), connect(many, pairs, output=1, into=1)]
    ways += [connect(many, single), connect(last, single, into=1)]
    flow = project.pipelines.create(
        pipeline_json=pipeline([start, many, last, pairs, single], ways)
    ).install()
    assert {f"pairs-of-{project.id}", f"single-of-{project.id}"} < {
        each.name for each in project.services.list().all()
    }
    cycle = ended(flow, flow.execute({"even": True}))
    outputs = {
        node["name"]: sorted(each["output"] for each in cycle.executions[node["id"]])
        for node in (pairs, single)
    }
    assert cycle.status == "success" and outputs == {"Pairs": [4, 10, 18], "Single": [17, 27, 37]}
    failed = ended(flow, flow.execute({"even": False}))
    assert failed.status == "failed" and pairs["id"] not in failed.executions


def test_a_node_keeps_its_service_when_its_model_changes(dl, project, tmp_path):
    project.apps.install(publish(project, "brightness", tmp_path, name=f"brightness-{project.id}"))
    base = project.models.get(model_name="brightness")
    first, second = (base.clone(model_name=name, status="trained") for name in ("first", "second"))
    predict = node("ml", "predict", metadata={"variableModel": "best"}, outputs=[port()])
    predict["namespace"] = {"functionName": "predict", "projectName": "p"}
    variables = [{"name": "best", "type": "Model", "value": first.id}]
    flow = project.pipelines.create(pipeline_json=pipeline([predict], variables=variables)).install()
    (service,) = project.services.list().items
    flow.variables[0].value = second.id
    flow.update()
    (after,) = project.services.list().items
    assert after.id == service.id and after.metadata["ml"]["modelId"] == second.id
    first, second = (dl.models.get(model_id=each.id) for each in (first, second))
    assert (first.status, second.status) == ("trained", "deployed")
    assert [each.metadata["system"]["deploy"]["services"] for each in (first, second)] == [[], [service.id]]


def test_a_module_runs_with_the_default_configuration(dl, project, tmp_path):
    dpk = publish(project, "functions", tmp_path, name=f"configured-{project.id}")
    manifest = dpk.to_json() | {"version": "2.0.0"}
    default = {"name": "default", "runtime": {"concurrency": 7}, "executionTimeout": 44}
    modules = [module | {"computeConfig": None} for module in manifest["components"]["modules"]]
    manifest["components"] = {"modules": modules, "computeConfigs": [default]}
    dpk = project.dpks.publish(dl.Dpk.from_json(manifest, client_api=dl.client_api, project=project))
    service = make_service(dl, project, dpk.id, "configured")
    assert (service.runtime.concurrency, service.execution_timeout) == (7, 44)


# ------------------------------------------------------------------------------------------------------- survival


def serve(folder):
    command = [sys.executable, "-m", "alhelpers.platform", "--state-dir", str(folder)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True)
    process.stdout.readline()
    return process


def kill(process):
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()


def test_a_run_survives_the_death_of_the_server(tmp_path):
    """Killed while the second of three nodes runs: the first does not run again, the second does, the third once."""
    state, notes = tmp_path / "state", tmp_path / "notes"
    notes.mkdir()

    def writer(name, wait):
        text = (
            f"import time, uuid, pathlib\nfolder = pathlib.Path({str(notes)!r})\n"
            f"(folder / f'{name}-{{uuid.uuid4().hex}}').touch()\n"
            f"while {wait} and not (folder / 'go').exists():\n    time.sleep(0.05)\n"
            "return x + 1"
        )
        return code(name, text, [port("x", "Integer")], [port("x", "Integer")])

    nodes = [writer("first", False), writer("second", True), writer("third", False)]

    def count(name):
        return len(list(notes.glob(f"{name}-*")))

    def send(method, path, body=None):
        return call(alhelpers.platform.running(state), method, path, body)

    process = serve(state)
    try:
        body = pipeline(nodes) | {"projectId": send("POST", "/projects", {"name": "p"})["id"]}
        path = f"/pipelines/{send('POST', '/pipelines', body)['id']}"
        send("POST", f"{path}/install", {})
        cycle = send("POST", f"{path}/execute", {"pipeline": {"input": {"x": 1}}})["id"]
        until(lambda: count("second") == 1)
        kill(process)
        process = serve(state)
        before = send("GET", f"{path}/executions/{cycle}")
        assert [each["status"] for each in before["nodes"]] == ["success", "in-progress", "pending"]
        until(lambda: count("second") == 2)
        (notes / "go").touch()
        until(lambda: send("GET", f"{path}/executions/{cycle}")["status"] != "in-progress")
        after = send("GET", f"{path}/executions/{cycle}")
        assert after["status"] == "success"
        assert [count(name) for name in ("first", "second", "third")] == [1, 2, 1]
        outputs = [each["output"] for each in sum(after["executions"].values(), [])]
        assert outputs == [2, 3, 4]
    finally:
        kill(process)


@pytest.mark.parametrize(
    ("action", "text"),
    [
        ("Created", "item.dataset.items.upload(b'x', remote_name=f'{item.id}.bin')\nreturn item"),
        (
            "Updated",
            "item.metadata['user'] = {'n': item.metadata.get('user', {}).get('n', 0) + 1}\nreturn item.update()",
        ),
    ],
)
def test_a_pipeline_that_starts_itself_comes_to_an_end(dl, project, item, action, text, monkeypatch):
    """Its node does what starts the pipeline again; what a user does then starts it as before."""
    monkeypatch.setattr(triggers, "MAX_ROUNDS", 5)
    writer = code("Writer", text.replace("b'x'", "__import__('io').BytesIO(b'x')"))
    spec = {"resource": "Item", "actions": [action], "executionMode": "Always", "filter": {}}
    trigger = {"type": "Event", "spec": spec}
    flow = project.pipelines.create(pipeline_json=pipeline([writer], triggers={writer["id"]: trigger}))
    flow.install()
    for ends in (1, 2):
        if action == "Created":
            item.dataset.items.upload(f"{item.download()}", remote_name=f"{ends}.png")
        else:
            item.metadata["user"] = {"start": ends}
            item.update()

        def cycles():
            return list(flow.pipeline_executions.list().all())

        until(lambda ends=ends: sum(each.status == "failed" for each in cycles()) == ends)
        assert len(cycles()) == ends * 7 and not any(each.in_progress() for each in cycles())
    answer = send(
        dl, "post", "/pipelines/query", {"resource": "pipelineState", "filter": {"status": "failed"}}
    )
    assert "is in a ring: what it starts has fired it 5 times already" in answer["items"][0]["errors"][0]
