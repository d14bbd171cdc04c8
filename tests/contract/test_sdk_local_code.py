"""What the SDK does with code and pages of this machine: folders, packages, git, checkouts, and the browser."""

import json
import subprocess

import numpy as np
import pytest
from helpers_contract import annotate, fails, make_service, send

CODE = """import dtlpy as dl


class ServiceRunner(dl.BaseServiceRunner):
    def run(self, item):
        return item
"""


SLOT = {
    "moduleName": "default_module",
    "functionName": "run",
    "displayName": "Run",
    "postAction": {"type": "download"},
    "displayScopes": [],
}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "main.py").write_text(CODE)
    return tmp_path


@pytest.fixture
def package(dl, project, folder):
    item = dl.FunctionIO(name="item", type="Item")
    run = dl.PackageFunction(name="run", inputs=[item])
    module = dl.PackageModule(entry_point="main.py", class_name="ServiceRunner", functions=[run])
    return project.packages.push(package_name="mine", src_path=str(folder), modules=[module])


def test_a_generated_package_is_deployed_from_its_file(dl, project, folder):
    (folder / "main.py").unlink()
    dl.packages.generate(name="made", src_path=str(folder), service_name="made-service")
    services, package = dl.packages.deploy_from_file(project, str(folder / "package.json"))
    assert package.name == "made" and [each.name for each in services] == ["made-service"]


def test_a_package_is_built_changed_and_deployed(dl, project, package, folder):
    assert (
        type(project.packages.build(package, local_path=str(folder / "pulled"))).__name__ == "ServiceRunner"
    )
    service = project.packages.deploy(package=package, service_name="deployed")
    assert service.package_id == package.id
    assert project.packages.update(package, revision_increment="minor").version == "1.1.0"
    (folder / "service.json").write_text(json.dumps({"name": "of-a-file", "packageName": "mine"}))
    file = str(folder / "service.json")
    assert project.services.deploy_from_local_folder(service_file=file).name == "of-a-file"
    send(dl, "patch", f"/packages/{package.id}", {"slots": [SLOT]})
    service = project.services.get(service_id=service.id)
    slots = [dl.PackageSlot.from_json(SLOT)]
    (setting,) = project.services.activate_slots(service, project_id=project.id, slots=slots)
    assert setting.metadata["slots"][0]["functionName"] == "run"
    service.pause()
    execution = project.services.execute(service=service, function_name="run", project_id=project.id)
    execution = service.executions.update(execution)
    assert execution.latest_status["status"] == "created"
    execution.terminate()
    assert project.executions.get(execution_id=execution.id).latest_status["status"] == "terminated"
    service.executions.logs(execution_id=execution.id, follow=False)
    for checked_out in ("package", "service"):
        repository = getattr(project, f"{checked_out}s")
        try:
            repository.checkout(**{f"{checked_out}_name": "mine" if checked_out == "package" else "deployed"})
            assert repository.get().id in (package.id, service.id)
        finally:
            dl.client_api.state_io.put(checked_out, None)


def test_small_helpers_of_packages(dl, folder):
    (folder / "requirements.txt").write_text("# comment\nnumpy>=1.0,<3\n")
    found = dl.packages.build_requirements(str(folder / "requirements.txt"))
    assert [(each.name, each.operator, each.version) for each in found] == [
        ("numpy", ">=", "1.0"),
        ("numpy", "<", "3"),
    ]
    assert dl.packages.build_trigger_dict("Created")["spec"]["actions"] == ["Created"]
    assert dl.packages.is_multithread([[{}], [{}]]) and not dl.packages.is_multithread([{}])
    missing = []
    dl.packages.check_cls_arguments(dl.BaseServiceRunner, missing, "__init__", [])
    assert missing == []


def test_a_dpk_is_packed(dl, folder):
    (folder / "dataloop.json").write_text(json.dumps({"name": "mine", "version": "2.0.0"}))
    assert dl.dpks.pack(directory=str(folder), name="mine").endswith("mine_2.0.0.dpk")


def test_a_codebase_of_git(dl, project, folder):
    source = folder / "source"
    source.mkdir()
    git = ["git", "-C", str(source), "-c", "user.name=a", "-c", "user.email=a@example.com"]
    (source / "main.py").write_text("one\n")
    for command in (["init", "-q", "-b", "main"], ["add", "."], ["commit", "-q", "-m", "first"]):
        subprocess.run([*git, *command], check=True)
    codebase = dl.GitCodebase(git_url=str(source), git_tag="main")
    codebases = project.codebases
    copy = codebases.clone_git(codebase, local_path=str(folder / "copy"))
    (source / "main.py").write_text("two\n")
    subprocess.run([*git, "commit", "-q", "-a", "-m", "second"], check=True)
    pulled = codebases.pull_git(codebase, local_path=copy)
    assert pulled and "two" in {path.read_text().strip() for path in folder.glob("copy/**/main.py")}
    packed = codebases.pack(directory=str(folder / "source"), name="mine")
    assert codebases.get_current_version([packed], packed.md5) == (1, packed)


def test_a_pipeline_is_executed_by_its_id(dl, project, dataset, item):
    flow = project.pipelines.create(name="flow")
    flow.nodes.add(dl.DatasetNode("raw", project.id, dataset.id))
    flow = flow.update().install()
    cycle = project.pipelines.execute(pipeline_id=flow.id, execution_input={"item": item.id})
    assert flow.pipeline_executions.get(cycle.id).status == "success"


def test_collections_and_vectors(dl, project, dataset, item):
    collections = dataset.collections
    collections.validate_collection_name("night")
    collections.validate_max_collections()
    dataset.collections.create("night")
    fails(ValueError, "already exists", collections.validate_collection_name, "night")
    assert [each.id for each in collections.list_missing_collections().all()] == [item.id]
    about = {"entity_type": dl.FeatureEntityType.ITEM, "set_type": "t"}
    vectors = project.feature_sets.create("vectors", size=2, **about)
    made = vectors.features.create([0, 1], entity=item)
    assert dl.repositories.Features(dl.client_api, project).get(made.id).value == [0, 1]


def test_annotations_are_shown(dl, item):
    annotate(dl, item, dl.Box(0, 0, 4, 4, label="a"))
    shown = item.annotations.show(image=np.zeros((8, 6, 3), np.uint8), thickness=1)
    assert shown.shape[:2] == (8, 6) and shown.any()
    with pytest.raises(dl.exceptions.Forbidden):
        item.dataset.items.set_items_entity(int)
    item.dataset.items.set_items_entity(dl.Item)


def test_pages_open(dl, project, dataset, item, package, monkeypatch):
    opened = []
    monkeypatch.setattr("webbrowser.open", lambda url, **_: opened.append(url))
    task = dataset.tasks.create("label", assignee_ids=["ann@example.com"])
    service = make_service(dl, project, package.id, "a-service")
    dataset.items.open_in_web(item=item)
    dataset.recipes.open_in_web(recipe=dataset.recipes.list()[0])
    task.assignments.open_in_web(assignment=task.assignments.list()[0])
    project.packages.open_in_web(package=package)
    project.services.open_in_web(service=service)
    assert len(opened) == 5 and all(url.startswith("http://127.0.0.1") for url in opened)
    with pytest.warns(DeprecationWarning, match="readonly"):
        project.datasets.set_readonly(True, dataset)
    assert send(dl, "get", f"/datasets/{dataset.id}/items")["items"][0]["id"] == item.id
