"""How values travel through a pipeline, with functions whose results the test decides: no worker runs."""

import itertools
from types import SimpleNamespace

import pytest

from alhelpers.platform.api import Call, run_listeners
from alhelpers.platform.errors import ApiError
from alhelpers.platform.services import LISTENERS
from alhelpers.platform.services.datasets import models as datasets
from alhelpers.platform.services.executions import models as executions
from alhelpers.platform.services.items import models as items
from alhelpers.platform.services.pipelines import engine, lifecycle, models, validation, values
from alhelpers.platform.services.projects import models as projects

USER = "me@example.com"


def port(name, kind="Json", **fields):
    return {"portId": f"{name}-{id(fields)}-{next(_numbers)}", "name": name, "type": kind} | fields


_numbers = itertools.count()


def function(name, inputs, outputs):
    namespace = {"functionName": name, "serviceName": "service"}
    node = {"id": name, "name": name, "type": "function", "metadata": {}, "namespace": namespace}
    return node | {"inputs": inputs, "outputs": outputs}


def connect(source, target, output=0, into=0, **fields):
    return {
        "src": {"nodeId": source["id"], "portId": source["outputs"][output]["portId"]},
        "tgt": {"nodeId": target["id"], "portId": target["inputs"][into]["portId"]},
    } | fields


class Bench:
    """One installed pipeline and one cycle of it."""

    def __init__(self, store):
        self.store = store
        self.project = self.do(lambda store: projects.create(store, "p", USER))
        service = {"id": "service", "name": "service", "projectId": self.project["id"], "metadata": {}}
        self.do(lambda store: store.put("services", service | {"packageName": "x", "moduleName": "m"}))

    def do(self, work):
        with self.store.transaction():
            call = Call(self.store, "http://x", USER, {}, {}, None)
            result = work(self.store)
            run_listeners(call, LISTENERS)
        return result

    def install(self, nodes, connections, **fields):
        body = {"name": "flow", "projectId": self.project["id"], "nodes": nodes, "connections": connections}
        body["startNodes"] = [{"nodeId": nodes[0]["id"], "type": "root"}]

        def both(store):
            pipeline = models.create(store, body | fields, USER)
            lifecycle.install(store, pipeline, USER, None)
            return pipeline

        self.pipeline = self.do(both)

    def begin(self, inputs=None, **options):
        options = {"inputs": inputs or {}} | options
        self.id = self.do(lambda store: engine.begin(store, self.pipeline, USER, **options))["id"]

    @property
    def cycle(self):
        return self.store.get("cycles", self.id)

    @property
    def statuses(self):
        return {node["id"]: node["status"] for node in self.cycle["nodes"]}

    def executed(self, name=None):
        found = executions.of_cycle(self.store, self.project["id"], self.id)
        return [each for each in found if name in (None, each["pipeline"]["nodeId"])]

    def finish(self, name, output=None, status="success", **fields):
        """End the oldest execution of a node that is under way."""
        first = next(each for each in self.executed(name) if not executions.ended(each))
        execution = self.store.get("executions", first["id"])
        self.do(lambda store: executions.finish(store, execution, status, output=output, **fields))

    def inputs(self, name):
        return [each["input"] for each in self.executed(name)]


@pytest.fixture
def bench(store):
    return Bench(store)


@pytest.fixture
def line(bench):
    """A pipeline of two nodes."""
    one = function("one", [port("x")], [port("out")])
    two = function("two", [port("y")], [port("end")])
    bench.install([one, two], [connect(one, two)])
    return one, two


def test_one_value_goes_on(bench, line):
    bench.begin({"x": 1})
    assert bench.inputs("one") == [{"x": 1}] and bench.statuses == {"one": "in-progress", "two": "pending"}
    bench.finish("one", {"any": [1, 2]})
    assert bench.inputs("two") == [{"y": {"any": [1, 2]}}]
    bench.finish("two")
    assert bench.cycle["status"] == "success"
    assert bench.cycle["counts"] == {"one": {"success": 1}, "two": {"success": 1}}


@pytest.mark.parametrize(
    ("count", "made", "status"), [(1000, 1001, "in-progress"), (1001, 1, "failed"), (0, 1, "success")]
)
def test_lists_fan_out(bench, count, made, status):
    one = function("one", [port("x")], [port("items", "Item[]")])
    two = function("two", [port("item", "Item")], [])
    bench.install([one, two], [connect(one, two)])
    bench.begin()
    bench.finish("one", [f"{number:024x}" for number in range(count)])
    assert len(bench.executed()) == made and bench.cycle["status"] == status
    if count == 1000:
        assert bench.inputs("two")[999] == {"item": {"item_id": f"{999:024x}"}}
        bench.finish("two")
        assert bench.cycle["counts"]["two"] == {"in-progress": 999, "success": 1}


def test_a_list_stays_together_for_an_input_of_lists(bench):
    one = function("one", [], [port("items", "Item[]"), port("item", "Item")])
    two = function("two", [port("items", "Item[]")], [])
    bench.install([one, two], [connect(one, two), connect(one, two, output=1)])
    bench.begin()
    bench.finish("one", [["a", "b"], "c"])
    expected = [[{"item_id": "a"}, {"item_id": "b"}], [{"item_id": "c"}]]
    assert bench.inputs("two") == [{"items": each} for each in expected]


@pytest.mark.parametrize("output", [["m", {"a": 1}], {"model": "m", "config": {"a": 1}}])
def test_several_results(bench, output):
    one = function("one", [], [port("model", "Model"), port("config")])
    two = function("two", [port("base", "Model"), port("settings")], [])
    bench.install([one, two], [connect(one, two), connect(one, two, 1, 1)])
    bench.begin()
    bench.finish("one", output)
    assert bench.inputs("two") == [{"base": {"model_id": "m"}, "settings": {"a": 1}}]


def test_a_null_takes_the_default(bench):
    one = function("one", [port("x")], [port("out")])
    two = function("two", [port("y", defaultValue=7)], [port("end")])
    bench.install([one, two], [connect(one, two)])
    bench.begin()
    bench.finish("one", None)
    assert bench.inputs("two") == [{"y": 7}]


def test_a_null_without_default_fails_the_cycle(bench, line):
    bench.begin()
    bench.finish("one", None)
    assert bench.cycle["status"] == "failed" and bench.statuses == {"one": "success", "two": "pending"}
    assert "returned nothing for 'y'" in bench.cycle["errors"][0]
    bench.do(lambda store: engine.rerun(store, bench.pipeline, bench.cycle, engine.FROM_FAILED, []))
    assert bench.cycle["status"] == "in-progress" and len(bench.executed()) == 1
    bench.finish("one", 3)
    bench.finish("two")
    assert bench.cycle["status"] == "success" and bench.inputs("two") == [{"y": 3}]


def test_variables_and_defaults_fill_inputs(bench):
    ports = [port("a"), port("b", variableName="v"), port("c", defaultValue=3)]
    one = function("one", [*ports, port("m", "Model", variableName="w")], [])
    variables = [{"name": "v", "type": "Json", "value": {"k": 1}}]
    variables += [{"name": "w", "type": "Model", "value": "id"}]
    bench.install([one], [], variables=variables)
    bench.begin({"c": 4, "more": 5})
    assert bench.inputs("one") == [{"b": {"k": 1}, "c": 4, "m": {"model_id": "id"}, "more": 5}]


def test_actions_choose_the_way(bench):
    one = function("one", [], [port("out", actions=["left", "right"])])
    left, right = (function(name, [port("x")], []) for name in ("left", "right"))
    always = function("always", [port("x")], [])
    ways = [connect(one, left, action="left"), connect(one, right, action="right"), connect(one, always)]
    bench.install([one, left, right, always], ways)
    bench.begin()
    bench.finish("one", 1, action="right")
    running = {"right": "in-progress", "always": "in-progress"}
    assert bench.statuses == {"one": "success", "left": "pending"} | running


def test_several_inputs_wait_for_each_other(bench):
    root = function("root", [], [port("a"), port("b")])
    slow, fast = (function(name, [port("x")], [port("out")]) for name in ("slow", "fast"))
    both = function("both", [port("left"), port("right")], [])
    ways = [connect(root, slow), connect(root, fast, 1), connect(slow, both), connect(fast, both, 0, 1)]
    bench.install([root, slow, fast, both], ways)
    bench.begin()
    bench.finish("root", [1, 2])
    bench.finish("fast", "f")
    assert bench.inputs("both") == [] and bench.cycle["status"] == "in-progress"
    bench.finish("slow", "s")
    assert bench.inputs("both") == [{"left": "s", "right": "f"}]
    bench.finish("both")
    assert bench.cycle["status"] == "success"


def test_a_join_in_a_loop_pairs_in_turn(bench):
    """The fast side comes twice before the slow side has come once."""
    root = function("root", [], [port("a")])
    fast = function("fast", [port("x")], [port("out", actions=["again", "on"])])
    slow = function("slow", [port("x")], [port("out")])
    both = function("both", [port("left"), port("right")], [])
    ways = [connect(root, fast), connect(root, slow), connect(fast, fast, action="again")]
    ways += [connect(fast, both), connect(slow, both, 0, 1)]
    bench.install([root, fast, slow, both], ways)
    bench.begin()
    bench.finish("root", 0)
    bench.finish("fast", "f1", action="again")
    bench.finish("fast", "f2", action="on")
    assert bench.inputs("both") == []
    bench.finish("slow", "s1")
    assert bench.inputs("both") == [{"left": "f1", "right": "s1"}]
    bench.finish("both")
    assert bench.cycle["status"] == "success", "what found no partner keeps no cycle open"


def test_one_failure_fails_the_cycle_while_others_run(bench):
    one = function("one", [], [port("many", "Item[]")])
    two = function("two", [port("item", "Item")], [])
    bench.install([one, two], [connect(one, two)])
    bench.begin()
    bench.finish("one", ["a", "b"])
    bench.finish("two", status="failed", message="no")
    assert bench.cycle["status"] == "failed" and bench.statuses["two"] == "failed"
    bench.finish("two")
    assert bench.cycle["status"] == "failed"
    failed = next(each for each in bench.executed("two") if each["latestStatus"]["status"] == "failed")
    execution = bench.store.get("executions", failed["id"])
    bench.do(lambda store: executions.restart(store, execution))
    assert bench.cycle["status"] == "in-progress"
    assert bench.cycle["counts"]["two"] == {"success": 1, "in-progress": 1}
    execution = bench.store.get("executions", failed["id"])
    bench.do(lambda store: executions.start(store, execution))
    bench.do(lambda store: executions.restart(store, execution))
    bench.finish("two")
    assert bench.cycle["status"] == "success" and bench.cycle["counts"]["two"] == {"success": 2}


def test_rerun_ends_what_is_under_way(bench, line):
    bench.begin({"x": 1})
    bench.finish("one", 5)
    bench.do(lambda store: engine.rerun(store, bench.pipeline, bench.cycle, engine.FROM_BEGINNING, []))
    assert [each["latestStatus"]["status"] for each in bench.executed("two")] == ["terminated"]
    assert bench.statuses == {"one": "in-progress", "two": "pending"}
    bench.finish("one", 6)
    bench.finish("two")
    assert bench.cycle["status"] == "success" and bench.inputs("two") == [{"y": 5}, {"y": 6}]


def test_terminate(bench, line):
    bench.begin()
    bench.do(lambda store: engine.terminate_all(store, bench.pipeline["id"]))
    assert bench.cycle["status"] == "terminated" and bench.statuses["one"] == "terminated"
    assert all(executions.ended(each) for each in bench.executed())
    with pytest.raises(ApiError, match="has no node"):
        bench.begin(node_id="nowhere")


def test_a_node_that_is_gone_ends_its_branch(bench, line):
    bench.begin()
    pipeline = bench.store.get("pipelines", bench.pipeline["id"])
    bench.do(lambda store: models.update(store, pipeline, {"nodes": [line[0]], "connections": []}, USER))
    bench.finish("one", 1)
    assert bench.cycle["status"] == "success" and bench.inputs("two") == []


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        ("Item", "a", {"item_id": "a"}),
        ("Item", {"id": "a", "name": "n"}, {"item_id": "a"}),
        ("Item", {"item_id": "a", "dataset_id": "d"}, {"item_id": "a", "dataset_id": "d"}),
        ("Item[]", ["a"], [{"item_id": "a"}]),
        ("Json", "a", "a"),
        ("Model", None, None),
    ],
)
def test_references(kind, value, expected):
    assert values.reference(kind, value) == expected


# -------------------------------------------------------------------------------------------------------- rings


@pytest.fixture
def chain(bench, store):
    """Datasets by name, and a function that installs a pipeline of dataset nodes which clones start."""
    ids = {}
    for name in "abc":
        ids[name] = bench.do(
            lambda store, name=name: datasets.create(store, name, bench.project["id"], USER)
        )["id"]

    def install(*names, condition=None, **spec):
        nodes = [
            {"id": f"{place}", "name": name, "type": "storage", "metadata": {"datasetId": ids[name]}}
            | {"inputs": [port("item", "Item")], "outputs": [port("item", "Item")]}
            for place, name in enumerate(names)
        ]
        pairs = itertools.pairwise(nodes)
        links = [connect(one, two, **({"condition": condition} if condition else {})) for one, two in pairs]
        trigger = {
            "type": "Event",
            "spec": {"actions": ["Created", "Clone"], "executionMode": "Always"} | spec,
        }
        start = {"nodeId": "0", "type": "root", "trigger": trigger}
        body = {"name": "".join(names), "projectId": bench.project["id"], "startNodes": [start]}

        def both(store):
            pipeline = models.create(store, body | {"nodes": nodes, "connections": links}, USER)
            lifecycle.install(store, pipeline, USER, None)

        bench.do(both)

    def upload(name):
        item = bench.do(lambda store: items.add_bytes(store, ids[name], "/x.png", b"x", USER))
        bench.do(lambda store: store.emit("Item", "Created", item["id"], dataset=ids[name]))
        return [store.count("items", datasetId=each, type="file") for each in ids.values()]

    return SimpleNamespace(install=install, upload=upload)


@pytest.mark.parametrize("condition", [{}, {"$and": [{"hidden": False}, {"type": "file"}]}])
@pytest.mark.parametrize(
    "rings", [["aba"], ["ab", "ba"], ["ab", "bca"], ["ab", "bc", "ca"], ["abab"], ["abca"]]
)
def test_a_ring_of_datasets_is_not_installed(chain, rings, condition):
    for names in rings[:-1]:
        chain.install(*names)
    with pytest.raises(ApiError, match="would clone each item for ever"):
        chain.install(*rings[-1], filter=condition)


@pytest.mark.parametrize("lines", [["ab", "bc", "ac"], ["abc"], ["aab"]])
def test_what_is_no_ring_is_installed(chain, lines):
    for names in lines:
        chain.install(*names)
    assert sum(chain.upload("a")) < 10


def test_a_ring_that_is_there_already_keeps_up_no_other_pipeline(chain, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(validation, "check_rings", lambda store, pipeline: None)
        chain.install("a", "b")
        chain.install("b", "a")
    chain.install("c")
    with pytest.raises(ApiError, match=r"the pipelines \['ab', 'ba'\] would clone each item for ever"):
        chain.install("c", "a")


def test_a_ring_that_could_end_does_so(chain):
    """Its filters let everything pass, which nobody can know when it is installed."""
    chain.install("a", "b", condition='{"name": {"$ne": "y"}}')
    chain.install("b", "a", filter={"name": {"$ne": "y"}})
    assert 40 < sum(chain.upload("a")) <= 60
