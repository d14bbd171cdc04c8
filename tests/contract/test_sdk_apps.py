"""Dpks, apps, codebases, packages and their artifacts, as entities."""

import copy

import pytest
from helpers_contract import MANIFEST, fails, get_json, install, not_found, refused, send

RICH = {
    **MANIFEST,
    "description": "what it does",
    "attributes": {"Category": "Model"},
    "tags": ["small"],
    "components": {
        **MANIFEST["components"],
        "pipelineNodes": [{"displayName": "Run", "scope": "project", "invoke": {"namespace": "s.a.run"}}],
        "panels": [{"name": "view", "supportedSlots": [{"type": "itemViewer", "configuration": {}}]}],
        "toolbars": [{"displayName": "Open", "invoke": {"type": "panel", "panel": "view"}}],
        "channels": [{"name": "news", "icon": "bell"}],
        "computeConfigs": [{"name": "small", "runtime": {"podType": "regular-xs"}}],
    },
}


def publish(dl, project, **changes):
    manifest = copy.deepcopy({**RICH, "name": f"rich-{project.id}", **changes})
    return project.dpks.publish(dpk=dl.Dpk.from_json(manifest, client_api=dl.client_api, project=project))


# ------------------------------------------------------------------------------------------------------- dpks


def test_a_published_dpk_keeps_its_manifest(dl, project):
    dpk = publish(dl, project)
    assert dpk.to_json() == get_json(dl, f"/app-registry/{dpk.id}")
    for part in ("pipelineNodes", "panels", "toolbars", "channels", "computeConfigs", "models"):
        given = RICH["components"][part]
        stored = dl.dpks.get(dpk_id=dpk.id).to_json()["components"][part]
        assert all(one.items() <= other.items() for one, other in zip(given, stored, strict=True)), part
    read = project.dpks.get(dpk_name=dpk.name)
    assert (read.id, read.base_id, read.version) == (dpk.id, dpk.id, "1.0.0")
    for field in ("description", "attributes", "tags"):
        assert getattr(read, field) == RICH[field]
    assert read.context["project"] == project.id and read.creator


def test_revisions_of_a_dpk(dl, project):
    dpk = publish(dl, project)
    assert publish(dl, project).version == "1.0.1"  # what is there counts up
    dpk.version = "1.1.0"
    second = dpk.publish()
    third = publish(dl, project, version=None)
    assert third.version == "1.1.1" and {each.base_id for each in (second, third)} == {dpk.base_id}
    versions = ["1.1.1", "1.1.0", "1.0.1", "1.0.0"]
    assert [each.version for each in third.revisions.all()] == versions
    assert third.get_revisions("1.0.0").id == third.base_id
    assert dl.dpks.get_revisions(dpk_id=dpk.base_id, version="1.1.0").id == second.id
    assert dl.dpks.get(dpk_name=dpk.name, dpk_version="1.1.0").id == second.id
    assert [each.version for each in project.dpks.list().all()] == ["1.1.1"]
    fails(dl.exceptions.NotFound, "'9.9.9'", third.get_revisions, "9.9.9")
    fails(dl.exceptions.NotFound, r"version: 9\.9\.9", dl.dpks.get, dpk_name=dpk.name, dpk_version="9.9.9")
    app = project.apps.install(dpk=second)
    assert third.delete() and dl.dpks.get(dpk_name=dpk.name).id == second.id
    fails(dl.exceptions.BadRequest, "uninstall that first", second.delete)
    assert dl.dpks.get_revisions(dpk_id=dpk.base_id, version="1.0.0").delete()
    assert [each.version for each in second.revisions.all()] == ["1.1.0", "1.0.1"]
    app.uninstall()
    for revision in list(second.revisions.all()):
        revision.delete()
    not_found(dl, lambda: dl.dpks.get(dpk_name=dpk.name))


def test_dpks_are_listed_by_their_fields(dl, project):
    dpk = publish(dl, project)
    publish(dl, project, name=f"poor-{project.id}", attributes={"Category": "Other"})

    def names(field, values):
        filters = dl.Filters(resource=dl.FiltersResource.DPK, field=field, values=values)
        return [each.name for each in project.dpks.list(filters=filters).all()]

    assert names("attributes.Category", "Model") == [dpk.name]
    assert names("name", f"poor-{project.id}") == [f"poor-{project.id}"]
    assert names("components.panels.name", "view") == [f"poor-{project.id}", dpk.name]
    assert names("context.project", "elsewhere") == []


def test_a_dpk_is_updated_and_deleted(dl, project):
    dpk = publish(dl, project)
    dpk.display_name, dpk.version, dpk.scope = "Better", "7.0.0", "public"
    updated = dpk.update()
    assert (updated.display_name, updated.version, updated.id) == ("Better", "1.0.0", dpk.id)
    assert updated.scope == "project"
    app = project.apps.install(dpk=updated)
    fails(dl.exceptions.BadRequest, "uninstall that first", dpk.delete)
    app.uninstall()
    assert dpk.delete()
    not_found(dl, lambda: dl.dpks.get(dpk_id=dpk.id), lambda: dl.dpks.get(dpk_name=dpk.name), dpk.delete)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": ""}, "'name' must be a non-empty string"),
        ({"name": "../up"}, "a dpk's name has letters"),
        ({"version": "first"}, "MAJOR.MINOR.PATCH"),
        ({"components": {"channels": "news"}}, "'components.channels' must be a list"),
        ({"dependencies": [{"version": "1.0.0"}]}, "'name' must be a non-empty string"),
    ],
)
def test_a_wrong_manifest_is_not_published(dl, project, changes, message):
    body = {**RICH, "name": f"rich-{project.id}", "context": {"project": project.id}, **changes}
    refused(dl, "post", "/app-registry", body, message)
    assert project.dpks.list().items_count == 0


def test_init_publish_pull(dl, project, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    dl.dpks.init(name=f"new-{project.id}", description="mine")
    (tmp_path / "main.py").write_text("first = 1\n")
    dpk = project.dpks.publish()
    assert dpk.scope == "organization" and dpk.description == "mine"
    (tmp_path / "main.py").write_text("second = 2\n")
    later = project.dpks.publish()
    assert (dpk.version, later.version) == ("1.0.0", "1.0.1")
    assert dpk.codebase.item_id != later.codebase.item_id
    for one, text in ((dpk, "first = 1\n"), (later, "second = 2\n")):
        folder = tmp_path / one.version
        one.pull(local_path=str(folder))
        assert (folder / "main.py").read_text() == text and (folder / "dataloop.json").exists()
    assert later.codebase.type == "item"


# ------------------------------------------------------------------------------------------------------- apps


def test_an_app_is_read_changed_and_uninstalled(dl, project):
    dpk = publish(dl, project)
    app = project.apps.install(dpk=dpk, app_name="mine", custom_installation={"note": 1})
    assert app.to_json() == get_json(dl, f"/apps/{app.id}")
    assert (app.status, app.dpk_name, app.dpk_version) == ("Installed", dpk.name, "1.0.0")
    assert app.dpk.to_json()["components"]["channels"] == RICH["components"]["channels"]
    assert app.custom_installation == {"note": 1}
    assert project.apps.get(app_name="mine").id == app.id
    assert [each.id for each in dpk.apps.list().all()] == [app.id]
    assert [each.name for each in app.models.list().all()] == ["tiny-base"]
    app.name, app.settings = "renamed", {"colour": "red"}
    assert app.update()
    read = dl.apps.get(app_id=app.id)
    assert (read.name, read.settings) == ("renamed", {"colour": "red"})
    assert app.uninstall()
    not_found(
        dl,
        lambda: dl.apps.get(app_id=app.id),
        lambda: project.apps.get(app_name="renamed"),
        lambda: dl.apps.uninstall(app_id=app.id),
    )
    assert project.apps.list().items_count == 0


def test_a_dpk_is_installed_once_in_a_project(dl, project):
    dpk = publish(dl, project)
    app = project.apps.install(dpk=dpk)
    with pytest.raises(dl.exceptions.BadRequest, match="installed in this project already"):
        project.apps.install(dpk=dpk, app_name="again")
    other = dl.projects.create(f"{project.name}-other")
    assert other.apps.install(dpk=dpk).id != app.id
    app.uninstall()
    assert project.apps.install(dpk=dpk).status == "Installed"
    assert project.models.list().items_count == 1


def test_what_an_app_has_made_is_its_composition(dl, project):
    app = project.apps.install(dpk=publish(dl, project))
    composition = app.compositions.get(composition_id=app.composition_id)
    (model,) = project.models.list().all()
    assert [each["modelId"] for each in composition["models"]] == [model.id]
    assert (composition["status"], composition["tasks"]) == ("Installed", [])
    filters = dl.Filters(resource=dl.FiltersResource.COMPOSITION)
    filters.add("id", [app.composition_id], operator="in")
    assert project.pipelines._list(filters)["items"] == [composition]


def test_two_apps_may_bring_models_of_one_name(dl, project, tmp_path):
    for name in ("one", "two"):
        project.apps.install(dpk=publish(dl, project, name=f"{name}-{project.id}"))
    models = list(project.models.list().all())
    assert [each.name for each in models] == ["tiny-base", "tiny-base"]
    (tmp_path / "weights").write_text("w")
    models[0].artifacts.upload(filepath=str(tmp_path / "weights"))
    models[1].delete()
    assert [each.name for each in models[0].artifacts.list()] == ["weights"]
    fails(dl.exceptions.BadRequest, "exists in project", models[0].clone, model_name="tiny-base")


def test_models_follow_the_version_of_their_app(dl, project):
    dpk = publish(dl, project)
    app = project.apps.install(dpk=dpk)
    (model,) = project.models.list().all()
    assert model.app.items() >= {"id": app.id, "dpkId": dpk.base_id, "dpkVersion": "1.0.0"}.items()
    assert model.app["dpkName"] == dpk.name and model.package.version == "1.0.0"
    model.name = "renamed"
    model.update()
    second_model = {**RICH["components"]["models"][0], "name": "tiny-large"}
    components = {**RICH["components"], "models": [*RICH["components"]["models"], second_model]}
    newer = publish(dl, project, version="2.0.0", components=components)
    assert project.models.list().items_count == 1
    app.dpk_version = "2.0.0"
    assert app.update()
    read = dl.apps.get(app_id=app.id)
    assert (read.dpk_version, read.dpk.version, read.dpk.id) == ("2.0.0", "2.0.0", newer.id)
    models = {each.name: each for each in project.models.list().all()}
    assert sorted(models) == ["renamed", "tiny-large"]
    for each in models.values():
        assert each.app["dpkVersion"] == "2.0.0" and each.app["id"] == app.id
        assert each.package.version == "2.0.0" and each.package_id == newer.id
    newest = publish(dl, project, version="2.0.1")
    app.dpk_version = "latest"
    assert app.update()
    assert dl.apps.get(app_id=app.id).dpk_version == newest.version
    app.dpk_version = "3.0.0"
    fails(dl.exceptions.NotFound, r"version '3\.0\.0'", app.update)
    assert dl.apps.get(app_id=app.id).dpk_version == "2.0.1"


def test_a_custom_installation_chooses_components(dl, project):
    dpk = publish(dl, project)
    app = project.apps.install(dpk=dpk, custom_installation={"components": {"models": []}})
    assert project.models.list().items_count == 0
    assert app.custom_installation == {"components": {"models": []}}
    app.custom_installation = {"components": {"models": RICH["components"]["models"]}}
    assert app.update()
    assert [each.name for each in project.models.list().all()] == ["tiny-base"]
    app.custom_installation = {"components": {"models": "all"}}
    fails(dl.exceptions.BadRequest, r"'components\.models' must be a list", app.update)


def test_an_app_is_paused_and_resumed(dl, project):
    app = project.apps.install(dpk=publish(dl, project))
    fails(dl.exceptions.BadRequest, "already active", app.resume)
    assert app.pause()
    assert dl.apps.get(app_id=app.id).status == "Uninstalled"
    fails(dl.exceptions.BadRequest, "already inactive", dl.apps.pause, app_id=app.id)
    assert dl.apps.resume(app_id=app.id)
    assert dl.apps.get(app_id=app.id).status == "Installed"


def test_dependencies_are_installed_first(dl, project):
    below = publish(dl, project, name=f"below-{project.id}", components={})
    above = publish(dl, project, dependencies=[{"name": below.name}, {"name": "nice", "mandatory": False}])
    project.apps.install(dpk=above)
    assert [each.dpk_name for each in project.apps.list().all()] == [above.name, below.name]
    changes = {"dependencies": [{"name": "nowhere"}], "components": {}}
    lonely = publish(dl, project, name=f"lonely-{project.id}", **changes)
    fails(dl.exceptions.FailedDependency, "depends on 'nowhere'", project.apps.install, dpk=lonely)
    assert project.apps.list().items_count == 2


def test_apps_are_listed_by_their_fields(dl, project):
    app = project.apps.install(dpk=publish(dl, project), app_name="mine")

    def ids(field, values):
        filters = dl.Filters(resource=dl.FiltersResource.APP, field=field, values=values)
        return [each.id for each in project.apps.list(filters=filters).all()]

    assert ids("dpkName", app.dpk_name) == ids("name", "mine") == ids("status", "Installed") == [app.id]
    assert ids("name", "other") == []
    not_found(dl, lambda: project.apps.get(app_name="other"))


# -------------------------------------------------------------------------------------------------- codebases


def test_codebases_are_packed_in_versions(dl, project, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code = tmp_path / "code"
    code.mkdir()
    (code / "main.py").write_text("one")
    first = project.codebases.pack(directory=str(code), name="mine", description="the first")
    assert first.item.filename == "/codebases/mine/0.zip"
    assert (first.version, first.description) == ("0", "the first") and first.md5
    assert project.codebases.pack(directory=str(code), name="mine").item_id == first.item_id
    (code / "main.py").write_text("two")
    second = project.codebases.pack(directory=str(code), name="mine")
    assert project.codebases.get(codebase_name="mine").item_id == second.item_id
    assert project.codebases.get(codebase_name="mine", version="0").item_id == first.item_id
    assert project.codebases.get(codebase_id=first.item_id).item_id == first.item_id
    assert len(project.codebases.get(codebase_name="mine", version="all")) == 2
    assert project.codebases.list_versions("mine").items_count == first.list_versions().items_count == 2
    assert [each.name for each in project.codebases.list().all()] == ["mine"]
    project.codebases.unpack(codebase_name="mine", version="0", local_path=str(tmp_path / "old"))
    assert (tmp_path / "old" / "main.py").read_text() == "one"
    get = project.codebases.get
    not_found(dl, lambda: get(codebase_name="other"), lambda: get(codebase_name="mine", version="9"))


# --------------------------------------------------------------------------------------------------- packages


@pytest.fixture
def push(dl, project, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "source"
    folder.mkdir()
    module = dl.PackageModule(
        name="default_module",
        class_name="ServiceRunner",
        entry_point="main.py",
        functions=[dl.PackageFunction(name="run", inputs=[dl.FunctionIO(name="item", type="Item")])],
    )
    code = "import dtlpy as dl\n\n\nclass ServiceRunner(dl.BaseServiceRunner):\n    def run(self, item):\n"

    def push(text="return item", **options):
        (folder / "main.py").write_text(f"{code}        {text}\n")
        options = {"package_name": "mine", "src_path": str(folder), "modules": [module]} | options
        return project.packages.push(**options)

    return push


def test_a_package_is_pushed_read_and_deleted(dl, project, push):
    package = push(requirements=[dl.PackageRequirement(name="numpy", version="1.0", operator=">=")])
    assert package.to_json() == get_json(dl, f"/packages/{package.id}")
    assert (package.version, package.type, package.project_id) == ("1.0.0", "faas", project.id)
    assert package.modules[0].functions[0].inputs[0].type == "Item"
    assert package.requirements[0].name == "numpy"
    assert project.packages.get(package_name="mine").id == dl.packages.get(package_id=package.id).id
    assert [each.name for each in project.packages.list().all()] == ["mine"]
    assert package.delete()
    get = project.packages.get
    not_found(dl, lambda: get(package_id=package.id), lambda: get(package_name="mine"))


def test_each_push_is_a_revision(dl, project, push, tmp_path):
    versions = [
        push().version,
        push("return None").version,
        push("return 1", revision_increment="minor").version,
        push("return 2", version="2.0.0").version,
    ]
    assert versions == ["1.0.0", "1.0.1", "1.1.1", "2.0.0"]
    package = project.packages.get(package_name="mine")
    assert [each["version"] for each in package.revisions] == versions[::-1]
    project.packages.pull(package, version="1.0.1", local_path=str(tmp_path / "old"))
    assert "return None" in (tmp_path / "old" / "main.py").read_text()
    project.packages.pull(package, local_path=str(tmp_path / "new"))
    assert "return 2" in (tmp_path / "new" / "main.py").read_text()
    fails(dl.exceptions.BadRequest, r"has a version '1\.0\.0' already", push, "return 3", version="1.0.0")
    assert project.packages.get(package_name="mine").version == "2.0.0"


def test_wrong_packages_are_refused(dl, project, push):
    for name in ("no spaces!", "1package", "my_package", "-package", "package-", "Package", "p" * 36):
        fails(dl.exceptions.BadRequest, "a package's name has small letters", push, package_name=name)
    body = {"name": "my-package-1", "projectId": project.id}
    refused(dl, "post", "/packages", body | {"modules": "main"}, "'modules' of a package must be a list")
    twice = [{"name": "item", "type": "Item"}] * 2
    for side in ("input", "output"):
        modules = [{"name": "m", "functions": [{"name": "run", side: twice}]}]
        refused(dl, "post", "/packages", body | {"modules": modules}, "must be different", status=409)
    assert project.packages.list().items_count == 0


def test_artifacts_of_a_package(dl, project, push, tmp_path):
    package = push()
    for name in ("a.txt", "b.txt"):
        (tmp_path / name).write_text(name)
        package.artifacts.upload(filepath=str(tmp_path / name))
    assert sorted(each.name for each in package.artifacts.list()) == ["a.txt", "b.txt"]
    assert len(project.artifacts.list(package_name="mine")) == 2
    artifact = package.artifacts.get(artifact_name="a.txt")
    assert artifact.filename == "/artifacts/packages/mine/a.txt"
    assert project.artifacts.get(artifact_id=artifact.id).name == "a.txt"
    package.artifacts.download(local_path=str(tmp_path / "down"))
    assert {path.read_text() for path in (tmp_path / "down").rglob("*.txt")} == {"a.txt", "b.txt"}
    not_found(dl, lambda: package.artifacts.get(artifact_name="c.txt"))
    package.artifacts.delete(artifact_name="a.txt")
    assert [each.name for each in package.artifacts.list()] == ["b.txt"]
    package.artifacts.delete()
    assert package.artifacts.list() == []


def test_a_model_without_an_app_finds_its_package(dl, project, push):
    package = push()
    body = {"name": "lone", "projectId": project.id, "packageId": package.id, "moduleName": "default_module"}
    made = send(dl, "post", "/ml/models", body)
    assert dl.models.get(model_id=made["id"]).package.id == package.id
    install(dl, project)
    assert [each.name for each in package.models.list().all()] == ["lone"]
    assert made["app"] is None
