import io
import itertools

import pytest
from node_samples import label, predict, read_tags, tag, upload

from alhelpers.data.splitting import assign_group, parse_groups, plan_split
from alhelpers.dataloop import DataSplitter, data_split, node_context, reading, steps
from alhelpers.dataloop.data_split import split_dataset

EQUAL = {"groups": [{"id": name, "name": name, "distribution": 50} for name in ("train", "test")]}
GROUPS = {"train": 50, "validation": 25, "test": 25}


def subset(dataset, name):
    return {item.id for item in dataset.items.list(filters=steps.subset_filter(name)).all()}


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
        assert item.id in subset(dataset, expected)


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
    item.metadata["user"] = None
    item = tag(item, blurry=True, train=False)
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


def test_a_notebook_needs_no_context(pool):
    dataset, items = pool
    DataSplitter.data_split(items["08.png"])
    assert list(read_tags(dataset, items["08.png"]).values()) == [True]


def test_an_item_in_two_subsets_is_refused(pool, context):
    item = pool[1]["09.png"]
    tag(item, train=True, test=True)
    with pytest.raises(ValueError, match=rf"item {item.id} is tagged with several groups"):
        DataSplitter.data_split(item, context=context)


def test_a_folder_and_a_node_without_configuration_are_refused(dl, pool, context, shared_project):
    dataset, items = pool
    folder = dataset.items.make_dir("/folder")
    with pytest.raises(ValueError, match="is a folder"):
        DataSplitter.data_split(folder, context=context)
    with pytest.raises(ValueError, match="no pipeline node"):
        DataSplitter.data_split(items["10.png"], context=dl.Context(sdk=dl))
    with pytest.raises(ValueError, match="customNodeConfig lacks 'groups'"):
        DataSplitter.data_split(items["10.png"], context=node_context(shared_project, {}, "empty"))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"name": "x"}, "customNodeConfig lacks 'groups', which must be a list of at least one group"),
        ({"groups": [{"name": "train", "distribution": -80}]}, "group 'train': distribution -80 must be"),
    ],
)
def test_a_wrong_configuration_is_refused_and_nothing_is_tagged(dl, pool, shared_project, config, message):
    dataset, items = pool
    with pytest.raises(ValueError, match=message):
        DataSplitter.data_split(items["10.png"], context=node_context(shared_project, config, "wrong"))
    assert read_tags(dataset, items["10.png"]) == {}


def test_items_of_one_source_get_one_group(dl, make_dataset, shared_project, progress):
    dataset, _ = make_dataset()
    for source in range(6):
        metadata = {"user": {"source": f"writer {source}"}}
        upload(dataset, [f"{source}-{page}.png" for page in range(3)], metadata=metadata)
    config = {**EQUAL, "itemMetadata": True, "groupBy": "metadata.user.source", "seed": 2}
    context = node_context(shared_project, config, "by source")
    groups = parse_groups(EQUAL["groups"])
    actions = set()
    for item in dataset.items.list().all():
        DataSplitter.data_split(item, progress, context)
        assert progress.action == assign_group(item.metadata["user"]["source"], groups, 2)
        assert read_tags(dataset, item) == {progress.action: True}
        actions.add((item.metadata["user"]["source"], progress.action))
    assert len(actions) == 6 and len({action for _, action in actions}) == 2
    without = upload(dataset, ["none.png"])["none.png"]
    message = rf"item '/none.png' \({without.id}\) has no 'metadata.user.source'"
    with pytest.raises(ValueError, match=message):
        DataSplitter.data_split(without, progress, context)
    assert read_tags(dataset, without) == {}


def test_a_deleted_item_is_not_found(dl, pool, context):
    dataset, _ = pool
    item = upload(dataset, ["gone.png"])["gone.png"]
    item.delete()
    with pytest.raises(dl.exceptions.NotFound):
        DataSplitter.data_split(item, context=context)


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
    tags = DataSplitter.data_split(item, progress, context).metadata["system"]["tags"]
    assert tags == {progress.action: True}


# ------------------------------------------------------------------------------------------- a whole dataset


@pytest.fixture(scope="module")
def whole(dl, make_dataset):
    dataset, items = make_dataset([f"{number:03}.png" for number in range(60)])
    tag(items["000.png"], blurry=True)
    tag(items["001.png"], validation=True)
    note = io.BytesIO(b"no image")
    note.name = "note.txt"
    dataset.items.upload(local_path=note, raise_on_error=True)
    return dataset, items


def test_a_dataset_is_split_exactly_and_else_as_the_node_would(dl, whole):
    dataset, items = whole
    result = split_dataset(dataset, GROUPS, seed=3)
    assert result.counts == result.wanted == {"train": 30, "validation": 15, "test": 15}
    assert (result.assigned, result.kept, result.skipped, result.deleted) == (59, 1, 1, 0)
    (warning,) = result.warnings
    assert "1 items" in warning and "not images" in warning
    subsets = {name: subset(dataset, name) for name in GROUPS}
    assert {name: len(ids) for name, ids in subsets.items()} == result.counts
    ids, kept = [item.id for item in items.values()], {items["001.png"].id: "validation"}
    plan = plan_split(ids, GROUPS, 3, kept=kept)
    assert {item_id: name for name, ids in subsets.items() for item_id in ids} == plan
    groups = parse_groups(GROUPS)
    as_node = sum(assign_group(item.id, groups, 3) == plan[item.id] for item in items.values())
    # The ids are new each time: that half of the items are not where they were drawn has a probability below 1e-4.
    assert as_node > 30
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


# ------------------------------------------------------------------------------------ strata and sources


@pytest.fixture
def requests(dl, monkeypatch):
    """Count what the SDK asks the platform for."""
    made = []
    ask = type(dl.client_api).gen_request

    def counting(self, *arguments, **options):
        made.append(options.get("path", arguments[1:2]))
        return ask(self, *arguments, **options)

    monkeypatch.setattr(type(dl.client_api), "gen_request", counting)
    return made


@pytest.fixture(scope="module")
def labelled(dl, make_dataset, make_model):
    """Make 40 items: 24 a, 10 b, 2 both, 4 without ground truth, of which one has a prediction; by 10 writers."""
    dataset, _ = make_dataset()
    for writer in range(10):
        metadata = {"user": {"writer": writer, "batch": writer % 2}}
        upload(dataset, [f"{writer}-{page}.png" for page in range(4)], metadata=metadata)
    items = sorted(dataset.items.list().all(), key=lambda item: item.name)
    for number, item in enumerate(items[:36]):
        for name in ["a"] * (number < 26) + ["b"] * (number >= 24):
            label(dl, item, name)
    predict(dl, items[36], make_model(), "a", 0.9)
    label(dl, items[37], "a", left=1, top=1, right=4, bottom=4)
    return dataset, items


def test_every_label_is_split_alike_in_a_few_requests(dl, labelled, requests):
    dataset, items = labelled
    result = split_dataset(dataset, {"train": 50, "validation": 25, "test": 25}, seed=1, stratify="label")
    assert len(requests) < 20 < len(items)
    assert result.counts == result.wanted == {"train": 20, "validation": 10, "test": 10}
    rows = {(row["stratum"], row["group"]): row for row in result.strata}
    wanted = {(None, "train"): 2, ("a", "train"): 12, ("a, b", "test"): 0.5, ("b", "validation"): 2.5}
    assert {key: rows[key]["wanted"] for key in wanted} == wanted
    assert len(rows) == 4 * 3 and sum(row["reached"] for row in rows.values()) == 40
    assert all(abs(row["reached"] - row["wanted"]) < 1 for row in rows.values())
    bs = {item.id for item in items[26:36]}
    for name in GROUPS:
        assert len(subset(dataset, name) & bs) == rows["b", name]["reached"]
    # A second split of other strata changes nothing, and says what it found.
    again = split_dataset(dataset, GROUPS, stratify="metadata.user.batch")
    assert again.assigned == 0 and {row["stratum"] for row in again.strata} == {"0", "1"}


def test_sources_stay_together_and_a_missing_one_is_named(dl, make_dataset):
    dataset, _ = make_dataset()
    for writer, pages in enumerate([5, 4, 3, 3, 2, 2, 1]):
        upload(dataset, [f"{writer}-{page}.png" for page in range(pages)], {"user": {"writer": f"w{writer}"}})
    result = split_dataset(dataset, GROUPS, group_by="metadata.user.writer", stratify="label")
    assert result.counts == {"train": 10, "validation": 5, "test": 5} and not result.warnings
    for writer in range(7):
        pages = [item for item in dataset.items.list().all() if item.name[0] == str(writer)]
        assert all(read_tags(dataset, page) == read_tags(dataset, pages[0]) for page in pages)
    # A later page goes where its writer is.
    late = upload(dataset, ["0-late.png"], {"user": {"writer": "w0"}})
    result = split_dataset(dataset, GROUPS, group_by="metadata.user.writer")
    assert read_tags(dataset, late["0-late.png"]) == read_tags(dataset, late["0-0.png"])
    assert result.assigned == 1
    other = upload(dataset, ["other.png"])["other.png"]
    with pytest.raises(ValueError, match=r"item '/other.png' .* has no 'metadata.user.writer'"):
        split_dataset(dataset, GROUPS, group_by="metadata.user.writer")
    assert read_tags(dataset, other) == {}


def test_sources_that_cannot_be_divided_and_empty_groups_are_said(dl, make_dataset):
    dataset, _ = make_dataset([f"{number}.png" for number in range(6)])
    result = split_dataset(dataset, GROUPS, group_by="dir")
    assert sorted(result.counts.values()) == [0, 0, 6]
    assert any("sources are not divided" in warning for warning in result.warnings)
    assert any("no item is in 'validation', 'test'" in warning for warning in result.warnings)


# ------------------------------------------------------------------------ what happens while the split runs


@pytest.fixture
def split_meanwhile(monkeypatch):
    """Split a dataset, and call a function with the plan just before the items are tagged."""

    def split(action, dataset, groups):
        tag_all = data_split._tag_all

        def late(dataset, listed, plan, groups):
            action(plan)
            tag_all(dataset, listed, plan, groups)

        with monkeypatch.context() as patched:
            patched.setattr(data_split, "_tag_all", late)
            return split_dataset(dataset, groups)

    return split


def test_items_that_are_deleted_meanwhile_are_counted_and_no_error(make_dataset, split_meanwhile):
    dataset, items = make_dataset([f"{number:02}.png" for number in range(20)])
    tag(items["00.png"], blurry=True)

    def delete(plan):
        for name in ("00.png", "01.png", "02.png"):
            items[name].delete()

    result = split_meanwhile(delete, dataset, GROUPS)
    assert (result.deleted, result.assigned, result.kept) == (3, 17, 0)
    assert sum(result.counts.values()) == 17 and sum(result.wanted.values()) == 20
    assert ["3 items" in warning and "deleted" in warning for warning in result.warnings] == [True]
    again = split_dataset(dataset, GROUPS)
    assert (again.deleted, again.assigned, again.kept) == (0, 0, 17) and again.counts == result.counts


def test_items_that_come_meanwhile_are_said_and_taken_by_the_next_run(make_dataset, split_meanwhile):
    dataset, _ = make_dataset([f"{number:02}.png" for number in range(10)])
    halves, late = {"train": 50, "test": 50}, ["late 0.png", "late 1.png"]
    result = split_meanwhile(lambda plan: upload(dataset, late), dataset, halves)
    assert result.counts == {"train": 5, "test": 5}
    (warning,) = result.warnings
    assert "2 items" in warning and "run the split again" in warning
    again = split_dataset(dataset, halves)
    assert again.counts == {"train": 6, "test": 6} and again.assigned == 2 and not again.warnings


@pytest.mark.parametrize(
    "options", [{}, {"stratify": "metadata.user.kind"}, {"group_by": "metadata.user.kind"}]
)
def test_a_run_that_is_cut_off_is_finished_by_the_next(dl, make_dataset, monkeypatch, options):
    dataset, _ = make_dataset()
    for kind in "uvwxyz":
        upload(dataset, [f"{kind}{number}.png" for number in range(4)], {"user": {"kind": kind}})
    items = list(dataset.items.list().all())
    kinds = [item.metadata["user"]["kind"] for item in items]
    names = {"stratify": "strata", "group_by": "sources"}
    plan = plan_split([item.id for item in items], GROUPS, 4, **{names[option]: kinds for option in options})
    monkeypatch.setattr(reading, "IDS_PER_QUERY", 3)
    update, calls = type(dataset.items).update, itertools.count()

    def cut_off(self, **arguments):
        if next(calls) == 3:
            raise KeyboardInterrupt
        return update(self, **arguments)

    with monkeypatch.context() as patched:
        patched.setattr(type(dataset.items), "update", cut_off)
        with pytest.raises(KeyboardInterrupt):
            split_dataset(dataset, GROUPS, seed=4, **options)
    half = {name: subset(dataset, name) for name in GROUPS}
    assert 0 < sum(map(len, half.values())) < 24
    result = split_dataset(dataset, GROUPS, seed=4, **options)
    assert result.kept == sum(map(len, half.values())) and result.kept + result.assigned == 24
    done = {item_id: name for name in GROUPS for item_id in subset(dataset, name)}
    assert done == plan and result.counts == {"train": 12, "validation": 6, "test": 6} | (
        {name: list(plan.values()).count(name) for name in GROUPS} if "group_by" in options else {}
    )


def test_an_item_that_the_pipeline_tags_meanwhile_keeps_that_group(make_dataset, split_meanwhile):
    dataset, items = make_dataset([f"{number}.png" for number in range(6)])
    tag(items["5.png"], blurry=True)

    def tag_otherwise(plan):
        for name in ("0.png", "5.png"):
            item = dataset.items.get(item_id=items[name].id)
            data_split.tag_item(item, "test" if plan[item.id] == "train" else "train")

    result = split_meanwhile(tag_otherwise, dataset, {"train": 50, "test": 50})
    assert (result.assigned, result.kept) == (4, 2)
    for item in items.values():
        tags = read_tags(dataset, item)
        assert sum(tags.get(name) is True for name in ("train", "test")) == 1


def test_tags_that_are_not_written_are_an_error(dl, make_dataset, monkeypatch):
    dataset, _ = make_dataset(["a.png", "b.png"])
    monkeypatch.setattr(type(dataset.items), "update", lambda self, **_: None)
    with pytest.raises(RuntimeError, match="2 of 2 items .* did not get the tag .* run the split again"):
        split_dataset(dataset, {"train": 1})
