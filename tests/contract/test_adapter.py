"""The digit classifier through the real SDK: published, installed, trained, asked, evaluated and cloned."""

import copy
import io
import json
import shutil
import tempfile
import uuid
from collections import defaultdict
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import torch._dynamo  # torch imports it with the first optimizer, and makes a folder for temporary files then
from PIL import Image

from alhelpers import data
from alhelpers.dataloop.predictions import truth_and_predictions
from alhelpers.evaluation import accuracy, classification_average_precision
from alhelpers.learners import TorchClassifier, build_network
from alhelpers.training import train

ROOT = Path(__file__).parents[2]
TRAIN, VALIDATION, TEST = 120, 40, 40
STEPS, PASSES = 60, 3
NAMES = [str(digit) for digit in range(10)]


def in_folder(folder):
    """Return the filter of one remote folder, as a fresh object: the SDK changes what it is given."""
    return {"filter": {"$and": [{"hidden": False}, {"type": "file"}, {"dir": f"/{folder}"}]}}


class Traces:
    """Where a careless run would leave something: the working folder, the home, and temporary files."""

    def __init__(self, patch, folder):
        self.work, self.home, self.temporary = (folder / "up" / "work", folder / "home", folder / "temporary")
        for place in (self.work, self.home, self.temporary):
            place.mkdir(parents=True)
        patch.chdir(self.work)
        patch.setenv("HOME", str(self.home))
        patch.setattr(tempfile, "tempdir", str(self.temporary))

    def left(self):
        places = (self.work.parent, self.home, self.temporary)
        return sorted(str(path) for place in places for path in place.rglob("*") if path != self.work)


@pytest.fixture(autouse=True)
def traces(tmp_path, monkeypatch):
    traces = Traces(monkeypatch, tmp_path)
    yield traces
    assert traces.left() == []


@pytest.fixture(scope="module")
def adapter_class(dl):
    from alhelpers.dataloop.adapter import DigitClassifier

    return DigitClassifier


@pytest.fixture(scope="module")
def home(dl):
    """The project of these tests: installing the app once is enough."""
    return dl.projects.create(f"digits-{uuid.uuid4().hex[:8]}")


@pytest.fixture(scope="module")
def app(dl, home, tmp_path_factory):
    """Publish and install the kit's own manifest, with the package as its code."""
    manifest = json.loads((ROOT / "pipeline_configs" / "dataloop.json").read_text())
    # The platform counts up: other tests publish the app too, and this fixture may be made anew.
    del manifest["version"]
    folder, code = tmp_path_factory.mktemp("app"), Path("alhelpers", "dataloop")
    shutil.copytree(ROOT / code, folder / code, ignore=shutil.ignore_patterns("__*__"))
    dpk = home.dpks.publish(
        dpk=dl.Dpk.from_json(copy.deepcopy(manifest), client_api=dl.client_api, project=home),
        local_path=str(folder),
    )
    assert dpk.name == manifest["name"]
    return home.apps.install(dpk=dpk)


@pytest.fixture(scope="module")
def pool():
    return data.load("digits", seed=0)[0]


@pytest.fixture(scope="module")
def labelled(dl, home, pool):
    """Three folders of labelled digits."""
    dataset = home.datasets.create("digits")
    dataset.add_labels(NAMES)
    start = 0
    for folder, count in (("train", TRAIN), ("validation", VALIDATION), ("test", TEST)):
        upload(dl, dataset, pool.part(count, start=start), folder)
        start += count
    return dataset


def upload(dl, dataset, images, folder, labels=None):
    """Upload images into a remote folder, with their own labels or with the given lists of labels."""
    with tempfile.TemporaryDirectory() as local:
        rows = data.write_folder(images, local, prefix=folder, labelled=labels is None)
        table = pd.DataFrame(rows)[["local_path"] + ["local_annotations_path"] * (labels is None)]
        table["remote_path"] = f"/{folder}"
        uploaded = dataset.items.upload(local_path=table, raise_on_error=True, return_as_list=True)
    items = sorted(uploaded, key=lambda item: item.name)
    for item, names in zip(items, labels or [], strict=False):
        add_labels(dl, item, names)
    return items


def add_labels(dl, item, names):
    for name in names:
        item.annotations.upload(dl.Annotation.new(annotation_definition=dl.Classification(label=name)))


@pytest.fixture(scope="module")
def make_model(dl, home, app):
    def make(dataset, train_folder="train", validation_folder=None, labels=None, **configuration):
        filters = {"train_filter": train_folder, "validation_filter": validation_folder}
        return home.models.create(
            model_name=f"digits {uuid.uuid4().hex[:6]}",
            dataset_id=dataset.id,
            labels=labels or NAMES,
            configuration={"image_size": 8, "steps": STEPS} | configuration,
            app=app,
            dpk_model_name="digit-classifier",
            **{name: dl.Filters(custom_filter=in_folder(each)) for name, each in filters.items() if each},
        )

    return make


@pytest.fixture(scope="module")
def trained(labelled, make_model, adapter_class, tmp_path_factory):
    """A model trained by its adapter."""
    options = {"seed": 3, "store_embeddings": True, "mc_dropout_passes": PASSES}
    model = make_model(labelled, validation_folder="validation", **options)
    calls = []

    class Progress:
        def update(self, progress=None, message=None, **_):
            calls.append(progress)

    with pytest.MonkeyPatch.context() as patch:
        traces = Traces(patch, tmp_path_factory.mktemp("training"))
        model = adapter_class(model_entity=model).train_model(model, progress=Progress())
        model.left_behind = traces.left()
    model.progress_calls = calls
    return model


def items_of(dl, dataset, folder):
    filters = dl.Filters(custom_filter=in_folder(folder))
    return sorted(dataset.items.list(filters=filters).all(), key=lambda item: item.name)


# ---------------------------------------------------------------------------------------------------- training


def test_training_leaves_a_trained_model_with_its_weights_and_no_file_behind(dl, trained):
    stored = dl.models.get(model_id=trained.id)
    assert stored.status == "trained"
    assert [entry["status"] for entry in stored.status_logs][-2:] == ["training", "trained"]
    assert [artifact.filename.rsplit("/", 1)[-1] for artifact in stored.artifacts.list()] == ["weights.pt"]
    assert trained.left_behind == []


def test_training_through_the_sdk_is_training_on_the_arrays(dl, trained, pool, adapter_class):
    network = build_network(8, 10, seed=3)
    part = pool.part(TRAIN)
    # The SDK's download comes in the order of the file names, as the upload did.
    train(network, part.inputs(), part.labels(), steps=STEPS, seed=3)
    adapter = adapter_class(model_entity=dl.models.get(model_id=trained.id))
    for name, value in network.state_dict().items():
        assert torch.allclose(adapter.network.state_dict()[name], value, atol=1e-4), name


def test_training_publishes_its_course(dl, trained):
    courses = defaultdict(list)
    for sample in trained.metrics.list().all():
        if sample.figure != "evaluation":
            courses[sample.figure, sample.legend].append((sample.x, sample.y))
    assert courses.keys() == {("loss", "train"), ("loss", "validation"), ("accuracy", "validation")}
    for course in courses.values():
        assert sorted(x for x, _ in course) == [STEPS * number // 10 for number in range(1, 11)]
    losses, accuracies = dict(courses["loss", "validation"]), dict(courses["accuracy", "validation"])
    assert losses[STEPS] < losses[STEPS // 10]
    assert accuracies[STEPS] > 0.6  # chance is 0.1; this seed reaches about 0.9


def test_training_tells_its_progress_in_percent(trained):
    told = [value for value in trained.progress_calls if value is not None]
    assert told[:-1] == [10, 20, 30, 40, 50, 60, 70, 80, 90, 100]
    assert told[-1] == 99  # the SDK's own, while the weights go up


# -------------------------------------------------------------------------------------------------- prediction


def test_predictions_are_records(dl, trained, labelled, adapter_class):
    from alhelpers.dataloop.adapter import to_records

    items = items_of(dl, labelled, "test")
    adapter = adapter_class(model_entity=dl.models.get(model_id=trained.id))
    given, annotations = adapter.predict_items(items)
    assert [item.id for item in given] == [item.id for item in items]
    assert len(annotations) == TEST
    images = np.stack([adapter.prepare_item_func(item).pixels for item in items])
    dataset = data.ImageSet("test", images, None, range(10))
    expected = TorchClassifier(adapter.network).predict(dataset, embeddings=True)
    rows = {item.id: row for row, item in enumerate(items)}
    for annotation in annotations:
        row = rows[annotation.item_id]
        user = annotation.metadata["user"]
        assert annotation.type == "class"
        assert annotation.label == NAMES[expected.confidences[row].argmax()]
        assert user["model"]["name"] == trained.name and user["model"]["model_id"] == trained.id
        assert user["model"]["confidence"] == pytest.approx(float(expected.confidences[row].max()), abs=1e-5)
        fields = user["prediction"]
        assert fields.keys() == {"class_names", "confidences", "logits", "embeddings", "mc_dropout"}
        assert fields["class_names"] == NAMES
        assert sum(fields["confidences"]) == pytest.approx(1, abs=1e-5)
        np.testing.assert_allclose(fields["confidences"], expected.confidences[row], atol=1e-5)
        np.testing.assert_allclose(fields["logits"], expected.logits[row], atol=1e-4)
        np.testing.assert_allclose(fields["embeddings"], expected.embeddings[row], atol=1e-4)
        assert np.shape(fields["mc_dropout"]) == (PASSES, 10)

    records = to_records(annotations)
    assert [record["id"] for record in records] == sorted(rows)
    for record in records:
        assert record["class_name"] == NAMES[int(np.argmax(record["confidences"]))]
        assert record["confidence"] == pytest.approx(max(record["confidences"]), abs=1e-6)

    # What the platform stored is what was returned, and predicting again replaces it.
    adapter.predict_items(items[:2])
    stored = [each for each in items[0].annotations.list() if each.metadata["user"].get("model")]
    assert len(stored) == 1
    assert to_records(stored)[0]["confidences"] == pytest.approx(
        next(record["confidences"] for record in records if record["id"] == items[0].id)
    )


# -------------------------------------------------------------------------------------------------- evaluation


def test_evaluation_equals_a_direct_computation(dl, trained, labelled, adapter_class, caplog):
    model = dl.models.get(model_id=trained.id)
    custom = in_folder("test")
    evaluated, dataset = adapter_class(model_entity=model).evaluate_model(model, labelled, filters=custom)
    assert evaluated.id == model.id and dataset.id == labelled.id
    truth, confidences = [], []
    for item in items_of(dl, labelled, "test"):
        for annotation in item.annotations.list():
            user = annotation.metadata["user"]
            if "prediction" in user:
                confidences.append(user["prediction"]["confidences"])
            else:
                truth.append(annotation.label)
    assert len(truth) == len(confidences) == TEST
    predicted = [NAMES[int(np.argmax(row))] for row in confidences]
    expected = {
        "accuracy": accuracy(truth, predicted),
        "average precision": classification_average_precision(truth, np.array(confidences), NAMES).macro,
    }
    samples = [sample for sample in model.metrics.list().all() if sample.figure == "evaluation"]
    assert {sample.legend: sample.y for sample in samples} == pytest.approx(expected, abs=1e-6)
    assert {sample.x for sample in samples} == {TEST}
    assert expected["accuracy"] > 0.6  # chance is 0.1; this seed reaches about 0.9
    assert dl.models.get(model_id=model.id).status == "trained"
    # Confidences are in the order of the model's labels, also where these were numbered anew.
    model.labels = NAMES[::-1]
    turned = truth_and_predictions(model, labelled, custom)
    np.testing.assert_allclose(turned[1].sum(1), 1, atol=1e-5)
    assert np.mean(
        [model.labels[row] for row in turned[1].argmax(1)] == np.array(turned[0])
    ) == pytest.approx(expected["accuracy"])
    model.labels = NAMES
    truth_and_predictions(model, labelled, None)
    assert f"{TRAIN + VALIDATION} of {TRAIN + VALIDATION + TEST} labelled items of dataset" in caplog.text
    model.labels = NAMES[:5]
    with pytest.raises(ValueError, match=r"prediction of item .* has the classes .* with 10 confidences"):
        truth_and_predictions(model, labelled, custom)


def test_evaluation_needs_one_label_an_item(dl, trained, home, pool, adapter_class, caplog):
    dataset = home.datasets.create("evaluation")
    upload(dl, dataset, pool.part(1), "none", labels=[[]])
    first, second = upload(dl, dataset, pool.part(2), "several", labels=[["1"], ["2", "3"]])
    model = dl.models.get(model_id=trained.id)
    adapter = adapter_class(model_entity=model)
    with pytest.raises(ValueError, match="of 0 items with a label and 1 with a prediction none has both"):
        adapter.evaluate_model(model, dataset, filters=in_folder("none"))
    with pytest.raises(ValueError, match=f"item {second.filename!r} has the labels '2' and '3'"):
        adapter.evaluate_model(model, dataset, filters=in_folder("several"))
    # A box beside the label is no second label.
    second.annotations.list()[1].delete()
    second.annotations.upload(dl.Annotation.new(annotation_definition=dl.Box(1, 1, 5, 5, label="7")))
    adapter.evaluate_model(model, dataset, filters=in_folder("several"))
    # A label that the model does not know counts as a miss, and is warned of.
    upload(dl, dataset, pool.part(2), "unknown", labels=[["x"], ["1"]])
    adapter.evaluate_model(model, dataset, filters=in_folder("unknown"))
    assert "label 'x' has ground truth but is not among the class names" in caplog.text


# ------------------------------------------------------------------------------------------------------- clones


def test_a_clone_keeps_the_weights(dl, trained, labelled, adapter_class):
    original = adapter_class(model_entity=dl.models.get(model_id=trained.id))
    clone = trained.clone(f"clone {uuid.uuid4().hex[:6]}", dataset=labelled)
    copied = adapter_class(model_entity=clone)
    for name, value in original.network.state_dict().items():
        assert torch.equal(copied.network.state_dict()[name], value)


def test_a_model_without_weights_predicts_with_a_warning(dl, labelled, make_model, adapter_class, caplog):
    adapter = adapter_class(model_entity=make_model(labelled))
    adapter.predict_items(items_of(dl, labelled, "test")[:1])
    assert "has no weights: it predicts as it was initialised, train it first" in caplog.text


def test_models_that_cannot_be_loaded_are_named(dl, home, app, trained, labelled, adapter_class, tmp_path):
    clone = trained.clone(f"clone {uuid.uuid4().hex[:6]}", dataset=labelled, configuration={"image_size": 28})
    with pytest.raises(ValueError, match=f"weights of model '{clone.name}'.*image_size 28"):
        adapter_class(model_entity=clone)
    clone = trained.clone(f"clone {uuid.uuid4().hex[:6]}", dataset=labelled)
    folder = tmp_path / "weights"
    folder.mkdir()
    (folder / "weights.pt").write_bytes(b"no weights")
    clone.artifacts.upload(filepath=f"{folder}/*", overwrite=True)
    with pytest.raises(ValueError, match=f"weights of model '{clone.name}' are damaged"):
        adapter_class(model_entity=dl.models.get(model_id=clone.id))
    model = home.models.create(
        model_name=f"bare {uuid.uuid4().hex[:6]}",
        dataset_id=labelled.id,
        labels=["0"],
        app=app,
        dpk_model_name="digit-classifier",
    )
    model.labels = []
    with pytest.raises(ValueError, match=f"model '{model.name}' has no labels"):
        adapter_class(model_entity=model)


# ------------------------------------------------------------------------------------------------ own learners


def stripes(parameters, class_names):
    """A learner as an app registers it: for colour images that are wider than high."""
    width, (height, wide) = parameters["hidden"], parameters["image_size"]

    def build():
        layers = torch.nn.Linear(3 * height * wide, width), torch.nn.Linear(width, len(class_names))
        return torch.nn.Sequential(torch.nn.Flatten(), *layers)

    return TorchClassifier(build, steps=40, learning_rate=0.01, seed=parameters["seed"])


def test_an_own_learner_is_trained_on_colour_images_with_any_class_names(dl, home, make_model, adapter_class):
    class ColourClassifier(adapter_class):
        learners = adapter_class.learners | {"stripes": stripes}

    draw, names = np.random.default_rng(0), ["light red", "grün"]
    pixels = draw.integers(0, 80, (16, 12, 20, 3), dtype=np.uint8)
    for row, image in enumerate(pixels):
        image[..., row % 2] += 120
    images = data.ImageSet("colour", pixels, np.arange(16) % 2, names)
    dataset = home.datasets.create("colour stripes")
    dataset.add_labels(names)
    items = upload(dl, dataset, images, "train")
    configuration = {"learner": "stripes", "image_size": [12, 20], "colour": True}
    model = make_model(
        dataset, labels=names, **configuration, parameters={"hidden": 5}, store_embeddings=True
    )
    with pytest.raises(ValueError, match="has the learner 'stripes'; registered are digits_cnn"):
        adapter_class(model_entity=model)
    model = ColourClassifier(model_entity=model).train_model(model)
    adapter = ColourClassifier(model_entity=dl.models.get(model_id=model.id))
    _, annotations = adapter.predict_items(items)
    labels = {item.id: names[row % 2] for row, item in enumerate(items)}
    assert [each.label for each in annotations] == [labels[each.item_id] for each in annotations]
    assert len(annotations[0].metadata["user"]["prediction"]["embeddings"]) == 5
    adapter.evaluate_model(model, dataset, filters=in_folder("train"))
    assert {each.figure for each in model.metrics.list().all()} == {"loss", "evaluation"}


@pytest.mark.parametrize(
    ("configuration", "message"),
    [
        ({"steps": "many"}, "parameters.steps 'many' must be a whole number"),
        ({"parameters": {"step": 3}}, "parameters has the unknown key 'step'.*did you mean 'steps'"),
        ({"image_size": 0}, "configuration of model .*image_size 0 must be a number of pixels"),
        ({"mc_dropout_passes": 1}, "mc_dropout_passes 1 must be 0, or a whole number of at least 2"),
        ({"learner": "os.system"}, "has the learner 'os.system'; registered are digits_cnn"),
    ],
)
def test_a_configuration_that_is_not_valid_is_named(
    make_model, labelled, adapter_class, configuration, message
):
    model = make_model(labelled, **configuration)
    with pytest.raises(ValueError, match=message):
        adapter_class(model_entity=model)


def test_parameters_may_stand_in_the_configuration_or_in_an_object_of_their_own(
    make_model, labelled, adapter_class
):
    flat = make_model(labelled, image_size=9, dropout=0.25, seed=3, root_path="of the SDK")
    nested = make_model(labelled, image_size=None, parameters={"image_size": 9, "dropout": 0.25, "seed": 3})
    one, other = (adapter_class(model_entity=model).network for model in (flat, nested))
    assert str(one) == str(other) and one.dropout1.p == 0.25
    assert all(torch.equal(*pair) for pair in zip(one.parameters(), other.parameters(), strict=True))


# ------------------------------------------------------------------------------------------------- bad items


@pytest.fixture(scope="module")
def spoilt(dl, home, pool):
    """Folders of two digits; one of them can't be learnt from."""
    dataset = home.datasets.create("spoilt")
    upload(dl, dataset, pool.part(2), "unlabelled", labels=[["1"], []])
    upload(dl, dataset, pool.part(2), "twice", labels=[["1"], ["2", "3"]])
    upload(dl, dataset, pool.part(2), "unknown", labels=[["1"], ["x"]])
    upload(dl, dataset, pool.part(1), "text", labels=[["1"]])
    buffer = io.BytesIO(b"these are words")
    buffer.name = "words.png"
    item = dataset.items.upload(local_path=buffer, remote_path="/text", raise_on_error=True)
    add_labels(dl, item, ["2"])
    return dataset


@pytest.mark.parametrize(
    "folder, message",
    [
        ("unlabelled", "1 of the 2 items of the train subset have no label: '/unlabelled/unlabelled-00001"),
        ("twice", "item '/twice/twice-00001.png' has the classes 2, 3: keep one"),
        ("unknown", "item '/unknown/unknown-00001.png' has the class 'x', which is none of 0, 1, 2"),
        ("text", "item '/text/words.png' is not an image that can be read"),
    ],
)
def test_an_item_that_cannot_be_learnt_from_is_named(dl, spoilt, make_model, adapter_class, folder, message):
    model = make_model(spoilt, train_folder=folder)
    with pytest.raises(ValueError, match=message):
        adapter_class(model_entity=model).train_model(model)
    stored = dl.models.get(model_id=model.id)
    assert stored.status == "failed"
    assert not stored.model_artifacts


def test_a_model_without_a_train_subset_is_named(dl, labelled, make_model, adapter_class):
    model = make_model(labelled, train_folder=None, validation_folder="test")
    with pytest.raises(ValueError, match=f"model '{model.name}' has no 'train' subset"):
        adapter_class(model_entity=model).train_model(model)
    stored = dl.models.get(model_id=model.id)
    assert stored.status == "failed" and not stored.model_artifacts


def test_an_item_that_cannot_be_predicted_is_named(dl, spoilt, trained, adapter_class):
    adapter = adapter_class(model_entity=dl.models.get(model_id=trained.id))
    with pytest.raises(ValueError, match="item '/text/words.png' is not an image that can be read"):
        adapter.predict_items(items_of(dl, spoilt, "text"))


def test_images_of_another_size_and_colour_are_predicted(dl, home, trained, adapter_class):
    dataset = home.datasets.create("colours")
    buffer = io.BytesIO()
    Image.new("RGB", (40, 30), (200, 10, 10)).save(buffer, format="JPEG")
    buffer.name = "red.jpg"
    item = dataset.items.upload(local_path=buffer, raise_on_error=True)
    _, annotations = adapter_class(model_entity=dl.models.get(model_id=trained.id)).predict_items([item])
    assert len(annotations) == 1
