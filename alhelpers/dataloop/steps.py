"""The results of earlier notebooks, created if they are missing: so each notebook runs alone, or uses what is there.

For the notebooks' set-up alone. The notebooks show all of these steps in their own cells, in the SDK's words.
"""

import tempfile
from typing import Any

import dtlpy as dl
import pandas as pd

from alhelpers import data
from alhelpers.configurations import shipped
from alhelpers.dataloop import ModelCreator
from alhelpers.dataloop.adapter import DigitClassifier
from alhelpers.dataloop.app import install_app
from alhelpers.dataloop.data_split import split_dataset

GROUPS = {"train": 70, "validation": 10, "test": 20}
FIRST_BATCH = 60
IMAGE_SIZES = {"digits": 8, "mnist": 28, "fashion": 28}


def subset_filter(subset: str) -> dl.Filters:
    """Return a new filter of ``train``, ``validation`` or ``test``: the SDK changes those that it gets."""
    return dl.Filters(custom_filter=shipped(f"{subset}_subset_filter.json"))


def first_batch_filter() -> dict[str, Any]:
    """Return the train subset's filter, restricted to the first batch of labelled items."""
    narrowed = shipped("train_subset_filter.json")
    narrowed["filter"]["$and"].append({"metadata.user.batch": 1})
    return narrowed


def get_or_create_dataset(project: dl.Project, name: str, class_names: tuple[str, ...]) -> dl.Dataset:
    """Return the dataset of that name; create it with its labels if it is missing."""
    for dataset in project.datasets.list():
        if dataset.name == name:
            return dataset
    labels = [dl.Label(tag=tag, color=f"#{40 + 20 * row:02x}60c0") for row, tag in enumerate(class_names)]
    return project.datasets.create(dataset_name=name, labels=labels)


def upload(dataset: dl.Dataset, images: data.ImageSet, *, labelled: bool) -> None:
    """Upload images that the dataset lacks; the first ones get the metadata of the first batch."""
    with tempfile.TemporaryDirectory() as folder:
        rows = pd.DataFrame(data.write_folder(images, folder, labelled=labelled))
        rows["item_metadata"] = [{"user": {"batch": 1 if row < FIRST_BATCH else 2}} for row in rows.index]
        rows["remote_path"] = "/"
        columns = ["local_path", "remote_path", "item_metadata"] + ["local_annotations_path"] * labelled
        dataset.items.upload(local_path=rows[columns], raise_on_error=True)
    count = dataset.items.list(filters=dl.Filters()).items_count
    if count < len(images):
        raise RuntimeError(
            f"dataset {dataset.name!r} holds {count} items of {len(images)}: run the upload again"
        )


def labelled_dataset(project: dl.Project, source: str, items: int, *, seed: int = 0) -> dl.Dataset:
    """Return the ground-truth dataset of notebook 01: uploaded, labelled and split."""
    pool, _ = data.load(source, seed=seed)
    dataset = get_or_create_dataset(project, f"{source} ground truth", pool.class_names)
    if dataset.items.list(filters=dl.Filters()).items_count < items:
        upload(dataset, pool.part(items), labelled=True)
    split_dataset(dataset, GROUPS, seed=seed, stratify="label", group_by="filename")
    return dataset


def base_model(project: dl.Project, dataset: dl.Dataset, source: str, **configuration: Any) -> dl.Model:
    """Return the base model of notebook 02: trained on the first batch of labels only."""
    name = f"{source} base"
    for model in project.models.list().all():
        if model.name == name and model.status == "trained":
            return model
    app = install_app(project)
    model = project.models.create(
        model_name=name,
        dataset_id=dataset.id,
        labels=[label.tag for label in dataset.labels],
        configuration={"image_size": IMAGE_SIZES[source]} | configuration,
        train_filter=dl.Filters(custom_filter=first_batch_filter()),
        validation_filter=subset_filter("validation"),
        app=app,
        dpk_model_name="digit-classifier",
    )
    return DigitClassifier(model_entity=model).train_model(model)


def untrained_clone(
    project: dl.Project, dataset: dl.Dataset, base: dl.Model, **configuration: Any
) -> dl.Model:
    """Return the clone of notebook 02: the newest untrained one, or a new one."""
    clones = _clones(project, dataset, base, status="pre-trained")
    if clones:
        return clones[-1]
    clone, _ = ModelCreator.create_new_model(
        base_model=base,
        dataset=dataset,
        train_subset=shipped("train_subset_filter.json"),
        validation_subset=shipped("validation_subset_filter.json"),
        model_configuration=configuration,
    )
    return clone


def trained_clone(project: dl.Project, dataset: dl.Dataset, base: dl.Model, **configuration: Any) -> dl.Model:
    """Return the trained clone of notebook 03: the newest one, or a new one."""
    clones = _clones(project, dataset, base, status="trained")
    if clones:
        return clones[-1]
    clone = untrained_clone(project, dataset, base, **configuration)
    return DigitClassifier(model_entity=clone).train_model(clone)


def _clones(project: dl.Project, dataset: dl.Dataset, base: dl.Model, *, status: str) -> list[dl.Model]:
    """Return the clones of a base model with a status, oldest first."""
    models = [
        model
        for model in project.models.list().all()
        if model.name.startswith(f"{base.name}_")
        and model.dataset_id == dataset.id
        and model.status == status
    ]
    return sorted(models, key=lambda model: model.id)
