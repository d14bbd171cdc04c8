"""The local flow of a model adapter: train, predict, evaluate, in this process, with the real SDK."""

import json
import pathlib

import pytest
from helpers_contract import install


@pytest.fixture
def adapter_class(dl):
    class Tiny(dl.BaseModelAdapter):
        """A classifier by mean brightness, in pure numpy."""

        def load(self, local_path, **kwargs):
            path = pathlib.Path(local_path, "weights.json")
            self.threshold = json.loads(path.read_text())["threshold"] if path.is_file() else 0.0

        def save(self, local_path, **kwargs):
            pathlib.Path(local_path).mkdir(parents=True, exist_ok=True)
            pathlib.Path(local_path, "weights.json").write_text(json.dumps({"threshold": self.threshold}))

        def convert_from_dtlpy(self, data_path, **kwargs):
            self.trained_on = sorted(
                path.stem for path in pathlib.Path(data_path, "train", "json").rglob("*.json")
            )

        def train(self, data_path, output_path, **kwargs):
            means = {"dark": [], "light": []}
            for path in pathlib.Path(data_path, "train", "json").rglob("*.json"):
                content = json.loads(path.read_text())
                brightness = float(content["name"].split(".")[0])
                for annotation in content["annotations"]:
                    means[annotation["label"]].append(brightness)
            self.threshold = (max(means["dark"]) + min(means["light"])) / 2

        def predict(self, batch, **kwargs):
            import dtlpy

            collections = []
            for image in batch:
                label = "light" if image.mean() > self.threshold else "dark"
                collection = dtlpy.AnnotationCollection()
                collection.add(
                    annotation_definition=dtlpy.Classification(label=label),
                    model_info={
                        "name": self.model_entity.name,
                        "model_id": self.model_entity.id,
                        "confidence": 0.9,
                    },
                )
                collections.append(collection)
            return collections

    return Tiny


def subset(name):
    return {
        "filter": {
            "$and": [
                {"hidden": False},
                {"$or": [{"metadata": {"system": {"tags": {name: True}}}}]},
                {"type": "file"},
            ]
        }
    }


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
    assert [entry["status"] for entry in stored.status_logs] == [
        "cloning",
        "pre-trained",
        "training",
        "trained",
    ]
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
