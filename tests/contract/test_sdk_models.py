"""Models, artifacts, metrics, dpks and apps."""

import pytest
from helpers_contract import MANIFEST, install


@pytest.fixture
def model(dl, project):
    install(dl, project)
    return project.models.get(model_name="tiny-base")


def test_install_makes_the_models_of_the_manifest(dl, project, model):
    app = dl.apps.get(app_id=model.app["id"])
    assert app.status == "Installed" and app.dpk.name == f"tiny-{project.id}"
    assert model.context["project"] == project.id and model.project.name == project.name
    assert model.labels == ["dark", "light"] and model.configuration == {"batch_size": 4}
    assert model.app["componentName"] == "tiny-base" and model.app["dpkVersion"] == "1.0.0"
    with pytest.raises(dl.exceptions.BadRequest, match="installed in this project already"):
        project.apps.install(dpk=app.dpk)
    assert project.apps.get(app_name="Tiny").id == app.id


def test_a_wrong_output_type_fails_and_leaves_nothing(dl, project):
    component = {**MANIFEST["components"]["models"][0], "outputType": "smell"}
    with pytest.raises(dl.exceptions.FailedDependency, match="error installing an app: Validation Failed"):
        install(dl, project, components={**MANIFEST["components"], "models": [component]})
    assert project.apps.list().items_count == 0 and project.models.list().items_count == 0


def test_dpk_revisions(dl, project):
    install(dl, project)
    first = project.dpks.get(dpk_name=f"tiny-{project.id}")
    with pytest.raises(dl.exceptions.BadRequest, match="published already"):
        first.publish()
    newer = dl.Dpk.from_json(
        {**MANIFEST, "name": first.name, "version": "1.1.0"}, client_api=dl.client_api, project=project
    )
    second = project.dpks.publish(dpk=newer)
    assert second.base_id == first.base_id and second.id != first.id
    assert project.dpks.get(dpk_name=first.name).version == "1.1.0"
    assert project.dpks.get(dpk_name=first.name, dpk_version="1.0.0").id == first.id
    assert dl.dpks.get_revisions(dpk_id=first.base_id, version="1.0.0").id == first.id
    assert project.dpks.list().items_count == 1
    assert project.models.list().items_count == 1


def test_publish_packs_the_code(dl, project, tmp_path, monkeypatch):
    import json

    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.py").write_text("class Tiny: ...\n")
    manifest = {key: value for key, value in MANIFEST.items() if key != "codebase"} | {
        "name": f"packed-{project.id}"
    }
    (tmp_path / "dataloop.json").write_text(json.dumps(manifest))
    dpk = project.dpks.publish()
    assert dpk.codebase.type == "item"
    local = dl.dpks.pull(dpk_id=dpk.id, local_path=str(tmp_path / "pulled"))
    assert (tmp_path / "pulled" / "tiny.py").read_text() == "class Tiny: ...\n", local


def test_create(dl, project, model):
    app = project.apps.get(app_id=model.app["id"])
    made = app.models.create("made", dpk_model_name="tiny-base", project_id=project.id, output_type="class")
    assert made.status == "pre-trained" and made.app["dpkName"] == app.dpk.name
    with pytest.raises(dl.exceptions.BadRequest, match="'made' exists in project"):
        app.models.create("made", dpk_model_name="tiny-base", project_id=project.id)
    assert project.models.list().items_count == 2


def test_update(dl, project, model):
    model.configuration["epochs"] = 3
    model.metadata["system"]["note"] = "no"
    model.metadata["mine"] = "yes"
    model.update()
    read = dl.models.get(model_id=model.id)
    assert read.configuration == {"batch_size": 4, "epochs": 3}
    assert "note" not in read.metadata["system"] and read.metadata["mine"] == "yes"
    read.add_subset("train", dl.Filters(field="metadata.system.tags.train", values=True))
    assert "train" in dl.models.get(model_id=model.id).metadata["system"]["subsets"]
    read.status = "sleeping"
    with pytest.raises(dl.exceptions.BadRequest, match="unknown model status 'sleeping'"):
        read.update()


def test_clone_copies_artifacts(dl, project, dataset, model, tmp_path):
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "w.bin").write_bytes(b"weights")
    model.artifacts.upload(filepath=str(tmp_path / "weights" / "*"))
    model.metadata["system"]["evaluate"] = {"datasets": ["x"]}
    model.status = "failed"
    model = model.update(system_metadata=True)
    copy = model.clone("tiny-2", dataset=dataset, labels=["a", "b"], train_filter=dl.Filters())
    assert copy.status == "pre-trained" and copy.dataset_id == dataset.id and copy.labels == ["a", "b"]
    assert copy.input_type == "image" and copy.output_type == "class"
    assert "evaluate" not in copy.metadata["system"] and "train" in copy.metadata["system"]["subsets"]
    assert [each["status"] for each in copy.status_logs] == ["cloning", "pre-trained"]
    (artifact,) = copy.model_artifacts
    assert artifact.id != model.model_artifacts[0].id
    copy.artifacts.download(local_path=str(tmp_path / "down"))
    assert (tmp_path / "down" / "w.bin").read_bytes() == b"weights"
    with pytest.raises(dl.exceptions.BadRequest, match="'tiny-2' exists"):
        model.clone("tiny-2", project_id=project.id)


def test_models_whose_names_begin_alike_keep_their_own_weights(dl, project, dataset, model, tmp_path):
    def save(target, text):
        (tmp_path / target.name).mkdir()
        (tmp_path / target.name / "w.txt").write_text(text)
        target.artifacts.upload(filepath=str(tmp_path / target.name / "*"), overwrite=True)

    longer = model.clone("tiny-base-2", dataset=dataset)
    save(longer, "longer")
    save(model, "short")
    read = dl.models.get(model_id=model.id)
    assert len(read.model_artifacts) == 1
    read.artifacts.download(local_path=str(tmp_path / "read"), overwrite=True)
    assert (tmp_path / "read" / "w.txt").read_text() == "short"


def test_delete(dl, project, model, tmp_path):
    (tmp_path / "w.txt").write_text("x")
    model.artifacts.upload(filepath=str(tmp_path / "w.txt"))
    model.metrics.create(dl.PlotSample(figure="loss", legend="train", x=1, y=2), dataset_id="d")
    artifact_id = dl.models.get(model_id=model.id).model_artifacts[0].id
    model.delete()
    with pytest.raises(dl.exceptions.NotFound):
        dl.models.get(model_id=model.id)
    with pytest.raises(dl.exceptions.NotFound):
        dl.items.get(item_id=artifact_id)


def test_more_metrics_than_a_page(dl, project, model):
    samples = [dl.PlotSample(figure="loss", legend="train", x=step, y=step / 2) for step in range(2300)]
    assert model.metrics.create(samples, dataset_id="d")
    pages = model.metrics.list()
    assert pages.items_count == 2300
    assert [sample.x for sample in pages.all()] == list(range(2300))


def test_remote_operations_say_that_they_are_not_emulated(dl, project, model):
    for operation in (lambda: dl.models.train(model_id=model.id), lambda: dl.models.evaluate(model.id, "d")):
        with pytest.raises(dl.exceptions.NotFound, match="not emulated offline: model"):
            operation()
