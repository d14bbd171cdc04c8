"""model.train(), evaluate(), predict(), embed() and deploy() through the real SDK, in worker processes."""

import itertools
import json
import os

import pytest
from helpers_contract import MISSING, fails, not_found, tagged
from helpers_execution import ended, publish, statuses, succeeded

_numbers = itertools.count(1)


@pytest.fixture
def app(project, tmp_path):
    dpk = publish(project, "brightness", tmp_path, name=f"brightness-{os.getpid()}-{next(_numbers)}")
    return project.apps.install(dpk=dpk)


@pytest.fixture
def model(dl, project, app, labelled):
    """The app's model, with the labelled dataset and its subsets."""
    base = project.models.get(model_name="brightness")
    return base.clone(
        model_name="mine",
        dataset=labelled,
        train_filter=tagged(dl, "train"),
        validation_filter=tagged(dl, "validation"),
        labels=["dark", "light"],
        status="created",
    )


def log_of_statuses(model):
    return [entry["status"] for entry in model.status_logs]


def fresh(dl, model):
    return dl.models.get(model_id=model.id)


def test_a_model_is_trained_deployed_and_evaluated(dl, project, model, labelled, app):
    training = model.train()
    assert training.function_name == "train_model" and training.input == {"model": {"model_id": model.id}}
    service = dl.services.get(service_id=training.service_id)
    assert service.metadata["ml"] == {"modelId": model.id, "modelOperation": "train"}
    assert service.runtime.pod_type == "regular-m" and service.execution_timeout == 600
    assert service.app["id"] == app.id
    training = succeeded(dl, training)
    assert training.output == model.id and training.model["modelId"] == model.id
    percents = [entry["percentComplete"] for entry in training.status_log]
    assert percents == sorted(percents) and {25, 50, 75, 100} <= set(percents)
    trained = fresh(dl, model)
    assert trained.status == "trained"
    assert log_of_statuses(trained)[-3:] == ["pending", "training", "trained"]
    assert len(trained.model_artifacts) == 1
    assert "the threshold is 110.0" in "\n".join(trained.log(view=False, model_operation="train"))

    service = trained.deploy()
    deployed = fresh(dl, model)
    assert deployed.status == "deployed" and deployed.metadata["system"]["deploy"]["services"] == [service.id]
    assert service.metadata["ml"] == {"modelId": model.id, "modelOperation": "deploy"}
    assert [each.id for each in deployed.services.list().all() if each.id == service.id] == [service.id]
    assert deployed.deploy().id == service.id
    assert fresh(dl, model).metadata["system"]["deploy"]["services"] == [service.id]

    items = sorted(labelled.items.list().all(), key=lambda item: int(item.name.split(".")[0]))
    predicting = succeeded(dl, deployed.predict(item_ids=[items[0].id, items[-1].id]))
    assert predicting.function_name == "predict_items" and predicting.service_id == service.id
    assert predicting.output[0] == [items[0].id, items[-1].id] and len(predicting.output[1]) == 2
    assert predicted_labels(items[-1], model) == ["light"]
    thirty = dl.Filters(field="name", values="30.png")
    predicting = succeeded(dl, dl.models.predict(deployed, dataset_id=labelled.id, filters=thirty))
    assert predicting.function_name == "predict_dataset"
    assert predicted_labels(items[2], model) == ["dark"] and predicted_labels(items[1], model) == []

    for _ in range(2):
        evaluating = deployed.evaluate(dataset_id=labelled.id, filters=tagged(dl, "validation"))
        assert evaluating.function_name == "evaluate_model"
        evaluating = succeeded(dl, evaluating)
    assert evaluating.output == [model.id, labelled.id]
    evaluated = fresh(dl, model)
    assert evaluated.status == "deployed"
    assert evaluated.metadata["system"]["evaluate"]["datasets"] == [labelled.id]
    scores = dl.Filters(field="hidden", values=True, use_defaults=False)
    scores.add(field="dir", values="/.modelscores")
    names = {item.name for item in labelled.items.list(scores).all()}
    assert {f"{model.id}.csv", f"{model.id}-interpolated.json"} <= names

    assert service.delete() is True
    back = fresh(dl, model)
    assert back.status == "trained" and back.metadata["system"]["deploy"]["services"] == []
    fails(ValueError, "associated services", back.predict, item_ids=[items[0].id])


def predicted_labels(item, model):
    found = [each for each in item.annotations.list() if each.metadata.get("user", {}).get("model")]
    assert all(each.metadata["user"]["model"]["model_id"] == model.id for each in found)
    return [each.label for each in found]


def test_a_training_that_fails(dl, model):
    model.configuration["broken"] = True
    model.update()
    training = ended(dl, model.train())
    assert training.latest_status["status"] == "failed"
    assert training.latest_status["message"] == "RuntimeError: the data cannot be read"
    failed = fresh(dl, model)
    assert failed.status == "failed"
    assert log_of_statuses(failed)[-3:] == ["pending", "training", "failed"]
    assert failed.status_logs[-1]["message"] == "RuntimeError: the data cannot be read"
    copy = failed.clone(model_name="another")
    assert copy.status == "pre-trained"
    failed.configuration["broken"] = False
    failed.update()
    assert statuses(succeeded(dl, failed.train()))[-1] == "success"
    assert fresh(dl, model).status == "trained"


def test_a_terminated_training(dl, model):
    training = model.train()
    training.terminate()
    assert fresh(dl, model).status == "failed"
    assert fresh(dl, model).status_logs[-1]["message"] == "terminated on request"


def test_what_training_needs(dl, project, app, model):
    base = project.models.get(model_name="brightness")
    fails(dl.exceptions.BadRequest, "Must provide a dataset to train model", base.train)
    assert fresh(dl, base).status == "created"
    model.labels = []
    model.update()
    fails(dl.exceptions.BadRequest, "Must provide labels to train model", model.train)
    not_found(dl, lambda: model.evaluate(dataset_id=MISSING))
    assert project.services.list().items_count == 0


def test_a_service_configuration(dl, model):
    service = model.deploy(service_config={"runtime": {"podType": "gpu-t4"}, "executionTimeout": 5})
    assert service.runtime.pod_type == "gpu-t4" and service.execution_timeout == 5
    assert service.runtime.concurrency == 1


def test_embedding(dl, project, model, labelled):
    model.deploy()
    model = fresh(dl, model)
    items = list(labelled.items.list().all())
    succeeded(dl, model.embed(item_ids=[items[0].id]))
    feature_set = fresh(dl, model).feature_set
    assert feature_set.features.list().items_count == 1
    succeeded(dl, dl.models.embed(model, dataset_id=labelled.id))
    assert feature_set.features.list().items_count >= len(items)
    command = dl.models.embed_datasets(model, [labelled.id])
    assert command.status == "success"
    with pytest.raises(dl.exceptions.NotFound, match="not emulated offline"):
        dl.models.embed_datasets(model, [labelled.id], attach_trigger=True)


def test_an_app_takes_its_services_along(dl, project, app, model):
    service = model.deploy()
    assert app.pause() is True
    assert dl.services.get(service_id=service.id).active is False
    app = project.apps.get(app_id=app.id)
    assert app.resume() is True
    assert dl.services.get(service_id=service.id).active is True
    assert app.uninstall() is True
    not_found(dl, lambda: dl.services.get(service_id=service.id))
    assert fresh(dl, model).status != "deployed"


def test_a_new_version_of_the_app_runs_its_code(dl, project, app, model, tmp_path):
    service = model.deploy()
    folder = tmp_path / "code"
    text = (folder / "main.py").read_text()
    (folder / "main.py").write_text(text.replace('"light" if', '"bright" if'))
    manifest = json.loads((folder / "dataloop.json").read_text()) | {"version": "1.0.1"}
    (folder / "dataloop.json").write_text(json.dumps(manifest))
    project.dpks.publish(manifest_filepath=str(folder / "dataloop.json"), local_path=str(folder))
    app.dpk_version = "1.0.1"
    assert app.update() is True
    assert dl.services.get(service_id=service.id).package_revision == "1.0.1"
    item = sorted(model.dataset.items.list().all(), key=lambda item: item.name)[-1]
    succeeded(dl, fresh(dl, model).predict(item_ids=[item.id]))
    assert predicted_labels(item, model) == ["bright"]
