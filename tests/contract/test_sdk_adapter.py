"""The local flow of a model adapter: train, predict, evaluate, in this process, with the real SDK."""

import importlib.util

import pytest
from helpers_contract import install
from helpers_execution import APPS


@pytest.fixture
def adapter_class(dl):
    """The adapter of the published app, here in this process."""
    spec = importlib.util.spec_from_file_location("brightness", APPS / "brightness" / "main.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.Brightness


def subset(name):
    conditions = [
        {"hidden": False},
        {"$or": [{"metadata": {"system": {"tags": {name: True}}}}]},
        {"type": "file"},
    ]
    return {"filter": {"$and": conditions}}


def test_train_predict_evaluate(dl, project, labelled, adapter_class, tmp_path, monkeypatch):
    work = tmp_path / "home" / "work"
    work.mkdir(parents=True)
    monkeypatch.chdir(work)
    app = install(dl, project)
    base = project.models.get(model_name="tiny-base")
    model = base.clone(
        "tiny-tuned",
        dataset=labelled,
        train_filter=dl.Filters(custom_filter=subset("train")),
        validation_filter=dl.Filters(custom_filter=subset("validation")),
    )
    assert model.app["id"] == app.id and model.status == "pre-trained"
    adapter = adapter_class(model_entity=model)

    trained = adapter.train_model(model)
    assert trained.status == "trained"
    assert adapter.trained_on == ["10", "20", "200", "210"]
    stored = dl.models.get(model_id=model.id)
    statuses = [entry["status"] for entry in stored.status_logs]
    assert statuses == ["cloning", "pre-trained", "training", "trained"]
    assert len(stored.model_artifacts) == 1

    fresh = adapter_class(model_entity=stored)
    assert fresh.threshold == 110.0
    items = list(labelled.items.list().all())
    fresh.predict_items(items)
    fresh.predict_items(items)
    for item in items:
        predicted = [each for each in item.annotations.list() if each.metadata.get("user", {}).get("model")]
        assert [each.label for each in predicted] == ["light" if int(item.name[:-4]) > 100 else "dark"]

    evaluated, _ = fresh.evaluate_model(stored, labelled, dl.Filters(custom_filter=subset("validation")))
    assert evaluated.id == model.id
    hidden = dl.Filters(field="hidden", values=True)
    hidden.add(field="dir", values="/.modelscores")
    names = sorted(item.name for item in labelled.items.list(hidden).all() if item.type == "file")
    assert names == [f"{model.id}-interpolated.json", f"{model.id}.csv"]
