import copy
import uuid

import pytest
from node_samples import upload

from alhelpers.configurations import shipped
from alhelpers.dataloop import ModelCreator, node_context
from alhelpers.dataloop.data_split import split_dataset

SUBSETS = ("train", "validation", "test")
TRAIN, VALIDATION, TEST = (shipped(f"{name}_subset_filter.json") for name in SUBSETS)


def subsets_by_name(dl, make_dataset, **options):
    """Make a dataset of three images, one in each subset."""
    dataset, _ = make_dataset(["train.png", "validation.png", "test.png"], **options)
    for name in SUBSETS:
        split_dataset(dataset, {name: 1}, filters=dl.Filters(field="name", values=f"{name}.png"))
    return dataset


@pytest.fixture(scope="module")
def ground_truth(dl, make_dataset):
    return subsets_by_name(dl, make_dataset)


@pytest.fixture(scope="module")
def base(make_model, ground_truth):
    return make_model(dataset_id=ground_truth.id, train_filter=TRAIN, validation_filter=VALIDATION)


@pytest.fixture(scope="module")
def bare(make_model):
    return make_model()


def subsets(model):
    return model.metadata["system"]["subsets"]


def names(project):
    return sorted(model.name for model in project.models.list().all())


def test_a_clone_is_ready_for_fine_tuning(dl, shared_project, ground_truth, bare):
    before = copy.deepcopy(bare.to_json())
    train, validation = copy.deepcopy(TRAIN), copy.deepcopy(VALIDATION)
    new, old = ModelCreator.create_new_model(bare, ground_truth, train, validation, {})
    assert old is bare and bare.to_json() == before
    assert (train, validation) == (TRAIN, VALIDATION)
    stored = shared_project.models.get(model_id=new.id)
    assert subsets(stored)["train"]["filter"] == TRAIN["filter"]
    assert subsets(stored)["validation"]["filter"] == VALIDATION["filter"]
    assert stored.status == "pre-trained" and stored.dataset_id == ground_truth.id
    assert stored.name.startswith(f"{bare.name}_20")
    # The same classes: the weights' numbering is kept, though the dataset lists them otherwise.
    assert stored.configuration == bare.configuration and stored.configuration["id_to_label_map"]["0"] == "b"
    assert shared_project.models.get(model_id=bare.id).configuration == before["configuration"]


def test_rounds_do_not_collide_and_names_do_not_grow(ground_truth, bare):
    model, lengths = bare, []
    for _ in range(3):
        model, _ = ModelCreator.create_new_model(model, ground_truth, TRAIN, VALIDATION, None)
        lengths.append(len(model.name))
    # Within one second a conflict adds a number, never a second timestamp.
    assert max(lengths) - min(lengths) <= len("-2")


def test_the_configuration_is_changed_in_the_clone_alone(dl, shared_project, ground_truth, bare):
    change = {"epochs": 7, "nested": {"rate": 0.5}}
    new, _ = ModelCreator.create_new_model(bare, ground_truth, TRAIN, VALIDATION, change)
    assert new.configuration["epochs"] == 7 and new.configuration["nested"] == {"rate": 0.5}
    assert bare.configuration["epochs"] == 3
    assert shared_project.models.get(model_id=bare.id).configuration["nested"] == {"rate": 0.1}


def test_a_taken_name_gets_a_number(shared_project, ground_truth, bare, progress):
    name = f"fixed-{uuid.uuid4().hex[:6]}"
    context = node_context(shared_project, {"modelName": name}, "create")
    variables = context.pipeline.to_json()
    got = []
    for _ in range(8):
        new, _ = ModelCreator.create_new_model(bare, ground_truth, TRAIN, VALIDATION, {}, context, progress)
        got.append(new.name)
    assert got == [name, *(f"{name}-{number}" for number in range(2, 9))]
    assert got[-1] in progress.message
    # Neither our copy of the pipeline nor the platform's has changed.
    assert context.pipeline.to_json() == variables
    assert shared_project.pipelines.get(pipeline_id=context.pipeline_id).to_json() == variables


@pytest.mark.parametrize("empty", [None, {}, {"filter": {}}, {"filter": {"$and": []}}, ""])
def test_an_empty_subset_takes_the_base_models_filter(ground_truth, base, empty):
    new, _ = ModelCreator.create_new_model(base, ground_truth, empty, empty, {})
    assert subsets(new)["train"]["filter"] == TRAIN["filter"]
    assert subsets(new)["validation"]["filter"] == VALIDATION["filter"]


def test_a_subset_that_cannot_be_trained_on_creates_nothing(dl, shared_project, ground_truth, bare):
    before = names(shared_project)
    for train, validation, message in [
        (None, VALIDATION, "train_subset is empty and base model"),
        (TRAIN, {}, "validation_subset is empty and base model"),
        (dl.Filters(), VALIDATION, "train_subset selects .* tagged 'test'"),
        (TEST, VALIDATION, "train_subset selects .* tagged 'test'"),
        (TRAIN, TEST, "validation_subset selects .* tagged 'test'"),
        ({"dir": "/nowhere"}, VALIDATION, "train_subset selects no item of dataset .*nowhere"),
        (TRAIN, dl.Filters(field="dir", values="/nowhere"), "validation_subset selects no item"),
        ({**TRAIN, "pagesize": 5}, VALIDATION, "train_subset has the unknown key 'pagesize'"),
        (TRAIN, {"filter": {"$and": {}}}, r"validation_subset.filter.\$and {} must be a list of conditions"),
        (TRAIN, "{", "validation_subset '{' is not valid JSON"),
    ]:
        with pytest.raises(ValueError, match=message):
            ModelCreator.create_new_model(bare, ground_truth, train, validation, {})
    with pytest.raises(ValueError, match=r"model_configuration \['epochs'\] must be an object"):
        ModelCreator.create_new_model(bare, ground_truth, TRAIN, VALIDATION, ["epochs"])
    assert names(shared_project) == before


def test_filters_of_the_sdk_are_taken_and_shared_items_are_warned_of(dl, ground_truth, bare, caplog):
    train = dl.Filters(field="metadata.system.tags.train", values=True)
    new, _ = ModelCreator.create_new_model(bare, ground_truth, train, VALIDATION, {})
    assert "in the train and in the validation subset" not in caplog.text
    ModelCreator.create_new_model(bare, ground_truth, TRAIN, train, {})
    assert "1 items are in the train and in the validation subset" in caplog.text
    stored = dl.Filters(custom_filter=copy.deepcopy(subsets(new)["train"]))
    expected = dl.Filters(custom_filter=copy.deepcopy(TRAIN))
    counts = [ground_truth.items.list(filters=filters).items_count for filters in (stored, expected)]
    assert counts[0] == counts[1] > 0


def test_other_labels_replace_the_numbering(dl, make_dataset, bare):
    dataset = subsets_by_name(dl, make_dataset, labels=("x", "y", "z"))
    new, _ = ModelCreator.create_new_model(bare, dataset, TRAIN, VALIDATION, {})
    assert sorted(new.labels) == ["x", "y", "z"]
    assert "id_to_label_map" not in new.configuration and "id_to_label_map" in bare.configuration


def test_a_missing_input_is_named(dl, shared_project, ground_truth, make_dataset, make_model):
    before = names(shared_project)
    base = make_model()
    as_json = base.to_json()
    deleted = make_model()
    deleted.delete()
    nowhere, _ = make_dataset()
    nowhere.delete(sure=True, really=True)
    for model, dataset, message in [
        (None, ground_truth, "base_model None must be a dl.Model: connect the node's input"),
        (as_json, ground_truth, "base_model {.* must be a dl.Model"),
        (base, None, "dataset None must be a dl.Dataset: connect the node's input"),
        (deleted, ground_truth, f"base_model '{deleted.name}' .* is not on the platform any more"),
        (base, nowhere, f"dataset '{nowhere.name}' .* is not on the platform any more"),
    ]:
        with pytest.raises(ValueError, match=message):
            ModelCreator.create_new_model(model, dataset, TRAIN, VALIDATION, {})
    base.delete()
    assert names(shared_project) == before


def test_the_pipelines_variables_stay_what_they_are(dl, shared_project, ground_truth, bare):
    variables = shipped("active_learning_pipeline.json")["variables"]
    context = node_context(shared_project, {"modelName": "{base_model.name}_{datetime}"}, "with variables")
    pipeline = context.pipeline
    pipeline.variables = dl.Pipeline.from_json(
        client_api=dl.client_api, project=shared_project, _json={**pipeline.to_json(), "variables": variables}
    ).variables
    pipeline.update()
    context = node_context(shared_project, {"modelName": "{base_model.name}_{datetime}"}, "with variables")
    kinds = [type(variable) for variable in context.pipeline.variables]
    before = context.pipeline.to_json()
    ModelCreator.create_new_model(bare, ground_truth, TRAIN, VALIDATION, {}, context)
    assert len(kinds) == len(variables) and [type(one) for one in context.pipeline.variables] == kinds
    assert dict not in kinds
    stored = shared_project.pipelines.get(pipeline_id=context.pipeline_id)
    assert stored.to_json() == before
    assert [variable.value for variable in stored.variables] == [variable["value"] for variable in variables]


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"modelName": 5}, "customNodeConfig.modelName 5 must be a template"),
        ({"modelname": "x"}, "customNodeConfig has the unknown key 'modelname'"),
        ({"modelName": "{base_model._client_api.token}"}, "unknown placeholder {base_model._client_api"),
        (
            {"modelName": "{base_model.name.__init__.__globals__}"},
            "unknown placeholder {base_model.name.__init__",
        ),
    ],
)
def test_a_wrong_configuration_creates_nothing(shared_project, ground_truth, bare, config, message):
    before, context = names(shared_project), node_context(shared_project, config, "wrong")
    with pytest.raises(ValueError, match=message):
        ModelCreator.create_new_model(bare, ground_truth, TRAIN, VALIDATION, {}, context)
    assert names(shared_project) == before


def test_new_items_of_a_subset_are_trained_on(dl, make_dataset, bare):
    dataset = subsets_by_name(dl, make_dataset)
    new, _ = ModelCreator.create_new_model(bare, dataset, TRAIN, VALIDATION, {})
    upload(dataset, ["later.png"])
    split_dataset(dataset, {"train": 1}, filters=dl.Filters(field="name", values="later.png"))
    found = dataset.items.list(filters=dl.Filters(custom_filter=copy.deepcopy(subsets(new)["train"])))
    assert {item.name for item in found.all()} == {"train.png", "later.png"}
