"""Datasets: create, list, update, delete, clone, merge, subsets, collections."""

import pytest
from helpers_contract import MISSING, annotate, classify, fails, get_json, not_found, paths, refused

# ---------------------------------------------------------------------------------------------- create, get, list


def test_a_dataset_round_trips(dl, project):
    made = project.datasets.create("d", expiration_options=dl.ExpirationOptions(item_max_days=3))
    read = dl.datasets.get(dataset_id=made.id)
    assert read.to_json() == get_json(dl, f"/datasets/{made.id}") == made.to_json()
    assert read.expiration_options.item_max_days == 3
    assert read.updated_by == read.creator and read.is_syncing is False and read.index_driver == "v1"
    assert read.projects == [project.id] and read.project.id == project.id and read.readonly is False
    assert (read.items_count, read.annotated, read.annotations_count) == (0, 0, 0)
    project.datasets.update(made, patch={"expirationOptions": None})
    assert dl.datasets.get(dataset_id=made.id).expiration_options is None


def test_options_of_a_new_dataset(dl, project):
    with pytest.raises(dl.exceptions.BadRequest, match="'expirationOptions' must be"):
        project.datasets.create("d", expiration_options=dl.ExpirationOptions(item_max_days=-1))
    fails(dl.exceptions.BadRequest, "'indexDriver' must be", project.datasets.create, "d", index_driver="v7")
    fails(dl.exceptions.NotFound, "external storage", project.datasets.create, "d", driver_id=MISSING)
    fails(dl.exceptions.BadRequest, "'name' must be a non-empty string", project.datasets.create, "")
    assert len(project.datasets.list()) == 0
    assert project.datasets.create("d", index_driver=dl.IndexDriver.V2).index_driver == "v2"


def test_labels_and_recipes_at_creation(dl, project):
    labels = [dl.Label(tag="cat", color=(1, 2, 3)), dl.Label(tag="dog", color=(4, 5, 6))]
    made = project.datasets.create("labelled", labels=labels)
    assert sorted(label.tag for label in made.labels) == ["cat", "dog"]
    (recipe_id,) = made.get_recipe_ids()
    same = project.datasets.create("same recipe", recipe_id=recipe_id)
    assert same.get_recipe_ids() == [recipe_id]
    assert sorted(dl.datasets.get(dataset_id=same.id).labels_flat_dict) == ["cat", "dog"]
    linked = project.datasets.create("same ontology", ontology_ids=made.ontology_ids)
    assert linked.get_recipe_ids() != [recipe_id] and linked.ontology_ids == made.ontology_ids


def test_datasets_are_listed_and_found(dl, project):
    for name in ("one", "two", "three"):
        project.datasets.create(name)
    assert sorted(each.name for each in project.datasets.list()) == ["one", "three", "two"]
    assert [each.name for each in project.datasets.list(name="t*")] == ["three", "two"]  # the newest first
    assert len(project.datasets.list(creator="nobody@example.com")) == 0
    among = {"field": "name", "values": ["one", "two"], "operator": "in"}
    filters = dl.Filters(resource=dl.FiltersResource.DATASET, **among)
    filters.sort_by("name", dl.FiltersOrderByDirection.DESCENDING)
    assert [each.name for each in project.datasets.list(filters=filters)] == ["two", "one"]
    assert project.datasets.get(dataset_name="one").name == "one"
    fails(dl.exceptions.BadRequest, "Filters resource", project.datasets.list, filters=dl.Filters())


def test_a_missing_dataset(dl, project):
    get = project.datasets.get
    not_found(dl, lambda: get(dataset_id=MISSING), lambda: get(dataset_name="no"))
    fails(dl.exceptions.BadRequest, "not an id", get, dataset_id="no")


def test_the_name_of_another_project_is_free(dl, project):
    project.datasets.create("d")
    other = dl.projects.create(f"{project.name}-other")
    assert other.datasets.create("d").id != project.datasets.get(dataset_name="d").id
    assert len(other.datasets.list()) == 1


def test_checkout(dl, project, dataset):
    try:
        project.datasets.checkout(dataset_id=dataset.id)
        assert project.datasets.get().id == dataset.id
    finally:
        dl.client_api.state_io.put("dataset", None)


# ------------------------------------------------------------------------------------------------ update, delete


def test_a_dataset_is_renamed(dl, project, dataset):
    project.datasets.create("taken")
    dataset.name = "renamed"
    dataset.update()
    assert dl.datasets.get(dataset_id=dataset.id).name == "renamed"
    dataset.name = "taken"
    for again in (dataset.update, lambda: project.datasets.create("taken")):
        fails(dl.exceptions.BadRequest, "'taken' exists", again)
    with pytest.raises(dl.exceptions.BadRequest):
        project.datasets.update(dataset, patch={"name": ""})
    assert dl.datasets.get(dataset_id=dataset.id).name == "renamed"


def test_what_the_platform_computes_cannot_be_updated(dl, project, dataset):
    before = get_json(dl, f"/datasets/{dataset.id}")
    patch = dict.fromkeys(("creator", "createdAt", "srcDataset"), "x")
    patch |= {"itemsCount": 7, "projects": [], "isSyncing": True}
    project.datasets.update(dataset, patch=patch)
    after = get_json(dl, f"/datasets/{dataset.id}")
    assert after | {"updatedAt": None} == before | {"updatedAt": None}


def test_system_metadata_only_where_asked_for(dl, dataset):
    dataset.metadata["system"]["x"] = 1
    dataset.metadata["user"] = {"y": 1}
    dataset.update()
    read = dl.datasets.get(dataset_id=dataset.id)
    assert "x" not in read.metadata["system"] and read.metadata["user"] == {"y": 1}
    dataset.update(system_metadata=True)
    assert dl.datasets.get(dataset_id=dataset.id).metadata["system"]["x"] == 1


def test_a_dataset_is_deleted_by_who_is_sure(dl, project, dataset, item):
    with pytest.raises(dl.exceptions.Forbidden):
        dataset.delete()
    with pytest.raises(dl.exceptions.Forbidden):
        project.datasets.delete(dataset_id=dataset.id, sure=True)
    assert dataset.delete(sure=True, really=True) is True
    not_found(dl, lambda: dl.datasets.get(dataset_id=dataset.id), lambda: dl.items.get(item_id=item.id))
    not_found(dl, lambda: dataset.delete(sure=True, really=True))


def test_a_dataset_that_is_not_locked_cannot_be_unlocked(dl, dataset):
    fails(dl.exceptions.BadRequest, "dataset is not locked", dataset.unlock)
    assert dataset.export(dataset_lock=True, lock_timeout_sec=10) is None  # nothing in it
    fails(dl.exceptions.BadRequest, "dataset is not locked", dataset.unlock)


def test_what_is_not_emulated_says_so(dl, dataset, fill):
    fill(1)
    for call in (dataset.sync, dataset.schema.get, lambda: dataset.export(export_version="v3")):
        fails(dl.exceptions.NotFound, "not emulated offline", call)


def test_counters(dl, dataset, fill):
    first, *_ = fill(3)
    fill(1, remote_path="/.hidden")
    for label in ("a", "b"):
        classify(dl, first, label)
    read = dl.datasets.get(dataset_id=dataset.id)
    assert (read.items_count, read.annotated, read.annotations_count) == (3, 1, 2)


def test_directory_tree(dl, project, dataset, fill):
    fill(1, remote_path="/a/b")
    dataset.items.make_dir("/c")
    tree = project.datasets.directory_tree(dataset_name=dataset.name)
    assert tree.dir_names == ["/a/b", "/a", "/c", "/"]
    assert [child.name for child in tree.root.children] == ["a", "c"]
    assert tree.root.children[0].children[0].id == dataset.items.get(filepath="/a/b", is_dir=True).id
    not_found(dl, lambda: project.datasets.directory_tree(dataset_id=MISSING))


# ---------------------------------------------------------------------------------------------- clone and merge


@pytest.fixture
def marked(dl, dataset, fill):
    """An item with metadata, a description, a tag and an annotation, and one without."""
    item, plain = fill(2, remote_path="/x")
    item.metadata["user"] = {"a": 1}
    item.metadata["system"]["tags"] = {"train": True}
    item.update(system_metadata=True)
    item.set_description("first")
    annotate(dl, item, dl.Box(1, 1, 3, 3, label="cat"))
    return dataset.items.get(item_id=item.id), plain


def test_clone_a_dataset(dl, dataset, marked):
    dataset.add_label("cat")
    clone = dataset.clone(clone_name="copy")
    assert clone.name == "copy" and clone.src_dataset == dataset.id
    assert clone.to_json() == get_json(dl, f"/datasets/{clone.id}")
    assert clone.get_recipe_ids() == dataset.get_recipe_ids()
    assert paths(clone) == ["/x/0000.png", "/x/0001.png"]
    item = clone.items.get(filepath="/x/0000.png")
    source = marked[0]
    assert item.to_json() == get_json(dl, f"/items/{item.id}")
    assert item.id != source.id and item._src_item == source.id and item.to_json()["srcItem"] == source.id
    assert item.metadata == source.metadata and item.description == "first"
    assert (item.annotations_count, item.annotated) == (1, True)
    (annotation,) = item.annotations.list()
    assert (annotation.label, annotation.dataset_id, annotation.item_id) == ("cat", clone.id, item.id)
    assert item.download(save_locally=False).read() == source.download(save_locally=False).read()


def test_clone_without_annotations_or_metadata(dl, dataset, marked):
    clone = dataset.clone(clone_name="bare", with_items_annotations=False, with_metadata=False)
    item = clone.items.get(filepath="/x/0000.png")
    assert item.annotations_count == 0
    assert "user" not in item.metadata and "tags" not in item.metadata["system"]
    assert (item.width, item.size) == (marked[0].width, marked[0].size)


def test_clone_some_items_into_a_directory_of_another_dataset(dl, project, dataset, marked):
    target = project.datasets.create("target")
    filters = dl.Filters(field="name", values="0001.png")
    clone = dataset.clone(filters=filters, dst_dataset_id=target.id, target_directory="in/here")
    assert clone.id == target.id and paths(target) == ["/in/here/x/0001.png"]


def test_clones_that_cannot_be(dl, project, dataset, marked):
    project.datasets.create("taken")
    fails(dl.exceptions.BadRequest, "Must provide clone name", dataset.clone)
    fails(dl.exceptions.BadRequest, "'taken' exists", dataset.clone, clone_name="taken")
    not_found(dl, lambda: dataset.clone(dst_dataset_id=MISSING))
    fails(dl.exceptions.BadRequest, "has an item there already", dataset.clone, dst_dataset_id=dataset.id)
    with pytest.raises(dl.exceptions.BadRequest, match="unknown operator"):
        dataset.clone(clone_name="new", filters=dl.Filters(custom_filter={"name": {"$almost": 1}}))
    assert sorted(each.name for each in project.datasets.list()) == ["images", "taken"]
    assert dataset.items.list().items_count == 2


def test_a_clone_is_in_no_task_and_leaves_status_where_asked(dl, dataset, marked):
    item = marked[0]
    (annotation,) = item.annotations.list()
    annotation.metadata["system"]["status"] = "issue"
    annotation.update(system_metadata=True)
    item.metadata["system"]["refs"] = [{"type": "task", "id": MISSING}]
    item.update(system_metadata=True)
    for keep, expected in ((True, "issue"), (False, None)):
        clone = dataset.clone(clone_name=f"status {keep}", with_task_annotations_status=keep)
        copied = clone.items.get(filepath="/x/0000.png")
        assert copied.metadata["system"]["refs"] == []
        assert copied.annotations.list()[0].metadata["system"].get("status") == expected


def test_merge_brings_clones_together(dl, project, dataset, marked):
    clone = dataset.clone(clone_name="copy")
    item = clone.items.get(filepath="/x/0000.png")
    classify(dl, item, "cat")
    item.metadata["user"] = {"b": 2}
    item.update()
    ids = [dataset.id, clone.id]
    assert dl.datasets.merge(merge_name="merged", dataset_ids=ids, project_ids=project.id) is True
    target = project.datasets.get(dataset_name="merged")
    assert paths(target) == ["/x/0000.png", "/x/0001.png"]
    together = target.items.get(filepath="/x/0000.png")
    assert sorted(annotation.type for annotation in together.annotations.list()) == ["box", "class"]
    assert together.metadata["user"] == {"a": 1, "b": 2} and together.annotations_count == 2


def test_merge_puts_different_datasets_side_by_side(dl, project, dataset, fill):
    fill(1)
    other = project.datasets.create("other")
    fill_path = dataset.items.list().items[0].download()
    other.items.upload(fill_path, raise_on_error=True)
    command = dl.datasets.merge(
        merge_name="both", dataset_ids=[dataset.id, other.id], project_ids=[project.id], wait=False
    )
    assert command.status == "success" and command.spec["mergeDatasetsConfiguration"]["name"] == "both"
    both = project.datasets.get(dataset_name="both")
    assert paths(both) == ["/0000.png", "/0000.png"]
    fails(dl.exceptions.NotFound, "More than one item", both.items.get, filepath="/0000.png")


def test_merges_that_cannot_be(dl, project, dataset):
    def merge(name, *ids):
        return dl.datasets.merge(merge_name=name, dataset_ids=list(ids), project_ids=project.id)

    other = project.datasets.create("other", labels=[dl.Label(tag="cat", color=(1, 2, 3))])
    fails(dl.exceptions.BadRequest, "different recipes cannot be merged", merge, "m", dataset.id, other.id)
    not_found(dl, lambda: merge("m", dataset.id, MISSING))
    fails(dl.exceptions.BadRequest, "'datasetsIds' must list", merge, "m")
    fails(dl.exceptions.BadRequest, "'other' exists", merge, "other", dataset.id)
    assert len(project.datasets.list()) == 2


def test_commands(dl, project, dataset, item):
    command = item.clone(remote_filepath="/copy.png", wait=False)
    assert (command.status, command.progress) == (dl.CommandsStatus.SUCCESS, 100)
    assert not command.in_progress()
    commands = command.commands
    read = commands.get(command_id=command.id)
    assert (read.spec, read.status, read.wait().id) == (command.spec, "success", command.id)
    assert commands.wait(command_id=command.id).status == "success"
    assert command.id in [each.id for each in commands.list()]
    assert read.abort().status == "success"
    not_found(dl, lambda: commands.get(command_id=MISSING))


# ----------------------------------------------------------------------------------------------------- subsets


def _tags(dataset):
    return {item.name: item.metadata["system"].get("tags") for item in dataset.items.list().all()}


def test_the_default_split(dl, dataset, fill):
    fill(10)
    assert dataset.split_ml_subsets() is True
    tags = [tuple(tag.items()) for tag in _tags(dataset).values()]
    assert sorted(tags) == sorted([(("train", True),)] * 8 + [(("validation", True),), (("test", True),)])
    assert dataset.split_ml_subsets(percentages={"train": 0, "validation": 100, "test": 0})
    assert set(map(str, _tags(dataset).values())) == {"{'validation': True}"}


def test_a_split_mixes_and_can_be_repeated(dl, project, dataset, fill):
    fill(30)
    tested = []
    for part in (dataset, project.datasets.create("again")):
        if part is not dataset:
            dataset.clone(dst_dataset_id=part.id, with_metadata=False)
        part.split_ml_subsets(percentages={"train": 50, "validation": 0, "test": 50})
        tested.append({name for name, tags in _tags(part).items() if tags == {"test": True}})
    assert tested[0] == tested[1] and len(tested[0]) == 15
    assert tested[0] != {f"{number:04}.png" for number in range(15, 30)}


def test_splits_that_cannot_be(dl, dataset):
    for percentages in ({"train": 100}, {"train": 50, "validation": 25, "test": 24}):
        with pytest.raises(ValueError):
            dataset.split_ml_subsets(percentages=percentages)
    refused(dl, "post", f"/datasets/{dataset.id}/split", {"itemsQuery": {}, "MLSplitList": {"train": "all"}})
    body = {"itemsQuery": {}, "MLSplitList": {"train": 100}, "query": {}, "updateQuery": {"update": {}}}
    for action in ("split", "items/bulk-update-metadata"):
        refused(dl, "post", f"/datasets/{MISSING}/{action}", body, status=404)


def test_subsets_of_items(dl, dataset, fill):
    first, second, third = fill(3)
    assert first.get_current_subset() is None
    assert first.assign_subset("train").get_current_subset() == "train"
    assert dataset.items.get(item_id=first.id).assign_subset("test").get_current_subset() == "test"
    assert dataset.items.get(item_id=first.id).metadata["system"]["tags"] == {"test": True}
    assert sorted(dataset.get_items_missing_ml_subset()) == sorted([second.id, third.id])
    only = dl.Filters(field="id", values=[second.id], operator=dl.FiltersOperations.IN)
    assert dataset.assign_subset_to_items("validation", only) is True
    assert dataset.get_items_missing_ml_subset() == [third.id]
    assert dataset.remove_subset_from_items(only) is True
    assert sorted(dataset.get_items_missing_ml_subset()) == sorted([second.id, third.id])
    assert dataset.items.get(item_id=first.id).remove_subset().get_current_subset() is None
    everything = dl.Filters(use_defaults=False)
    dataset.items.make_dir("/folder")
    assert dataset.assign_subset_to_items("train", everything)
    assert dataset.remove_subset_from_items(everything)
    assert "tags" not in dataset.items.get(filepath="/folder", is_dir=True).metadata["system"]
    fails(ValueError, "subset must be one of", first.assign_subset, "dev")
    assert len(dataset.get_items_missing_ml_subset()) == 3


# ------------------------------------------------------------------------------------------------- collections


def test_collections_come_and_go(dl, dataset):
    assert dataset.collections.list_all_collections() == []
    made = dataset.collections.create("night")
    assert (made.key, made.name) == ("collections0", "night")
    assert dataset.collections.create("day drive").key == "collections1"
    assert dataset.collections.list_all_collections() == [
        {"key": "collections0", "name": "night"},
        {"key": "collections1", "name": "day drive"},
    ]
    renamed = dataset.collections.update("day drive", "day")
    assert (renamed.key, renamed.name) == ("collections1", "day")
    assert dataset.collections.delete("night") is True
    assert dataset.collections.create("rain").key == "collections0"
    assert dataset.collections.get_name_by_key("collections0") == "rain"
    assert "collections" not in get_json(dl, f"/datasets/{dataset.id}")


def test_items_in_collections(dl, dataset, fill):
    first, second, third = fill(3)
    dataset.collections.create("a")
    dataset.collections.create("b")
    assert first.assign_collection(["a", "b"]) is True
    dataset.collections.assign(["a"], filters=dl.Filters(field="name", values="0001.png"))
    read = dataset.items.get(item_id=first.id)
    assert read.list_collections() == [
        {"key": "collections0", "name": "a"},
        {"key": "collections1", "name": "b"},
    ]
    members = dl.Filters(field="metadata.system.collections.collections0", values=True)
    assert sorted(item.id for item in dataset.items.list(members).all()) == sorted([first.id, second.id])
    assert dataset.collections.list_unassigned_items() == [third.id]
    clone = dataset.collections.clone("a")
    assert clone.name == "a-clone-1" and len(dataset.items.get(item_id=first.id).list_collections()) == 3
    assert first.unassign_collection(["a", "b", "a-clone-1"]) is True
    assert sorted(dataset.collections.list_unassigned_items()) == sorted([first.id, third.id])
    dataset.collections.delete("a")
    assert [each["name"] for each in dataset.items.get(item_id=second.id).list_collections()] == ["a-clone-1"]
    copy = dataset.clone(clone_name="copy")
    assert [each["name"] for each in copy.items.get(filepath="/0001.png").list_collections()] == ["a-clone-1"]


def test_collections_that_cannot_be(dl, dataset, item):
    dataset.collections.create("a")
    fails(ValueError, "already exists", dataset.collections.create, "a")
    path = f"/datasets/{dataset.id}/items/collections"
    for name, message in (("a", "'a' exists"), ("", "non-empty"), ("x/y", "cannot hold '/'")):
        refused(dl, "post", path, {"name": name}, message)
    fails(dl.exceptions.NotFound, "collection not found: 'none'", item.assign_collection, ["none"])
    for number in range(9):
        dataset.collections.create(f"n{number}")
    fails(ValueError, "maximum number", dataset.collections.create, "eleven")
    refused(dl, "post", path, {"name": "eleven"}, "no more fit")


def test_the_system_dataset_stays(dl, project):
    binaries = project.datasets._get_binaries_dataset()
    fails(dl.exceptions.BadRequest, "system dataset", binaries.delete, sure=True, really=True)
    binaries.name = "mine"
    fails(dl.exceptions.BadRequest, "system dataset", binaries.update)
    assert [each.name for each in project.datasets.list()] == []
