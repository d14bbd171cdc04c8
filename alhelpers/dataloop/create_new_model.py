"""The pipeline node "Create New Model": a clone of the base model, ready for fine-tuning on two subsets.

The platform loads this file by its path, with the package beside it: :func:`alhelpers.dataloop.app.write_codebase`
writes both.
"""

import copy
import json
import logging
from collections.abc import Callable, Mapping
from typing import Any

import dtlpy as dl

from alhelpers.configurations import read
from alhelpers.dataloop.model_names import DEFAULT_NAME_TEMPLATE, CreateModelConfig, free_name, render_name
from alhelpers.dataloop.subset_filters import normalize_filter

logger = logging.getLogger(__name__)

# Configuration keys that number the classes.
_LABEL_MAPS = ("id_to_label_map", "label_to_id_map")
# Names that a clone may lose to a parallel run before the node fails.
MAX_NAME_CONFLICTS = 5


def merged_configuration(base: Mapping[str, Any] | None, changes: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return a copy of the base model's configuration with some keys replaced."""
    if changes and not isinstance(changes, Mapping):
        raise ValueError(f"model_configuration {changes!r} must be an object with the keys to change")
    return copy.deepcopy({**(base or {}), **(changes or {})})


def choose_subset(
    name: str, given: dl.Filters | Mapping[str, Any] | str | None, base_model: dl.Model, dataset: dl.Dataset
) -> dict[str, Any]:
    """Return the filter of one subset, "train" or "validation": the given one or else the base model's."""
    given = given.prepare() if isinstance(given, dl.Filters) else given
    chosen = normalize_filter(given, name)
    origin = f"{name}_subset"
    if chosen is None:
        stored = ((base_model.metadata or {}).get("system") or {}).get("subsets") or {}
        chosen = normalize_filter(stored.get(name), name)
        origin = f"the {name} filter of base model {base_model.name!r}"
    if chosen is None:
        raise ValueError(
            f"{name}_subset is empty and base model {base_model.name!r} has no {name} filter either: training "
            f"would take every item, the test items included. Pass a filter, such as "
            f"pipeline_configs/{name}_subset_filter.json"
        )
    if _count(dataset, chosen) == 0:
        raise ValueError(
            f"{origin} selects no item of dataset {dataset.name!r}: {json.dumps(chosen)}. Split the dataset "
            "first, or correct the filter"
        )
    _refuse_test_items(name, origin, chosen, dataset)
    return chosen


def _refuse_test_items(name: str, origin: str, chosen: Mapping[str, Any], dataset: dl.Dataset) -> None:
    leaked = _count_both(dataset, chosen, {"metadata.system.tags.test": True})
    if leaked:
        raise ValueError(
            f"{origin} selects {leaked} items of dataset {dataset.name!r} that are tagged 'test', so the {name} "
            f"subset would leak into the test: {json.dumps(chosen)}. Exclude them from the filter"
        )


def _count_both(dataset: dl.Dataset, query: Mapping[str, Any], condition: Mapping[str, Any]) -> int:
    return _count(dataset, {**query, "filter": {"$and": [query["filter"], condition]}})


def _count(dataset: dl.Dataset, query: Mapping[str, Any]) -> int:
    # The SDK writes page numbers into the dict it is given.
    counted = dl.Filters(custom_filter={**copy.deepcopy(dict(query)), "page": 0, "pageSize": 1})
    return dataset.items.list(filters=counted).items_count


def _same_classes(base_model: dl.Model, dataset: dl.Dataset) -> bool:
    """Return whether the base model's numbering of the classes stays valid for the dataset."""
    labels = set(dataset.labels_flat_dict)
    return not labels or labels == set(base_model.labels or [])


def _names_that_start_with(dataset: dl.Dataset, name: str) -> set[str]:
    filters = dl.Filters(resource=dl.FiltersResource.MODEL, field="name", values=f"{name}*")
    return {model.name for model in dataset.project.models.list(filters=filters).all()}


def _clone_with_free_name(base_model: dl.Model, dataset: dl.Dataset, name: str, **arguments: Any) -> dl.Model:
    """Clone under the name or, if a model has it, under the next free one; any other refusal is raised at once."""
    candidate, refusal = name, None
    for _ in range(MAX_NAME_CONFLICTS):
        # clone() removes keys from the configuration of the model it is called on, so it gets a copy of that.
        source = copy.copy(base_model)
        source.configuration = copy.deepcopy(base_model.configuration or {})
        try:
            return source.clone(model_name=candidate, dataset=dataset, **copy.deepcopy(arguments))
        except dl.exceptions.BadRequest as error:
            taken = _names_that_start_with(dataset, name)
            if candidate not in taken:
                raise
            candidate, refusal = free_name(name, taken), error
    raise RuntimeError(
        f"no free name for the new model: {name!r} and {MAX_NAME_CONFLICTS - 1} numbered ones were taken "
        "meanwhile. Put {datetime} into the node's modelName"
    ) from refusal


def _require(name: str, entity: Any, kind: type, get: Callable[[], Any]) -> None:
    """Raise unless an input of the node is of its kind, and `get` finds it on the platform."""
    if not isinstance(entity, kind):
        raise ValueError(
            f"{name} {entity!r} must be a dl.{kind.__name__}: connect the node's input, or give the pipeline's "
            "variable a value"
        )
    try:
        get()
    except dl.exceptions.NotFound as error:
        raise ValueError(
            f"{name} {entity.name!r} ({entity.id}) is not on the platform any more: choose another one in the "
            "pipeline's variable"
        ) from error


class ModelCreator(dl.BaseServiceRunner):
    """The service behind the node "Create New Model"."""

    @staticmethod
    def create_new_model(
        base_model: dl.Model,
        dataset: dl.Dataset,
        train_subset: dl.Filters | dict | None = None,
        validation_subset: dl.Filters | dict | None = None,
        model_configuration: dict | None = None,
        context: dl.Context | None = None,
        progress: dl.Progress | None = None,
    ) -> tuple[dl.Model, dl.Model]:
        """Clone the base model for fine-tuning.

        Parameters
        ----------
        base_model : dl.Model
            The model to start from; it is not changed.
        dataset : dl.Dataset
            The dataset to train on.
        train_subset, validation_subset : dl.Filters or dict, optional
            Which of its items; empty or None takes the base model's filter.
        model_configuration : dict, optional
            Configuration keys to replace; empty keeps the base model's configuration.
        context : dl.Context, optional
            The template of the new name is its node's ``metadata['customNodeConfig']['modelName']``, with the
            placeholders of ``alhelpers.dataloop.model_names``; by default ``{base_model.name}_{datetime}``.
        progress : dl.Progress, optional
            Receives the new model's name as a message.

        Returns
        -------
        new_model : dl.Model
            The clone.
        base_model : dl.Model
            The base model, as given.

        Raises
        ------
        ValueError
            For a base model or a dataset that is missing, an unusable name template or configuration, and for
            a subset without a filter, without items, or with test items in it. Nothing is created then.
        RuntimeError
            If no free name was found, or the platform failed to clone the model.

        Examples
        --------
        >>> train = json.loads(Path("pipeline_configs/train_subset_filter.json").read_text())  # doctest: +SKIP
        >>> new_model, _ = ModelCreator.create_new_model(model, dataset, train, validation, {})  # doctest: +SKIP
        """
        _require("base_model", base_model, dl.Model, lambda: base_model.models.get(model_id=base_model.id))
        _require("dataset", dataset, dl.Dataset, lambda: dl.datasets.get(dataset_id=dataset.id))
        template = _name_template(context)
        name = render_name(template, base_model.name, dataset.name)
        train = choose_subset("train", train_subset, base_model, dataset)
        validation = choose_subset("validation", validation_subset, base_model, dataset)
        shared = _count_both(dataset, train, validation["filter"])
        if shared:
            logger.warning("%d items are in the train and in the validation subset of %r", shared, name)
        # Weights know their classes by number: the order and the maps are kept while the classes are the same.
        same = _same_classes(base_model, dataset)
        base = {
            key: value
            for key, value in (base_model.configuration or {}).items()
            if same or key not in _LABEL_MAPS
        }
        new_model = _clone_with_free_name(
            base_model,
            dataset,
            name,
            configuration=merged_configuration(base, model_configuration),
            labels=list(base_model.labels or []) if same else list(dataset.labels_flat_dict),
            train_filter=train,
            validation_filter=validation,
        )
        if new_model.status == dl.ModelStatus.FAILED:
            raise RuntimeError(
                f"the platform could not clone {base_model.name!r}: {new_model.name!r} ({new_model.id}) has "
                "failed. Delete it and run the node again"
            )
        if progress is not None:
            progress.update(progress=100, message=f"created {new_model.name!r} from {base_model.name!r}")
        return new_model, base_model


def _name_template(context: dl.Context | None) -> str:
    node = context.node if context is not None else None
    given = node.metadata.get("customNodeConfig") if node is not None else None
    config = CreateModelConfig() if given is None else read(CreateModelConfig, given, "customNodeConfig")
    return config.model_name or DEFAULT_NAME_TEMPLATE
