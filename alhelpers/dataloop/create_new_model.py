"""The pipeline node "Create New Model": a clone of the base model, ready for fine-tuning on the given subsets."""

import copy
import json
import re
import string
from collections.abc import Callable, Collection, Mapping
from datetime import UTC, datetime
from typing import Any

import dtlpy as dl

from alhelpers import configurations

#: What the pipeline's editor writes.
CONFIG_SCHEMA: dict[str, Any] = {
    "$schema": configurations.DIALECT,
    "title": "Create New Model",
    "description": "an object with the new model's name template",
    "type": "object",
    "properties": {
        "name": {"description": "the node's name", "type": "string"},
        "modelName": {
            "description": "a template of the new model's name, such as '{base_model.name}_{datetime}'",
            "type": "string",
        },
        "validation": {"description": "what the pipeline's editor found"},
        "ports": {"description": "a list of the node's ports", "type": ["array", "null"]},
    },
    "additionalProperties": False,
}
#: A query of items: what a model stores for a subset, and what ``pipeline_configs/*_subset_filter.json`` hold.
SUBSET_SCHEMA: dict[str, Any] = {
    "$schema": configurations.DIALECT,
    "title": "Subset filter",
    "description": "a dl.Filters, or a query such as {'filter': {'$and': [...]}}",
    "type": "object",
    "properties": {
        "filter": {"$ref": "#/$defs/condition"},
        "join": {"description": "an object with 'filter' and 'on'", "type": "object"},
        "sort": {"description": "an object of fields and 'ascending' or 'descending'", "type": "object"},
        "page": {"description": "a whole number of 0 or more", "type": "integer", "minimum": 0},
        "pageSize": {"description": "a whole number of 1 or more", "type": "integer", "minimum": 1},
        "resource": {"description": "'items': a model is trained on items", "const": "items"},
        "context": {"description": "an object; the SDK writes it", "type": "object"},
        "systemSpace": {"description": "true or false; the SDK writes it", "type": "boolean"},
    },
    "additionalProperties": False,
    "$defs": {
        "condition": {
            "description": "an object with fields and their values, '$and' or '$or'",
            "type": "object",
            "properties": {"$and": {"$ref": "#/$defs/conditions"}, "$or": {"$ref": "#/$defs/conditions"}},
            "propertyNames": {
                "description": "a field, '$and' or '$or'",
                "anyOf": [{"enum": ["$and", "$or"]}, {"pattern": r"^[^$]"}],
            },
            "additionalProperties": {"$ref": "#/$defs/value"},
        },
        "conditions": {
            "description": "a list of conditions",
            "type": "array",
            "items": {"$ref": "#/$defs/condition"},
        },
        "value": {
            "if": {"type": "object"},
            "then": {
                "propertyNames": {
                    "description": "an operator or a part of a field: '$and' and '$or' stand beside fields",
                    "not": {"enum": ["$and", "$or"]},
                }
            },
        },
    },
}

DEFAULT_DATETIME_FORMAT = "%Y-%m-%dT%H-%M-%S"
DEFAULT_NAME_TEMPLATE = "{base_model.name}_{datetime}"
KNOWN_PLACEHOLDERS = ("{base_model.name}", "{dataset.name}", "{datetime}", "{datetime:%Y-%m-%d}")
# Configuration keys that number the classes.
_LABEL_MAPS = ("id_to_label_map", "label_to_id_map")
# Names that a clone may lose to a parallel run before we give up.
MAX_NAME_CONFLICTS = 5

# Templates of the published node call Python's datetime; the two forms that its users write are understood, not run.
_CALLED_DATETIME = re.compile(
    r"\{datetime(?:\.datetime)?\.(?:utc)?now\(\)(?:\.strftime\((?P<quote>['\"])(?P<format>[^{}]*?)(?P=quote)\))?\}"
)
# What strftime's codes look like in a finished name, to recognise the timestamp of an earlier round.
_DATETIME_PATTERNS = {
    "%Y": r"\d{4}",
    "%m": r"\d\d",
    "%d": r"\d\d",
    "%H": r"\d\d",
    "%I": r"\d\d",
    "%M": r"\d\d",
    "%S": r"\d\d",
    "%y": r"\d\d",
    "%j": r"\d{3}",
    "%f": r"\d{6}",
    "%s": r"\d{9,11}",
    "%b": r"\w+",
    "%B": r"\w+",
    "%a": r"\w+",
    "%A": r"\w+",
    "%p": r"\w*",
    "%F": r"\d{4}-\d\d-\d\d",
    "%T": r"\d\d-\d\d-\d\d",
    "%%": "%",
}
# A model's name becomes the name of a folder, so path separators and what Windows refuses are replaced.
_UNSAFE = re.compile(r"[\x00-\x1f/\\:*?\"<>|]+")


# --------------------------------------------------------------------------------------------------


def parse_template(template: str) -> list[tuple[str, str | None, str]]:
    """Split a name template into its literal texts and placeholders.

    Parameters
    ----------
    template : str
        Such as ``"{base_model.name}_{datetime:%Y-%m-%d}"``. Nothing in it is evaluated.

    Returns
    -------
    list of (str, str or None, str)
        The literal text, the placeholder that follows it (None at the end), and the placeholder's date
        format.

    Raises
    ------
    ValueError
        For an empty template, an unknown placeholder, or braces that do not match; it names the known
        placeholders.
    """
    if not isinstance(template, str) or not template.strip():
        raise ValueError(f"the name template {template!r} is empty; the default is {DEFAULT_NAME_TEMPLATE!r}")
    plain = _CALLED_DATETIME.sub(
        lambda match: f"{{datetime:{match['format']}}}" if match["format"] else "{datetime}", template
    )
    known = f"known are {', '.join(KNOWN_PLACEHOLDERS)}"
    try:
        parts = list(string.Formatter().parse(plain))
    except ValueError as error:
        raise ValueError(f"the name template {template!r} cannot be read ({error}); {known}") from error
    parsed: list[tuple[str, str | None, str]] = []
    for text, name, form, conversion in parts:
        name = "datetime" if name == "datetime..." else name
        plain_name = name in (None, "base_model.name", "dataset.name") and not form and not conversion
        if not plain_name and (name != "datetime" or conversion or "{" in (form or "")):
            raise ValueError(
                f"the name template {template!r} has the unknown placeholder {{{name}}}; {known}"
            )
        parsed.append((text, name, form or ""))
    return parsed


def original_name(template: str, base_model_name: str, dataset_name: str) -> str:
    """Take the former rounds' suffixes off a model's name.

    Parameters
    ----------
    template : str
        The name template.
    base_model_name, dataset_name : str
        The names that go into it.

    Returns
    -------
    str
        The name that the first round started from: what this template yields is recognised and undone, so
        names do not grow with the rounds.
    """
    parts = parse_template(template)
    names = [name for _, name, _ in parts]
    adds_something = "datetime" in names or any(text for text, _, _ in parts) or "dataset.name" in names
    if names.count("base_model.name") != 1 or not adds_something:
        return base_model_name
    pattern = re.compile("".join(_part_pattern(*part, dataset_name) for part in parts) + r"(?:-\d+)?")
    name = base_model_name
    while (match := pattern.fullmatch(name)) and match["base"] != name:
        name = match["base"]
    return name


def _part_pattern(text: str, name: str | None, form: str, dataset_name: str) -> str:
    pattern = re.escape(_clean(text))
    if name == "base_model.name":
        return pattern + r"(?P<base>.+)"
    if name == "dataset.name":
        return pattern + re.escape(_clean(dataset_name))
    if name == "datetime":
        codes = re.split(r"(%.)", form or DEFAULT_DATETIME_FORMAT)
        # A code that is not in the table matches nothing: then a name keeps its suffix.
        return pattern + "".join(
            _DATETIME_PATTERNS.get(code, r"(?!)") if code.startswith("%") else re.escape(_clean(code))
            for code in codes
        )
    return pattern


def render_name(template: str, base_model_name: str, dataset_name: str, now: datetime | None = None) -> str:
    """Make the new model's name.

    Parameters
    ----------
    template : str
        The name template, with the placeholders of `KNOWN_PLACEHOLDERS`.
    base_model_name, dataset_name : str
        The names that go into it. A suffix that an earlier round added to the base model's name is dropped
        first.
    now : datetime, optional
        The time for ``{datetime}``; the current UTC time by default.

    Returns
    -------
    str
        The name, with characters that no folder may have replaced by '-'.

    Raises
    ------
    ValueError
        As `parse_template`, and when nothing is left of the name.

    Examples
    --------
    >>> render_name("{base_model.name}_{datetime:%Y-%m-%d}", "digits_2024-01-02", "d", datetime(2025, 3, 4))
    'digits_2025-03-04'
    """
    now = now or datetime.now(UTC)
    values = {
        "base_model.name": original_name(template, base_model_name, dataset_name),
        "dataset.name": dataset_name,
    }
    rendered = ""
    for text, name, form in parse_template(template):
        rendered += text
        if name == "datetime":
            rendered += now.strftime(form or DEFAULT_DATETIME_FORMAT)
        elif name is not None:
            rendered += values[name]
    cleaned = _clean(rendered).strip()
    if not cleaned:
        raise ValueError(
            f"the name template {template!r} gives an empty name; the default is {DEFAULT_NAME_TEMPLATE!r}"
        )
    return cleaned


def _clean(text: str) -> str:
    return _UNSAFE.sub("-", text)


def free_name(name: str, taken: Collection[str]) -> str:
    """Add the lowest free number to a name that is taken.

    Parameters
    ----------
    name : str
        The wanted name.
    taken : collection of str
        The names in use.

    Returns
    -------
    str
        The name itself, or ``name-2``, ``name-3``, ...
    """
    candidate, number = name, 2
    while candidate in taken:
        candidate, number = f"{name}-{number}", number + 1
    return candidate


def normalize_filter(subset: dl.Filters | Mapping[str, Any] | str | None, name: str) -> dict[str, Any] | None:
    """Bring a subset's filter into the form that models store.

    Parameters
    ----------
    subset : dl.Filters, dict, str or None
        A filter, a query such as the content of ``train_subset_filter.json`` (or its JSON text), or only what
        is inside its ``"filter"``. It is not changed.
    name : str
        The subset's name, for errors.

    Returns
    -------
    dict or None
        ``{"filter": {"$and": [...]}}``, with the join and the sort if there are any; None when the filter is
        empty.

    Raises
    ------
    ValueError
        When it is no filter of items, with the place of the mistake.
    """
    if isinstance(subset, dl.Filters):
        subset = subset.prepare()
    if isinstance(subset, str):
        subset = _filter_from_text(subset, name)
    if subset is None:
        return None
    query = copy.deepcopy(dict(subset)) if isinstance(subset, Mapping) else subset
    if isinstance(query, dict) and not any(key in query for key in SUBSET_SCHEMA["properties"]):
        query = {"filter": query}
    if isinstance(query, dict):
        query = {key: value for key, value in query.items() if value is not None}
    configurations.check(query, SUBSET_SCHEMA, f"{name}_subset")
    condition = query.get("filter") or {}
    if not _selects_something(condition) and not query.get("join"):
        return None
    # The SDK's training appends conditions to "$and"; the page would cut the subset off.
    return {
        "filter": condition if "$and" in condition else {"$and": [condition] if condition else []},
        **{key: query[key] for key in ("join", "sort") if query.get(key)},
    }


def _filter_from_text(text: str, name: str) -> Any:
    if not text.strip():
        return None
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"{name}_subset {text!r} is no JSON ({error})") from error


def _selects_something(condition: Mapping[str, Any]) -> bool:
    """Tell a condition from `{}`, `{"$and": []}` and `{"$or": [{}]}`, which a platform takes for "everything"."""
    return any(
        any(map(_selects_something, value)) if key in ("$and", "$or") else True
        for key, value in condition.items()
    )


def merged_configuration(base: Mapping[str, Any] | None, changes: Mapping[str, Any] | None) -> dict[str, Any]:
    """Put a new model's configuration together.

    Parameters
    ----------
    base : mapping or None
        The base model's configuration; it is not changed.
    changes : mapping or None
        Keys to replace; empty keeps the base model's.

    Returns
    -------
    dict
        A copy that shares nothing with either.

    Raises
    ------
    ValueError
        When the changes are no object.
    """
    if changes and not isinstance(changes, Mapping):
        raise ValueError(f"model_configuration {changes!r} must be an object with the keys to change")
    return copy.deepcopy({**(base or {}), **(changes or {})})


# -------------------------------------------------------------------------------------------- on the platform


def choose_subset(
    name: str, given: dl.Filters | Mapping[str, Any] | str | None, base_model: dl.Model, dataset: dl.Dataset
) -> dict[str, Any]:
    """Find the filter of one subset and see that it selects something sensible.

    Parameters
    ----------
    name : str
        ``"train"`` or ``"validation"``.
    given : dl.Filters, dict, str or None
        The filter; when it is empty, the base model's takes its place.
    base_model : dl.Model
        The base model.
    dataset : dl.Dataset
        The dataset to train on.

    Returns
    -------
    dict
        The filter in the form that models store.

    Raises
    ------
    ValueError
        When neither has a filter, when it selects no items, or when a train filter selects items of the test
        subset.
    """
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
    overlap = {**chosen, "filter": {"$and": [chosen["filter"], {"metadata.system.tags.test": True}]}}
    leaked = _count(dataset, overlap)
    if leaked:
        raise ValueError(
            f"{origin} selects {leaked} items of dataset {dataset.name!r} that are tagged 'test', so the {name} "
            f"subset would leak into the test: {json.dumps(chosen)}. Exclude them from the filter"
        )


def _count(dataset: dl.Dataset, query: Mapping[str, Any]) -> int:
    # The SDK writes page numbers into the dict it is given.
    counted = dl.Filters(custom_filter={**copy.deepcopy(dict(query)), "page": 0, "pageSize": 1})
    return dataset.items.list(filters=counted).items_count


def _same_classes(base_model: dl.Model, dataset: dl.Dataset) -> bool:
    """Tell whether the base model's numbering of the classes stays valid for the dataset."""
    labels = set(dataset.labels_flat_dict)
    return not labels or labels == set(base_model.labels or [])


def _taken_names(dataset: dl.Dataset, name: str) -> set[str]:
    filters = dl.Filters(resource=dl.FiltersResource.MODEL)
    filters.add(field="name", values=f"{name}*")
    return {model.name for model in dataset.project.models.list(filters=filters).all()}


def _is_taken(dataset: dl.Dataset, name: str) -> bool:
    filters = dl.Filters(resource=dl.FiltersResource.MODEL, field="name", values=name)
    return dataset.project.models.list(filters=filters).items_count > 0


def _clone_with_free_name(base_model: dl.Model, dataset: dl.Dataset, name: str, **arguments: Any) -> dl.Model:
    """Clone, and take the next free name when a model has the wanted one.

    Only a refusal that such a model explains is tried again; whatever else is wrong is raised at once.
    """
    candidate, refusal = name, None
    for _ in range(MAX_NAME_CONFLICTS):
        # clone() removes keys from the configuration of the model it is called on, so it gets a copy of that.
        source = copy.copy(base_model)
        source.configuration = copy.deepcopy(base_model.configuration or {})
        try:
            return source.clone(model_name=candidate, dataset=dataset, **copy.deepcopy(arguments))
        except dl.exceptions.BadRequest as error:
            if not _is_taken(dataset, candidate):
                raise
            refusal = error
            candidate = free_name(name, _taken_names(dataset, name) | {candidate})
    raise RuntimeError(
        f"no free name for the new model: {name!r} and {MAX_NAME_CONFLICTS - 1} numbered ones were taken "
        "meanwhile. Put {datetime} into the node's modelName"
    ) from refusal


def _see_that_it_exists(name: str, entity: Any, kind: type, get: Callable[[], Any]) -> None:
    """Raise unless an input of the node is there, so that its absence is not met halfway.

    Parameters
    ----------
    name : str
        The input's name.
    entity : object
        What the node was given.
    kind : type
        What it must be, ``dl.Model`` or ``dl.Dataset``.
    get : callable
        Fetches it from the platform.
    """
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
            placeholders of `KNOWN_PLACEHOLDERS`; without one it is `DEFAULT_NAME_TEMPLATE`.
        progress : dl.Progress, optional
            Gets the new model's name as a message.

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
            When no free name was found, or the platform failed to clone the model.

        Examples
        --------
        >>> train = json.loads(Path("pipeline_configs/train_subset_filter.json").read_text())  # doctest: +SKIP
        >>> new_model, _ = ModelCreator.create_new_model(model, dataset, train, validation, {})  # doctest: +SKIP
        """
        _see_that_it_exists(
            "base_model", base_model, dl.Model, lambda: base_model.models.get(model_id=base_model.id)
        )
        _see_that_it_exists("dataset", dataset, dl.Dataset, lambda: dl.datasets.get(dataset_id=dataset.id))
        template = _name_template(context)
        name = render_name(template, base_model.name, dataset.name)
        train = choose_subset("train", train_subset, base_model, dataset)
        validation = choose_subset("validation", validation_subset, base_model, dataset)
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
    config = node.metadata.get("customNodeConfig") if node is not None else None
    if config is None:
        return DEFAULT_NAME_TEMPLATE
    configurations.check(config, CONFIG_SCHEMA, "customNodeConfig")
    return config.get("modelName") or DEFAULT_NAME_TEMPLATE
