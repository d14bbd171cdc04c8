import io
import itertools
import json
from pathlib import Path

import pytest
from node_samples import label, predict, read_tags, upload

from alhelpers.nodes import DataSplitter, node_context
from alhelpers.nodes.data_split import assign_group, parse_groups, split_dataset

CONFIGS = Path(__file__).parents[3] / "pipeline_configs"
EQUAL = {
    "groups": [
        {"id": "1", "name": "train", "distribution": 50},
        {"id": "2", "name": "test", "distribution": 50},
    ]
}
GROUPS = {"train": 50, "validation": 25, "test": 25}


def subset(dl, dataset, name):
    query = json.loads((CONFIGS / f"{name}_subset_filter.json").read_text())
    return {item.id for item in dataset.items.list(filters=dl.Filters(custom_filter=query)).all()}


@pytest.fixture(scope="module")
def pool(make_dataset):
    return make_dataset([f"{number:02}.png" for number in range(12)])


@pytest.fixture(scope="module")
def context(shared_project):
    return node_context(
        shared_project, {"name": "split", **EQUAL, "itemMetadata": True, "ports": []}, "split"
    )


def test_the_node_tags_an_item_and_takes_its_action(dl, pool, context, progress):
    dataset, items = pool
    for item in list(items.values())[:3]:
        returned = DataSplitter.data_split(item, progress, context)
        expected = assign_group(item.id, parse_groups({"train": 50, "test": 50}))
        assert progress.action == expected
        assert returned.id == item.id and read_tags(dataset, item) == {expected: True}
        assert item.id in subset(dl, dataset, expected)


def test_a_retry_and_an_outdated_copy_give_the_same_single_tag(dl, pool, shared_project, progress, context):
    dataset, items = pool
    item = items["03.png"]
    outdated = dataset.items.get(item_id=item.id)
    DataSplitter().data_split(item, progress, context)
    first = progress.action
    # Even a node that would choose otherwise leaves the item where it is.
    groups = parse_groups({"train": 1, "test": 1})
    seed = next(seed for seed in itertools.count() if assign_group(item.id, groups, seed) != first)
    other = node_context(shared_project, {**EQUAL, "itemMetadata": True, "seed": seed}, "split again")
    DataSplitter().data_split(outdated, progress, other)
    assert progress.action == first
    assert read_tags(dataset, item) == {first: True}


def test_other_tags_are_neither_taken_for_a_group_nor_lost(dl, pool, context, progress):
    dataset, items = pool
    item = items["04.png"]
    item.metadata["system"]["tags"] = {"blurry": True, "train": False}
    item.metadata["user"] = None
    item = item.update(system_metadata=True)
    DataSplitter.data_split(item, progress, context)
    assert progress.action in ("train", "test")
    tags = read_tags(dataset, item)
    assert tags["blurry"] is True and tags[progress.action] is True
    assert [name for name in ("train", "test") if tags.get(name) is True] == [progress.action]


def training_annotations(dl, item):
    """Count what an adapter's training download takes."""
    filters = dl.Filters(resource=dl.FiltersResource.ANNOTATION, use_defaults=False)
    filters.add("itemId", item.id)
    filters.add("metadata.system.model.name", False, dl.FiltersOperations.EXISTS)
    return item.dataset.annotations.list(filters=filters).items_count


def test_reviewed_predictions_become_ground_truth_also_on_a_tagged_item(
    dl, pool, context, progress, make_model
):
    dataset, items = pool
    item, model = items["05.png"], make_model()
    DataSplitter.data_split(item, progress, context)
    predict(dl, item, model, "a", 0.9, {"a": 0.9, "b": 0.1})
    label(dl, item, "b")
    assert training_annotations(dl, item) == 1
    DataSplitter.data_split(item, progress, context)
    assert training_annotations(dl, item) == 2
    for annotation in item.annotations.list():
        assert not annotation.metadata.get("user", {}).get("model")
        assert not annotation.metadata.get("user", {}).get("prediction")


def test_predictions_can_be_kept(dl, pool, shared_project, make_model):
    _, items = pool
    item = items["06.png"]
    predict(dl, item, make_model(), "a", 0.9)
    context = node_context(shared_project, {**EQUAL, "itemMetadata": True, "clearModelInfo": False}, "keep")
    DataSplitter.data_split(item, context=context)
    assert training_annotations(dl, item) == 0


def test_without_item_metadata_nothing_is_written(dl, pool, shared_project, progress):
    dataset, items = pool
    item = items["07.png"]
    context = node_context(shared_project, {**EQUAL, "itemMetadata": False}, "no tags")
    DataSplitter.data_split(item, progress, context)
    assert progress.action in ("train", "test") and read_tags(dataset, item) == {}


def test_a_notebook_needs_no_context(dl, pool):
    dataset, items = pool
    DataSplitter.data_split(items["08.png"])
    assert list(read_tags(dataset, items["08.png"]).values()) == [True]


def test_an_item_in_two_subsets_is_refused(dl, pool, context):
    _, items = pool
    item = items["09.png"]
    item.metadata["system"]["tags"] = {"train": True, "test": True}
    item.update(system_metadata=True)
    with pytest.raises(ValueError, match=rf"item {item.id} is tagged with several groups"):
        DataSplitter.data_split(item, context=context)


def test_a_folder_and_a_node_without_configuration_are_refused(dl, pool, context, shared_project):
    dataset, items = pool
    folder = dataset.items.make_dir("/folder")
    with pytest.raises(ValueError, match="is a folder"):
        DataSplitter.data_split(folder, context=context)
    with pytest.raises(ValueError, match="no pipeline node"):
        DataSplitter.data_split(items["10.png"], context=dl.Context(sdk=dl))
    with pytest.raises(ValueError, match="no groups"):
        DataSplitter.data_split(
            items["10.png"], context=node_context(shared_project, {"name": "x"}, "no groups")
        )


def test_a_context_for_notebooks_is_a_real_one_and_is_used_again(dl, shared_project):
    first = node_context(shared_project, {"seed": 1}, "again")
    second = node_context(shared_project, {"seed": 2}, "again")
    assert isinstance(first, dl.Context) and first.pipeline_id == second.pipeline_id
    assert second.node.metadata["customNodeConfig"] == {"seed": 2}
    shared_project.pipelines.create(
        name="real", pipeline_json={"nodes": [], "connections": [], "startNodes": []}
    )
    with pytest.raises(ValueError, match="has other nodes"):
        node_context(shared_project, {}, "real")


def test_an_item_by_its_id_alone_is_split(dl, pool, context, progress):
    _, items = pool
    item = dl.items.get(item_id=items["11.png"].id)
    assert DataSplitter.data_split(item, progress, context).metadata["system"]["tags"] == {
        progress.action: True
    }


# ------------------------------------------------------------------------------------------- the who


@pytest.fixture(scope="module")
def whole(dl, make_dataset):
    dataset, items = make_dataset([f"{number:03}.png" for number in range(60)])
    items["000.png"].metadata["system"]["tags"] = {"blurry": True}
    items["000.png"].update(system_metadata=True)
    items["001.png"].metadata["system"]["tags"] = {"validation": True}
    items["001.png"].update(system_metadata=True)
    note = io.BytesIO(b"no image")
    note.name = "note.txt"
    dataset.items.upload(local_path=note, raise_on_error=True)
    return dataset, items


def test_a_dataset_is_split_as_the_node_would(dl, whole):
    dataset, items = whole
    result = split_dataset(dataset, GROUPS, seed=3)
    assert (
        sum(result.counts.values()) == 60
        and result.assigned == 59
        and result.kept == 1
        and result.skipped == 1
    )
    assert any("1 items" in warning and "no images" in warning for warning in result.warnings)
    subsets = {name: subset(dl, dataset, name) for name in GROUPS}
    assert {name: len(ids) for name, ids in subsets.items()} == result.counts
    assert all(result.counts.values())
    groups = parse_groups(GROUPS)
    for name, item in items.items():
        expected = "validation" if name == "001.png" else assign_group(item.id, groups, 3)
        assert [subset for subset, ids in subsets.items() if item.id in ids] == [expected]
    assert read_tags(dataset, items["000.png"])["blurry"] is True


def test_splitting_again_changes_nothing(dl, whole):
    dataset, _ = whole
    first = split_dataset(dataset, GROUPS, seed=3)
    second = split_dataset(dataset, GROUPS, seed=4)
    assert first.counts == second.counts and second.assigned == 0


def test_only_the_filtered_items_are_split(dl, make_dataset):
    dataset, items = make_dataset(["a.png", "b.png"])
    result = split_dataset(dataset, {"train": 1}, filters=dl.Filters(field="name", values="a.png"))
    assert result.counts == {"train": 1}
    assert read_tags(dataset, items["a.png"]) == {"train": True} and read_tags(dataset, items["b.png"]) == {}


def test_nothing_to_split_is_said(dl, make_dataset):
    dataset, _ = make_dataset()
    with pytest.raises(ValueError, match="has no items to split: upload some first"):
        split_dataset(dataset, GROUPS)
    upload(dataset, ["a.png"])
    with pytest.raises(ValueError, match="that match"):
        split_dataset(dataset, GROUPS, filters=dl.Filters(field="name", values="b.png"))


def test_models_info_is_cleared_on_request(dl, make_dataset, make_model):
    dataset, items = make_dataset(["a.png"])
    item = items["a.png"]
    predict(dl, item, make_model(), "a", 0.9)
    split_dataset(dataset, GROUPS)
    assert training_annotations(dl, item) == 0
    split_dataset(dataset, GROUPS, clear_models=True)
    assert training_annotations(dl, item) == 1
