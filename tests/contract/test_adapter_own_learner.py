"""A learner of one's own, by the model's configuration alone: on this machine, and in the workers of an own app."""

import re
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from helpers_contract import fails
from helpers_execution import succeeded, until

from alhelpers import data

README = Path(__file__).parents[2] / "pipeline_configs" / "README.md"
#: The file that the page shows, and a function that returns a learner.
CODE = (
    re.search(r"```python\n(from torch import nn\n.*?)```", README.read_text(), re.DOTALL)[1]
    + """

def ready_made(seed):
    from alhelpers.learners import TorchClassifier

    return TorchClassifier(lambda: build(["a", "b", "c"], (10, 14), 8), steps=60, learning_rate=0.01, seed=seed)
"""
)
NAMES = ["reddish", "grün", "bluish"]
CONFIGURATION = {
    "learner": {"module": "my_model.py:build", "steps": 60, "learning_rate": 0.01, "batch_size": 16},
    "parameters": {"width": 8},
    "image_size": [10, 14],
    "colour": True,
    "seed": 2,
    "store_embeddings": True,
    "mc_dropout_passes": 3,
}


def pictures(count, *, seed=0):
    """Pictures of several sizes whose strongest colour is their class."""
    draw = np.random.default_rng(seed)
    pixels = draw.integers(0, 90, (count, 17, 23, 3), dtype=np.uint8)
    for row, picture in enumerate(pixels):
        picture[..., row % 3] += 120
    return data.ImageSet(f"pictures{seed}", pixels, np.arange(count) % 3, NAMES)


def upload(dataset, images, folder, *, labelled=True):
    with tempfile.TemporaryDirectory() as local:
        rows = pd.DataFrame(data.write_folder(images, local, prefix=folder, labelled=labelled))
        rows["remote_path"] = f"/{folder}"
        columns = ["local_path", "remote_path"] + ["local_annotations_path"] * labelled
        found = dataset.items.upload(rows[columns], raise_on_error=True, return_as_list=True)
    return sorted(found, key=lambda item: item.name)


@pytest.fixture
def own(tmp_path):
    file = tmp_path / "my_model.py"
    file.write_text(CODE)
    return file


@pytest.fixture
def labelled(project):
    dataset = project.datasets.create("colours")
    dataset.add_labels(NAMES)
    upload(dataset, pictures(24), "train")
    return dataset


@pytest.fixture
def app(project, own):
    from alhelpers.dataloop.app import install_app

    return install_app(project, app_name=f"colours-{project.id[-6:].lower()}", own_code=own)


@pytest.fixture
def make_model(dl, project, app, labelled):
    def make(name="colours", **changes):
        filters = dl.Filters(field="dir", values="/train")
        return project.models.create(
            model_name=name,
            dataset_id=labelled.id,
            labels=NAMES,
            configuration=CONFIGURATION | changes,
            train_filter=filters,
            app=app,
            dpk_model_name="digit-classifier",
        )

    return make


def test_in_workers_and_in_the_pipeline_of_an_own_app(dl, project, app, labelled, make_model):
    from alhelpers.dataloop.app import install_app, read_pipeline

    assert install_app(project, app_name=app.dpk_name).id == app.id
    model = make_model()
    succeeded(dl, model.train())
    model = dl.models.get(model_id=model.id)
    assert model.status == "trained"
    succeeded(dl, model.evaluate(dataset_id=labelled.id, filters=dl.Filters(field="dir", values="/train")))
    figures = {each.legend: each.y for each in model.metrics.list().all() if each.figure == "evaluation"}
    assert figures["accuracy"] == 1.0

    raw = project.datasets.create("raw")
    flow = project.pipelines.create(
        pipeline_json=read_pipeline("active_learning_pipeline.json", app.dpk_name, app.name)
    )
    values = {"Raw Dataset": raw.id, "Ground Truth Dataset": labelled.id, "Best Model": model.id}
    flow.update_variables_values(**values)
    flow = flow.update().install()
    node = flow.nodes.get("Model Data Split")
    assert dl.services.get(service_name=node.namespace.service_name).package.name == app.dpk_name
    items = upload(raw, pictures(3, seed=1), "new", labelled=False)
    (task,) = [each for each in project.tasks.list() if "Labeling Task" in each.name]
    until(lambda: dl.tasks.get(task_id=task.id).total_items == 3)
    for row, item in enumerate(items):
        (annotation,) = item.annotations.list()
        assert annotation.label == NAMES[row]
        fields = annotation.metadata["user"]["prediction"]
        assert np.shape(fields["embeddings"]) == (8,) and np.shape(fields["mc_dropout"]) == (3, 3)

    model = dl.models.get(model_id=model.id)
    succeeded(dl, model.embed(item_ids=[item.id for item in items]))
    features = dl.models.get(model_id=model.id).feature_set
    assert features.size == 8
    embedded = {each.entity_id for each in features.features.list().all()}
    assert embedded == {item.id for item in items}
    # Of a dataset, by a query.
    first = min(labelled.items.list().all(), key=lambda item: item.name)
    query = dl.Filters(field="name", values=first.name)
    succeeded(dl, dl.models.embed(model, dataset_id=labelled.id, filters=query))
    assert {each.entity_id for each in features.features.list().all()} == embedded | {first.id}
    succeeded(dl, model.predict(dataset_id=raw.id))


def test_on_this_machine_with_the_published_file(dl, own, labelled, make_model):
    from alhelpers.dataloop.adapter import DigitClassifier

    class Adapter(DigitClassifier):
        own_code = own.parent

    model = make_model(learner={"module": "my_model.py:ready_made"}, parameters={})
    model = Adapter(model_entity=model).train_model(model)
    adapter = Adapter(model_entity=dl.models.get(model_id=model.id))
    items = sorted(labelled.items.list().all(), key=lambda item: item.name)
    _, annotations = adapter.predict_items(items)
    assert [each.label for each in annotations] == [NAMES[row % 3] for row in range(24)]
    own.write_text(CODE.replace("ready_made", "renamed"))
    fails(ValueError, "must define a function 'ready_made' itself", lambda: Adapter(model_entity=model))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"learner": {"module": "os.py:system"}}, "'os.py:system' is not in the folder 'own_code'"),
        ({"image_size": None}, "lacks 'image_size'"),
        ({"steps": 3}, "has 'steps' beside a learner of one's own: put it into 'learner' or 'parameters'"),
        (
            {"learner": ["my_model.py:build"]},
            "must be the name of a registered learner, or an object with 'module'",
        ),
        ({"parameters": {}}, "needs 'width': give it in 'parameters'"),
    ],
)
def test_a_configuration_that_does_not_fit_is_named(own, make_model, changes, message):
    from alhelpers.dataloop.adapter import DigitClassifier

    class Adapter(DigitClassifier):
        own_code = own.parent

    fails(ValueError, message, lambda: Adapter(model_entity=make_model(**changes)))


def test_without_published_code_a_model_says_what_to_publish(make_model):
    from alhelpers.dataloop.adapter import DigitClassifier

    # The installed kit's own codebase: nobody has put a folder of own code beside it.
    assert not Path(DigitClassifier.own_code).exists()
    fails(
        ValueError,
        "publish the app with own_code='my_model.py'",
        lambda: DigitClassifier(model_entity=make_model()),
    )
