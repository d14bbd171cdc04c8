"""The kit's classifier, trained, deployed, asked and evaluated by the platform's workers from its published code."""

import pytest
from helpers_execution import succeeded

from alhelpers.dataloop import steps
from alhelpers.dataloop.app import install_app


@pytest.fixture
def model(dl, project):
    dataset = steps.labelled_dataset(project, "digits", 100)
    app = install_app(project)
    return project.models.create(
        model_name="remote",
        dataset_id=dataset.id,
        labels=[label.tag for label in dataset.labels],
        configuration={"image_size": 8, "steps": 60},
        train_filter=steps.subset_filter("train"),
        validation_filter=steps.subset_filter("validation"),
        app=app,
        dpk_model_name="digit-classifier",
    )


def test_the_kits_classifier_runs_in_workers(dl, project, model):
    training = succeeded(dl, model.train())
    model = dl.models.get(model_id=model.id)
    assert model.status == "trained" and len(model.model_artifacts) == 1
    assert max(entry["percentComplete"] for entry in training.status_log) == 100
    assert {each.figure for each in model.metrics.list().all()} >= {"loss"}
    assert "[Done] Executing function." in "\n".join(model.log(view=False))

    model.deploy()
    model = dl.models.get(model_id=model.id)
    item = next(iter(model.dataset.items.list(steps.subset_filter("test")).all()))
    predicting = succeeded(dl, model.predict(item_ids=[item.id]))
    (annotation_id,) = predicting.output[1]
    found = dl.annotations.get(annotation_id=annotation_id)
    assert len(found.metadata["user"]["prediction"]["confidences"]) == 10
    assert found.metadata["user"]["model"]["model_id"] == model.id

    succeeded(dl, model.evaluate(dataset_id=model.dataset_id, filters=steps.subset_filter("test")))
    model = dl.models.get(model_id=model.id)
    assert model.metadata["system"]["evaluate"]["datasets"] == [model.dataset_id]
    figures = {(each.figure, each.legend) for each in model.metrics.list().all()}
    assert ("evaluation", "accuracy") in figures and model.status == "deployed"
