"""Models, artifacts, metrics, dpks and apps."""

import json

import pytest
from helpers_contract import MANIFEST, MISSING, fails, install, not_found, refused, send


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
    fails(dl.exceptions.BadRequest, "installed in this project already", project.apps.install, dpk=app.dpk)
    assert project.apps.get(app_name="Tiny").id == app.id


def test_a_wrong_output_type_fails_and_leaves_nothing(dl, project):
    component = {**MANIFEST["components"]["models"][0], "outputType": "smell"}
    with pytest.raises(dl.exceptions.FailedDependency, match="error installing an app: Validation Failed"):
        install(dl, project, components={**MANIFEST["components"], "models": [component]})
    assert project.apps.list().items_count == 0 and project.models.list().items_count == 0


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


def test_more_metrics_than_a_page(dl, project, model):
    samples = [dl.PlotSample(figure="loss", legend="train", x=step, y=step / 2) for step in range(2300)]
    assert model.metrics.create(samples, dataset_id="d")
    pages = model.metrics.list()
    assert pages.items_count == 2300
    assert [sample.x for sample in pages.all()] == list(range(2300))


def made(model, name, **options):
    """Another model of the same component, made through its app."""
    app = model.project.apps.get(app_id=model.app["id"])
    return app.models.create(name, dpk_model_name="tiny-base", project_id=model.project_id, **options)


def test_create_with_everything(dl, dataset, model):
    of_box = dl.Filters(resource=dl.FiltersResource.ANNOTATION, field="label", values="x")
    created = made(
        model,
        "full",
        dataset_id=dataset.id,
        labels=["x"],
        description="all of it",
        tags=["small"],
        configuration={"epochs": 2},
        status="created",
        output_type="box",
        train_filter=dl.Filters(field="dir", values="/train"),
        annotations_validation_filter=of_box,
        model_artifacts=[dl.LinkArtifact(url="https://example.invalid/w.bin", filename="w.bin")],
    )
    read = dl.models.get(model_id=created.id)
    assert (read.status, read.description, read.tags) == ("created", "all of it", ["small"])
    assert (read.labels, read.configuration, read.output_type) == (["x"], {"epochs": 2}, "box")
    assert read.dataset.id == dataset.id and read.package.id == model.package.id
    assert [each["status"] for each in read.status_logs] == ["created"]
    system = read.metadata["system"]
    assert system["subsets"]["train"]["filter"]["$and"][-1] == {"dir": "/train"}
    assert system["annotationsSubsets"]["validation"]["resource"] == "annotations"
    assert read.model_artifacts[0].url == "https://example.invalid/w.bin"
    assert read.to_json()["context"] == model.context
    assert (read.id_to_label_map, read.label_to_id_map) == ({}, {})  # the labels of its dataset


def test_labels_come_from_an_ontology(dl, dataset, model):
    dataset.add_labels(["a", "b"])
    created = made(model, "labelled", ontology_id=dataset.ontology_ids[0])
    assert created.labels == ["a", "b"] and created.id_to_label_map == {0: "a", 1: "b"}
    assert created.status == "pre-trained" and created.app["dpkName"] == model.app["dpkName"]


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"dataset_id": MISSING}, "NotFound", "dataset not found"),
        ({"status": "asleep"}, "BadRequest", "unknown model status 'asleep'"),
        ({"model_name": "tiny-base"}, "BadRequest", "'tiny-base' exists in project"),
        ({"model_name": ""}, "BadRequest", "'name' must be a non-empty string"),
        ({"dataset_id": ["x"]}, "BadRequest", "'datasetId' of a model must be a string"),
        ({"project_id": "nowhere"}, "BadRequest", "project not found: 'nowhere'"),
    ],
)
def test_a_wrong_model_is_not_made(dl, project, model, options, error, message):
    app = project.apps.get(app_id=model.app["id"])
    options = {"model_name": "new", "dpk_model_name": "tiny-base", "project_id": project.id} | options
    fails(getattr(dl.exceptions, error), message, app.models.create, **options)
    assert project.models.list().items_count == 1


def test_models_are_found_by_their_fields(dl, project, dataset, model):
    other = made(model, "other", dataset_id=dataset.id, tags=["small"], status="created")

    def names(field, values, operator=None):
        filters = dl.Filters(resource=dl.FiltersResource.MODEL, field=field, values=values, operator=operator)
        return [each.name for each in project.models.list(filters).all()]

    assert names("name", "oth*") == names("status", "created") == names("tags", "small") == ["other"]
    assert names("datasetId", dataset.id) == names("id", other.id) == ["other"]
    both = ["other", "tiny-base"]
    assert names("name", both, "in") == names("app.dpkName", model.app["dpkName"]) == both
    assert names("packageId", model.package_id) == names("context.project", project.id) == both
    assert names("status", "created", "ne") == ["tiny-base"] and names("name", "missing") == []
    newest = dl.Filters(resource=dl.FiltersResource.MODEL)
    newest.sort_by("createdAt", dl.FiltersOrderByDirection.DESCENDING)
    assert [each.name for each in project.models.list(newest).all()] == ["other", "tiny-base"]
    assert dl.projects.create(f"{project.name}-other").models.list().items_count == 0
    for missing in ({"model_name": "missing"}, {"model_id": MISSING}):
        with pytest.raises(dl.exceptions.NotFound):
            project.models.get(**missing)


def test_the_log_of_a_model_s_status(dl, model):
    for status in ("pending", "training", "training", "failed"):
        model.status = status
        model = model.update()
    assert [each["status"] for each in model.status_logs] == ["pre-trained", "pending", "training", "failed"]
    assert all(each["timestamp"] and each["creator"] == model.creator for each in model.status_logs)


def test_subsets_are_added_and_deleted(dl, model):
    items, boxes = dl.Filters(), dl.Filters(resource=dl.FiltersResource.ANNOTATION)
    model.add_subset("test", items, boxes)
    read = dl.models.get(model_id=model.id)
    assert read.metadata["system"]["subsets"]["test"] == items.prepare()
    assert read.metadata["system"]["annotationsSubsets"]["test"] == boxes.prepare()
    read.delete_subset("test")
    system = dl.models.get(model_id=model.id).metadata["system"]
    assert system["subsets"] == system["annotationsSubsets"] == {}


def test_an_update_writes_every_field(dl, dataset, model):
    model.name, model.description, model.tags, model.labels = "new", "other", ["t"], ["q"]
    model.input_type, model.output_type, model.dataset_id = "text", "text", dataset.id
    model.configuration = {"z": 2}
    model.metadata["system"]["note"], model.metadata["mine"] = "no", "yes"
    model.update()
    read = dl.models.get(model_id=model.id)
    assert "note" not in read.metadata["system"] and read.metadata["mine"] == "yes"
    for field in ("name", "description", "tags", "labels", "input_type", "output_type", "dataset_id"):
        assert getattr(read, field) == getattr(model, field), field
    assert read.configuration == {"z": 2} and read.updated_at > model.updated_at
    read.status = "sleeping"
    fails(dl.exceptions.BadRequest, "unknown model status 'sleeping'", read.update)
    read.status, read.dataset_id = model.status, MISSING
    fails(dl.exceptions.NotFound, "dataset not found", read.update)


def upload(model, folder, *names):
    for name in names:
        (folder / name).write_text(f"{model.name} {name}")
        model.artifacts.upload(filepath=str(folder / name))
    return model


def test_artifacts_are_listed_read_and_deleted(dl, project, model, tmp_path):
    upload(model, tmp_path, "a.bin", "b.bin")
    read = dl.models.get(model_id=model.id)
    assert len(read.model_artifacts) == 2
    assert [each.name for each in read.artifacts.list()] == ["a.bin", "b.bin"]
    artifact = read.artifacts.get(artifact_name="a.bin")
    assert artifact.filename == "/artifacts/models/tiny-base/a.bin"
    assert project.artifacts.get(artifact_id=artifact.id).name == "a.bin"
    not_found(dl, lambda: read.artifacts.get(artifact_name="c.bin"))
    read.artifacts.delete(artifact_name="a.bin")
    read = dl.models.get(model_id=model.id)
    (kept,) = read.model_artifacts
    read.artifacts.download(local_path=str(tmp_path / "down"))
    assert [path.name for path in (tmp_path / "down").iterdir()] == ["b.bin"]
    assert kept.id != artifact.id


def test_a_renamed_model_keeps_its_artifacts(dl, project, dataset, model, tmp_path):
    upload(model, tmp_path, "w.bin")
    model = dl.models.get(model_id=model.id)
    artifact_id = model.model_artifacts[0].id
    model.name = "renamed"
    model = model.update()
    assert [each.id for each in model.model_artifacts] == [artifact_id]
    clone = model.clone("copy", dataset=dataset)
    assert [each.name for each in clone.artifacts.list()] == ["w.bin"]
    fails(dl.exceptions.BadRequest, "'copy' exists", model.clone, "copy", project_id=project.id)
    model.metrics.create(dl.PlotSample(figure="loss", legend="train", x=1, y=2), dataset_id="d")
    model.delete()
    not_found(dl, lambda: dl.models.get(model_id=model.id), lambda: dl.items.get(item_id=artifact_id))
    assert len(dl.models.get(model_id=clone.id).model_artifacts) == 1


@pytest.mark.parametrize("status", ["created", "pre-trained", "training", "trained", "failed", "deployed"])
def test_a_clone_of_a_model_in_any_state_is_pre_trained(dl, project, model, status):
    model.status = status
    model.configuration["epochs"] = 3
    model.metadata["system"] = {"evaluate": {"datasets": ["x"]}, "deploy": {"services": ["y"]}}
    model = model.update(system_metadata=True)
    clone = model.clone(f"of-{status}", project_id=project.id)
    assert clone.status == "pre-trained"
    assert ",".join(each["status"] for each in clone.status_logs) == "cloning,pre-trained"
    assert clone.metadata["system"].keys().isdisjoint({"evaluate", "deploy"})
    for field in ("input_type", "output_type", "configuration", "labels", "module_name", "package_id", "app"):
        assert getattr(clone, field) == getattr(model, field), field


def test_a_clone_takes_what_it_is_given_and_else_what_the_model_has(dl, project, dataset, model, tmp_path):
    dataset.add_labels(["x", "y"])
    model.add_subset("train", dl.Filters(field="dir", values="/a"))
    model.add_subset("validation", dl.Filters(field="dir", values="/b"))
    model = upload(dl.models.get(model_id=model.id), tmp_path, "w.bin")
    clone = model.clone(
        "changed",
        dataset=dl.datasets.get(dataset_id=dataset.id),
        description="other",
        tags=["t"],
        configuration={"rate": 0.1},
        train_filter=dl.Filters(field="dir", values="/c"),
        annotations_train_filter=dl.Filters(resource=dl.FiltersResource.ANNOTATION),
    )
    assert (clone.description, clone.tags, clone.labels) == ("other", ["t"], ["x", "y"])
    assert clone.configuration == {"batch_size": 4, "rate": 0.1} and clone.dataset_id == dataset.id
    subsets = clone.metadata["system"]["subsets"]
    assert subsets["train"]["filter"]["$and"][-1] == {"dir": "/c"}
    assert subsets["validation"]["filter"]["$and"][-1] == {"dir": "/b"}
    assert "train" in clone.metadata["system"]["annotationsSubsets"]
    other = dl.projects.create(f"{project.name}-other")
    away = model.clone("away", project_id=other.id, labels=["a", "b"])
    assert away.labels == ["a", "b"] and away.project_id == other.id and away.context["project"] == other.id
    assert [each.name for each in away.artifacts.list()] == ["w.bin"]
    assert away.artifacts.list()[0].id != model.artifacts.list()[0].id
    away.artifacts.download(local_path=str(tmp_path / "down"))
    assert (tmp_path / "down" / "w.bin").read_text() == "tiny-base w.bin"


def test_metrics_hold_numbers_words_and_gaps(dl, dataset, model):
    samples = [
        dl.PlotSample(figure="loss", legend="train", x=1, y=2.5),
        dl.PlotSample(figure="loss", legend="train", x=2, y=None),
        dl.PlotSample(figure="best", legend="epoch", x="last", y="NaN"),
    ]
    assert model.metrics.create(samples, dataset_id=dataset.id)
    read = [(each.figure, each.legend, each.x, each.y) for each in model.metrics.list().all()]
    assert read == [(each.figure, each.legend, each.x, each.y) for each in samples]
    filters = dl.Filters(resource=dl.FiltersResource.METRICS, field="figure", values="loss")
    assert model.metrics.list(filters).items_count == 2


@pytest.mark.parametrize(
    ("sample", "status", "message"),
    [
        ({"figure": "", "legend": "l", "data": {"x": 1, "y": 1}}, 400, "'figure' must be a non-empty string"),
        ({"figure": "f", "legend": "l", "data": {"x": 1}}, 400, "needs 'data' with 'x' and 'y'"),
        (
            {"figure": "f", "legend": "l", "data": {"x": 1, "y": 1}, "modelId": MISSING},
            404,
            "model not found",
        ),
    ],
)
def test_a_wrong_sample_is_refused_with_all_that_came_with_it(dl, model, sample, status, message):
    good = {"figure": "f", "legend": "l", "data": {"x": 1, "y": 1}, "modelId": model.id}
    body = [good, {"modelId": model.id} | sample]
    refused(dl, "post", "/ml/metrics/publish", body, message, status=status)
    assert model.metrics.list().items_count == 0


def test_remote_operations_need_data(dl, project, model):
    with pytest.raises(dl.exceptions.BadRequest, match="Must provide a dataset to train model"):
        dl.models.train(model_id=model.id)
    not_found(dl, lambda: dl.models.evaluate(model.id, MISSING))


def test_precision_and_recall_of_an_evaluation(dl, dataset, model, tmp_path):
    """The SDK's metrics package leaves these points beside the data set's items."""
    points = {"recall": [1.0, 0.5, 0.0], "precision": [0.2, 0.7, 1.0], "confidence": [0.0, 0.4, 0.9]}
    body = {"datasetId": dataset.id, "modelId": model.id, "iouThreshold": 0.3, "metric": "accuracy"}
    refused(dl, "post", "/ml/metrics/precisionRecall", body, "scores on dataset", status=404)
    path = tmp_path / f"{model.id}-interpolated.json"
    path.write_text(json.dumps({"0.3": points, "1": points}))
    dataset.items.upload(str(path), remote_path="/.modelscores", raise_on_error=True)
    answers = [
        send(dl, "post", "/ml/metrics/precisionRecall", body | {"confThreshold": least}) for least in (0, 0.4)
    ]
    assert answers[0] == points
    assert answers[1] == {"recall": [0.5, 0.0], "precision": [0.7, 1.0], "confidence": [0.4, 0.9]}
    refused(dl, "post", "/ml/metrics/precisionRecall", body | {"iouThreshold": 0.2}, "one of 0.3, 1")
