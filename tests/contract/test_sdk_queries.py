"""Filters as the SDK sends them."""

import pytest


@pytest.fixture
def names(dataset):
    def names_of(filters):
        return sorted(item.name for item in dataset.items.list(filters).all())

    return names_of


@pytest.fixture
def tagged(dataset, fill):
    first, second, third = fill(3)
    for item, tags in ((first, {"train": True}), (second, {"train": False}), (third, {"test-set": True})):
        item.metadata["system"]["tags"] = tags
        item.metadata["user"] = {
            "scores": [len(tags), 10 * int(item.name[:4])],
            "made": f"2024-01-0{int(item.name[3]) + 1}T00:00:00Z",
        }
        item.update(system_metadata=True)
    return first, second, third


def test_nested_equals_dotted(dl, tagged, names):
    nested = {
        "filter": {
            "$and": [{"hidden": False}, {"$or": [{"metadata": {"system": {"tags": {"train": True}}}}]}]
        }
    }
    dotted = {"filter": {"$and": [{"metadata.system.tags.train": True}, {"type": "file"}]}}
    assert names(dl.Filters(custom_filter=nested)) == names(dl.Filters(custom_filter=dotted)) == ["0000.png"]


def test_exists_splits_the_items(dl, tagged, names):
    for key, expected in (("train", ["0000.png", "0001.png"]), ("test-set", ["0002.png"])):
        field = f"metadata.system.tags.{key}"
        exists = dl.FiltersOperations.EXISTS
        assert names(dl.Filters(field=field, values=True, operator=exists)) == expected
        others = sorted({"0000.png", "0001.png", "0002.png"} - set(expected))
        assert names(dl.Filters(field=field, values=False, operator=exists)) == others


def test_comparisons_look_into_arrays(dl, tagged, names):
    field = "metadata.user.scores"
    assert names(dl.Filters(field=field, values=10, operator="gte")) == ["0001.png", "0002.png"]
    assert names(dl.Filters(field=field, values=10)) == ["0001.png"]
    assert names(dl.Filters(field=field, values=10, operator="ne")) == ["0000.png", "0002.png"]
    assert names(dl.Filters(field=field, values=[10, 20], operator="nin")) == ["0000.png"]


def test_dates_compare_as_dates(dl, dataset, tagged, names):
    filters = dl.Filters(field="metadata.user.made", values="2024-01-01T01:00:00+01:00", operator="gt")
    assert names(filters) == ["0001.png", "0002.png"]
    now = dataset.items.list().items[0].created_at
    assert len(names(dl.Filters(field="createdAt", values=now, operator="gte"))) >= 1
    assert names(dl.Filters(field="createdAt", values="2000-01-01", operator="lt")) == []


def test_directories_and_wildcards(dl, fill, names):
    fill(names=["a.png"], remote_path="/one")
    fill(names=["b.png"], remote_path="/one/two")
    fill(names=["b.png"], remote_path="/.hidden")
    assert names(dl.Filters(field="dir", values="/one")) == ["a.png"]
    assert names(dl.Filters(field="filename", values="/one/**")) == ["a.png", "b.png"]
    assert names(dl.Filters(field="filename", values="/one/*")) == ["a.png"]
    assert names(dl.Filters(field="filename", values="/one")) == ["a.png", "b.png"]
    assert names(dl.Filters(field="name", values="*b.*")) == ["b.png"]
    assert names(dl.Filters(field="metadata.system.mimetype", values="image*")) == [
        "a.png",
        "b.png",
    ]
    assert names(dl.Filters(field="hidden", values=True)) == ["b.png"]


def test_joins_with_annotations(dl, dataset, fill, names):
    first, second, _ = fill(3)
    for item, labels in ((first, ("a", "b")), (second, ("b",))):
        annotations = [dl.Annotation.new(annotation_definition=dl.Classification(label)) for label in labels]
        item.annotations.upload(annotations)
    filters = dl.Filters()
    filters.add_join(field="label", values="a")
    assert filters.join["on"]["forigen"] == "id"
    assert names(filters) == ["0000.png"]
    filters = dl.Filters()
    filters.add_join(field="label", values="a", operator=dl.FiltersOperations.NOT_EQUAL)
    assert names(filters) == ["0000.png", "0001.png"]
    filters = dl.Filters(resource=dl.FiltersResource.ANNOTATION)
    filters.add_join(field="name", values="0001.png")
    assert [each.label for each in dataset.annotations.list(filters).all()] == ["b"]


def test_an_unknown_operator_is_named(dl, dataset):
    custom = {"filter": {"$and": [{"name": {"$almost": "x"}}]}}
    with pytest.raises(
        dl.exceptions.BadRequest, match=r"unknown operator '\$almost' on 'name'.*\$nin.*\$exists"
    ):
        dataset.items._list(dl.Filters(custom_filter=custom))


@pytest.mark.parametrize(
    ("custom", "message"),
    [
        ({"filter": {"$and": {"name": "x"}}}, "needs a list of filters"),
        ({"filter": {"name": {"$in": "x"}}}, "needs a list"),
        ({"filter": {"name": {"$eq": 1, "other": 2}}}, "mixes operators"),
        ({"filter": [1]}, "must be an object"),
        ({"filter": {}, "page": -1}, "'page' must be a whole number"),
        ({"filter": {}, "sort": {"name": "up"}}, "cannot sort 'name' by 'up'"),
        (
            {"filter": {}, "join": {"on": {"resource": "tasks"}, "filter": {}}},
            "cannot join items with 'tasks'",
        ),
    ],
)
def test_malformed_queries_say_what_is_wrong(dl, dataset, custom, message):
    with pytest.raises(dl.exceptions.BadRequest, match=message):
        dataset.items._list(dl.Filters(custom_filter=custom))


def test_a_deep_filter_is_refused(dl, dataset):
    custom = {"name": "x"}
    for _ in range(200):
        custom = {"$and": [custom]}
    with pytest.raises(dl.exceptions.BadRequest, match="nests deeper than 40"):
        dataset.items._list(dl.Filters(custom_filter={"filter": custom}))


def test_what_is_not_emulated_says_so(dl, project):
    success, answer = dl.client_api.gen_request(req_type="post", path="/no/such/thing")
    with pytest.raises(dl.exceptions.NotFound, match="not emulated offline: POST"):
        dl.client_api.check_response(success, answer)


def test_projects_and_datasets_by_name(dl, project):
    assert dl.projects.get(project_name=project.name).id == project.id
    assert project.id in [each.id for each in dl.projects.list()]
    with pytest.raises(dl.exceptions.NotFound):
        dl.projects.get(project_name="none of this name")
    with pytest.raises(dl.exceptions.BadRequest, match="Failed to create project"):
        dl.projects.create(project.name)
    with pytest.raises(dl.exceptions.BadRequest, match="illegal characters"):
        dl.projects.create("a/b")
    made = project.datasets.create("one", labels=[dl.Label(tag="x", color=(1, 2, 3))])
    assert [label.tag for label in made.labels] == ["x"]
    assert [each.name for each in project.datasets.list()] == ["one"]
    assert project.datasets.get(dataset_name="one").id == made.id
    with pytest.raises(dl.exceptions.BadRequest, match="'one' exists"):
        project.datasets.create("one")
    other = project.datasets.create("two")
    other.name = "one"
    with pytest.raises(dl.exceptions.BadRequest, match="'one' exists"):
        other.update()
    read = dl.datasets.get(dataset_id=made.id)
    read.metadata["user"] = {"a": 1}
    read.update()
    again = dl.datasets.get(dataset_id=made.id)
    assert (
        again.metadata["user"] == {"a": 1}
        and again.metadata["system"]["recipes"] == read.metadata["system"]["recipes"]
    )
    dl.projects.delete(project_id=project.id, sure=True, really=True)
    with pytest.raises(dl.exceptions.NotFound):
        dl.datasets.get(dataset_id=made.id)


def test_labels(dl, dataset):
    dataset.add_label("animal.cat", color="#010203")
    dataset.add_labels(["plant", {"tag": "animal.dog"}])
    read = dl.datasets.get(dataset_id=dataset.id)
    assert sorted(read.labels_flat_dict) == ["animal", "animal.cat", "animal.dog", "plant"]
    assert read.labels_flat_dict["animal.cat"].hex == "#010203"
    with pytest.raises(dl.exceptions.BadRequest, match="'stone' is not in the ontology"):
        dataset.update_labels(["stone"])
    dataset.delete_labels(["plant"])
    assert sorted(dl.datasets.get(dataset_id=dataset.id).labels_flat_dict) == [
        "animal",
        "animal.cat",
        "animal.dog",
    ]


def test_saved_filters(dl, project, dataset, fill):
    filters = dl.Filters(field="name", values="x.png")
    filters.add_join(field="label", values="a")
    filters.save(project, "mine")
    assert dl.Filters.list(project) == ["mine"]
    loaded = dl.Filters.load(project, "mine")
    assert dataset.items.list(loaded).items_count == 0
    (item,) = fill(names=["x.png"])
    item.annotations.upload([dl.Annotation.new(annotation_definition=dl.Classification("a"))])
    fill(names=["y.png"])
    assert [each.id for each in dataset.items.list(loaded).all()] == [item.id]
