"""Filters as the SDK sends them."""

import datetime

import pytest
from helpers_contract import annotate, classify, fails


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


def test_nested_equals_dotted(dl, tagged, found):
    train = {"metadata": {"system": {"tags": {"train": True}}}}
    nested = {"filter": {"$and": [{"hidden": False}, {"$or": [train]}]}}
    dotted = {"filter": {"$and": [{"metadata.system.tags.train": True}, {"type": "file"}]}}
    assert found(dl.Filters(custom_filter=nested)) == found(dl.Filters(custom_filter=dotted)) == "0"


def test_exists_splits_the_items(dl, tagged, found):
    for key, having, lacking in (("train", "01", "2"), ("test-set", "2", "01")):
        for there, expected in ((True, having), (False, lacking)):
            assert found(f"metadata.system.tags.{key}", there, dl.FiltersOperations.EXISTS) == expected


def test_comparisons_look_into_arrays(dl, tagged, found):
    field = "metadata.user.scores"
    assert found(field, 10, "gte") == "12"
    assert found(field, 10) == "1"
    assert found(field, 10, "ne") == "02"
    assert found(field, [10, 20], "nin") == "0"


def test_dates_compare_as_dates(dl, dataset, tagged, found):
    filters = dl.Filters(field="metadata.user.made", values="2024-01-01T01:00:00+01:00", operator="gt")
    assert found(filters) == "12"
    now = dataset.items.list().items[0].created_at
    assert len(found("createdAt", now, "gte")) >= 1
    assert found("createdAt", "2000-01-01", "lt") == ""


@pytest.mark.parametrize(
    ("custom", "message"),
    [
        (
            {"filter": {"$and": [{"name": {"$almost": "x"}}]}},
            r"unknown operator '\$almost' on 'name'.*\$nin.*\$exists",
        ),
        ({"filter": {"$and": {"name": "x"}}}, "needs a list of filters"),
        ({"filter": {"name": {"$in": "x"}}}, "needs a list"),
        ({"filter": {"name": {"$eq": 1, "other": 2}}}, "mixes operators"),
        ({"filter": [1]}, "must be an object"),
        ({"filter": {}, "page": -1}, "'page' must be a whole number"),
        ({"filter": {}, "sort": {"name": "up"}}, "cannot sort 'name' by 'up'"),
        (
            {"filter": {}, "sort": dict.fromkeys(map(str, range(17)), 1)},
            "'sort' must be .* of at most 16 fields",
        ),
        (
            {"filter": {}, "join": {"on": {"resource": "tasks"}, "filter": {}}},
            "cannot join items with 'tasks'",
        ),
    ],
)
def test_malformed_queries_say_what_is_wrong(dl, dataset, custom, message):
    fails(dl.exceptions.BadRequest, message, dataset.items._list, dl.Filters(custom_filter=custom))


def test_a_deep_filter_is_refused(dl, dataset):
    custom = {"name": "x"}
    for _ in range(200):
        custom = {"$and": [custom]}
    with pytest.raises(dl.exceptions.BadRequest, match="nests deeper than 40"):
        dataset.items._list(dl.Filters(custom_filter={"filter": custom}))


def test_what_is_not_emulated_says_so(dl, project):
    success, answer = dl.client_api.gen_request(req_type="post", path="/no/such/thing")
    fails(dl.exceptions.NotFound, "not emulated offline: POST", dl.client_api.check_response, success, answer)


def test_saved_filters(dl, project, dataset, fill):
    filters = dl.Filters(field="name", values="x.png")
    filters.add_join(field="label", values="a")
    filters.save(project, "mine")
    assert dl.Filters.list(project) == ["mine"]
    loaded = dl.Filters.load(project, "mine")
    assert dataset.items.list(loaded).items_count == 0
    (item,) = fill(names=["x.png"])
    classify(dl, item, "a")
    fill(names=["y.png"])
    assert [each.id for each in dataset.items.list(loaded).all()] == [item.id]


@pytest.fixture
def tree(fill):
    """Lay out images in folders: a name for each path."""
    for path, name in (
        ("/", "a.png"),
        ("/dir1", "b cat.png"),
        ("/dir1/dir2", "c.png"),
        ("/dir1/dir2/dir3", "d.cat.png"),
        ("/dir10", "e.png"),
    ):
        fill(names=[name], remote_path=path)


PATHS = [
    ("dir", "/dir1", "b"),
    ("dir", "/dir1/", "b"),
    ("dir", "/", "a"),
    ("dir", "/dir1*", "bcde"),
    ("dir", "/dir1/*", "cd"),
    ("dir", "dir1", ""),
    ("filename", "/dir1/**", "bcd"),
    ("filename", "/dir1", "bcd"),
    ("filename", "/dir1/dir2/*", "cd"),
    ("filename", "/**", "abcde"),
    ("filename", "/*", "abcde"),
    ("filename", "/dir1/dir2/c.png", "c"),
    ("filename", "**/c.png", "c"),
    ("filename", "*.png", "abcde"),
    ("filename", "/DIR1/**", ""),
    ("name", "*cat*", "bd"),
    ("name", "c.png", "c"),
    ("name", "c.*", "c"),
    ("name", "c", ""),
    ("metadata.system.mimetype", "image*", "abcde"),
    ("metadata.system.mimetype", "video*", ""),
    ("metadata.system.originalname", "c.png", "c"),
]


def test_without_a_sort_the_newest_come_first(dl, dataset, tree):
    # Other filters the SDK itself sorts, by id.
    for condition in ({}, {"metadata.system.size": {"$gt": 0}}):
        filters = dl.Filters(custom_filter={"filter": condition})
        created = [item.id for item in dataset.items.list(filters).items]
        assert len(created) > 4 and created == sorted(created, reverse=True)


def test_paths_and_wildcards(dl, dataset, tree, found):
    for field, value, expected in PATHS:
        assert found(field, value) == expected, (field, value)
    assert found("name", "*cat*", "ne") == "ace"
    assert found("name", ["a*", "*cat*"], "in") == "abd"
    assert found("dir", ["/dir1", "/dir10/"], "in") == "be"
    assert found("dir", ["/dir1", "/"], "nin") == "cde"
    assert found("filename", "*.cat.png", "match") == "d"


def test_a_folder_is_downloaded_with_what_is_below_it(dl, dataset, tree, tmp_path):
    dataset.download_folder(folder_path="dir1", local_path=str(tmp_path / "out"))
    found = sorted(
        str(path.relative_to(tmp_path / "out/items")) for path in (tmp_path / "out").rglob("*.png")
    )
    assert found == ["dir1/b cat.png", "dir1/dir2/c.png", "dir1/dir2/dir3/d.cat.png"]


def test_either_of_two_conditions(dl, tree, found):
    filters = dl.Filters()
    filters.add(field="dir", values="/dir10", method=dl.FiltersMethod.OR)
    filters.add(field="name", values="a.png", method=dl.FiltersMethod.OR)
    assert found(filters) == "ae"
    filters.add(field="name", values="e*")
    assert found(filters) == "e"
    filters.pop("name")
    filters = dl.Filters()
    filters.add(field="dir", values="/dir10")
    filters.add(field="dir", values="/dir1")
    assert found(filters) == ""


def test_defaults_and_directories(dl, dataset, fill):
    fill(names=["a.png"], remote_path="/d")
    fill(names=["b.png"], remote_path="/.h")

    def paths(filters):
        return sorted(item.filename for item in dataset.items.list(filters).all())

    assert paths(dl.Filters()) == ["/d/a.png"]
    assert paths(dl.Filters(field="type", values="dir")) == ["/d"]
    assert paths(dl.Filters(use_defaults=False)) == ["/.h", "/.h/b.png", "/d", "/d/a.png"]
    filters = dl.Filters()
    filters.pop("type")
    assert paths(filters) == ["/d", "/d/a.png"]
    assert paths(dl.Filters(field="hidden", values=True)) == ["/.h/b.png"]


def test_numbers_compare_as_numbers_even_as_text(dl, dataset, fill, found):
    fill(2)
    for operator, bound, expected in (
        ("gt", 5, 2),
        ("gt", 6, 0),
        ("gte", 6, 2),
        ("lt", 10, 2),
        ("lte", 5, 0),
    ):
        for value in (bound, str(bound)):
            assert len(found("metadata.system.width", value, operator)) == expected, (operator, value)
    assert len(found("metadata.system.width", 6)) == 2
    assert len(found("metadata.system.width", "6")) == 0


def test_a_plain_list_is_one_of_its_values_or_the_list_itself(dl, dataset, fill, found):
    first, second, third = fill(3)
    for item, value in ((first, "day"), (second, "night"), (third, ["day", "night"])):
        item.metadata["user"] = {"when": value}
        item.update()
    assert found("id", [first.id, third.id]) == "02"
    assert found("metadata.user.when", ["day"]) == "0"
    assert len(found("metadata.user.when", ["day", "night"])) == 3
    assert len(found("metadata.system.refs", [])) == 3
    filters = dl.Filters(field="id", values=[first.id, second.id])
    task = dataset.tasks.create(task_name="two", assignee_ids=["ann@example.com"], filters=filters)
    assert task.total_items == 2
    assert found("metadata.system.refs", []) == "2"
    assert len(found("metadata.system.refs.id", [task.id])) == 2


def test_values_have_types(dl, dataset, fill, found):
    first, second, third = fill(3)
    for item, value in ((first, True), (second, 1), (third, "true")):
        item.metadata["user"] = {"value": value}
        item.update()
    for value, expected in ((True, "0"), (1, "1"), ("true", "2")):
        assert found("metadata.user.value", value) == expected
    assert len(found("metadata.user.value", None)) == 0
    assert len(found("metadata.user.missing", None)) == 3


def test_keys_with_dashes_and_underscores(dl, dataset, item, found):
    item.metadata["user"] = {"a-b_c": {"d e": 1, "é": [{"x-y": 2}]}}
    item.update()
    for field, value in (("a-b_c.d e", 1), ("a-b_c.é.x-y", 2), ("a-b_c.é.0.x-y", 2)):
        assert found(f"metadata.user.{field}", value) == "0"
        assert found(f"metadata.user.{field}", True, "exists") == "0"
        assert found(f"metadata.user.{field}", False, "exists") == ""


def test_match_looks_at_one_element(dl, dataset, fill, found):
    both, apart, none = fill(3)

    def ref(task, status, day):
        metadata = {"status": status, "timestamp": f"2024-05-{day}T00:00:00Z"}
        return {"id": task, "type": "task", "metadata": metadata}

    both.metadata["user"] = {"refs": [ref("t1", "done", "02")]}
    apart.metadata["user"] = {"refs": [ref("t1", "open", "03"), ref("t2", "done", "03")]}
    none.metadata["user"] = {"refs": []}
    for item in (both, apart, none):
        item.update()

    def matched(values):
        return found("metadata.user.refs", values, "match")

    assert matched({"id": "t1", "metadata": {"status": {"$eq": "done"}}}) == "0"
    assert matched({"id": "t1", "metadata": {"timestamp": {"$gt": "2024-05-02T12:00:00Z"}}}) == "1"
    assert matched({"id": {"$in": ["t1", "t2"]}, "metadata": {"status": "done"}}) == "01"
    assert matched({"id": "t1", "metadata": {"status": {"$exists": False}}}) == ""
    assert found("metadata.user.refs", []) == "2"
    # Without match the conditions may hold for different elements.
    spread = dl.Filters(field="metadata.user.refs.id", values="t1")
    spread.add(field="metadata.user.refs.metadata.status", values="done")
    assert found(spread) == "01"
    assert found("metadata.user.refs.id", "t2", "ne") == "02"


def test_created_and_updated_compare_with_dates(dl, dataset, fill, found):
    before = datetime.datetime.now(datetime.UTC).replace(tzinfo=None).isoformat()
    first, second = fill(2)
    filters = dl.Filters(field="createdAt", values=before, operator=dl.FiltersOperations.GREATER_THAN)
    filters.add(field="createdAt", values="2199-01-01", operator=dl.FiltersOperations.LESS_THAN)
    assert found(filters) == "01"
    assert found("createdAt", first.created_at) != ""
    second.set_description("x")
    changed_at = dataset.items.get(item_id=second.id).updated_at
    assert found("updatedAt", changed_at, "gte") == "1"
    assert found("updatedAt", before, "lt") == ""


def test_sorting_by_several_keys_over_pages(dl, dataset, fill):
    items = fill(7)
    for number, item in enumerate(items):
        item.metadata["user"] = {"group": number % 2, "made": f"2024-01-0{7 - number}"}
        item.update()

    def names(*keys, size=3):
        filters = dl.Filters()
        for field, direction in keys:
            filters.sort_by(field, direction)
        return [item.name[3] for item in dataset.items.list(filters, page_size=size).all()]

    down, up = dl.FiltersOrderByDirection.DESCENDING, dl.FiltersOrderByDirection.ASCENDING
    assert names(("name", down)) == list("6543210")
    assert names(("metadata.user.group", up), ("name", down)) == list("6420531")
    assert names(("metadata.user.group", down), ("name", up)) == list("1350246")
    assert names(("metadata.user.made", up)) == list("6543210")
    by_creation = names(("createdAt", up))
    assert by_creation == names() == [item.name[3] for item in sorted(items, key=lambda item: item.id)]
    assert names(("createdAt", down)) == by_creation[::-1]
    # Equal keys keep one order on all pages, so nothing is shown twice or lost.
    assert sorted(names(("type", up), size=2)) == list("0123456")
    fails(dl.exceptions.BadRequest, "ascending or descending", dl.Filters().sort_by, "name", "sideways")


def test_sorting_by_times_and_types(dl, dataset, fill):
    items = fill(4)
    for number in (2, 0, 3, 1):
        items[number].set_description("x")
    filters = dl.Filters()
    filters.sort_by("updatedAt", dl.FiltersOrderByDirection.DESCENDING)
    assert [item.name[3] for item in dataset.items.list(filters, page_size=2).all()] == list("1302")
    for _ in range(2):
        for definition in (dl.Point(1, 1, label="x"), dl.Box(1, 1, 2, 2, label="x"), dl.Classification("x")):
            annotate(dl, items[0], definition)
    made = ["point", "box", "class"] * 2
    for field, expected in (("type", sorted(made)), ("createdAt", made)):
        filters = dl.Filters(resource=dl.FiltersResource.ANNOTATION)
        filters.sort_by(field)
        found = list(dataset.annotations.list(filters, page_size=2).all())
        assert [annotation.type for annotation in found] == expected and len({each.id for each in found}) == 6


def test_walking_through_pages(dl, dataset, fill):
    fill(7)
    filters = dl.Filters()
    filters.sort_by("name")
    pages = dataset.items.list(filters, page_size=3)
    assert (pages.items_count, pages.total_pages_count, pages.has_next_page) == (7, 3, True)
    assert [item.name[3] for item in pages.items] == list("012")
    pages.next_page()
    assert [item.name[3] for item in pages.items] == list("345")
    pages.prev_page()
    assert [item.name[3] for item in pages.items] == list("012")
    pages.go_to_page(2)
    assert [item.name[3] for item in pages.items] == list("6") and pages.has_next_page is False
    assert [item.name[3] for item in pages[1]] == list("345")
    assert [[item.name[3] for item in page] for page in reversed(pages)] == [["6"], list("345"), list("012")]
    beyond = dataset.items.list(dl.Filters(), page_size=3, page_offset=9)
    assert list(beyond.items) == [] and beyond.items_count == 7
    assert len(dataset.items.get_all_items()) == 7
    counted = dataset.items.list(dl.Filters(page_size=0))
    assert counted.items_count == 7 and len(counted.items) == 0


def test_custom_filters(dl, dataset, tagged, found):
    assert found(dl.Filters(custom_filter={"$and": [{"hidden": False}, {"type": "file"}]})) == "012"
    either = {"$or": [{"name": "0000.png"}, {"$and": [{"name": "0002*"}]}]}
    assert found(dl.Filters(custom_filter=either)) == "02"
    with_paging = {"filter": {"type": "file"}, "page": 1, "pageSize": 2, "sort": {"name": "descending"}}
    page = dataset.items.list(dl.Filters(custom_filter=with_paging))
    assert [item.name for item in page.items] == ["0000.png"]


@pytest.fixture
def labelled(dl, fill):
    """Three items: one with 'car' and 'person', one with 'car', one without annotations."""
    both, one, _ = fill(3)
    for item, labels in ((both, ("car", "person")), (one, ("car",))):
        annotate(dl, item, *(dl.Box(1, 1, 2, 2, label=label) for label in labels))


def test_joins(dl, dataset, labelled, found):
    def joined(*conditions, method=dl.FiltersMethod.AND):
        filters = dl.Filters()
        for field, values, operator in conditions:
            filters.add_join(field=field, values=values, operator=operator, method=method)
        return found(filters)

    assert joined(("label", ["person", "dog"], dl.FiltersOperations.IN)) == "0"
    assert joined(("type", "box", None)) == "01"
    # One annotation has to satisfy all conditions.
    assert joined(("label", "person", None), ("label", "car", None)) == ""
    assert joined(("label", "person", None), ("label", "car", None), method=dl.FiltersMethod.OR) == "01"
    # Not equal still asks for an annotation.
    assert joined(("label", "car", dl.FiltersOperations.NOT_EQUAL)) == "0"
    assert joined(("label", "dog", dl.FiltersOperations.NOT_EQUAL)) == "01"
    filters = dl.Filters(field="annotated", values=True)
    filters.add_join(field="label", values="person")
    assert filters.join["on"]["forigen"] == "id"
    filters.pop_join("label")
    assert found(filters) == "01"
    assert found("annotated", False) == "2"
    with pytest.raises(dl.exceptions.BadRequest, match="Cannot join"):
        dl.Filters(resource=dl.FiltersResource.DATASET).add_join(field="label", values="x")


def test_intersect_and_except(dl, dataset, labelled, found):
    def joined(label):
        on = {"resource": "annotations", "local": "itemId", "forigen": "id"}
        return {"on": on, "filter": {"label": label}}

    files = {"$and": [{"hidden": False}, {"type": "file"}]}
    query = {"filter": files, "join": joined("car")}
    both = query | {"intersect": {"query": {"filter": files, "join": joined("person")}}}
    assert found(dl.Filters(custom_filter=both)) == "0"
    without = {"filter": files, "except": {"query": {"join": joined("person")}}}
    assert found(dl.Filters(custom_filter=without)) == "12"
    for broken in ({"query": 1}, 1, {"query": both}):
        with pytest.raises(dl.exceptions.BadRequest, match="'except' must be"):
            dataset.items._list(dl.Filters(custom_filter={"filter": files, "except": broken}))


def test_annotations_are_sorted_and_paged(dl, dataset, labelled):
    filters = dl.Filters(resource=dl.FiltersResource.ANNOTATION)
    filters.sort_by("label", dl.FiltersOrderByDirection.DESCENDING)
    filters.sort_by("createdAt")
    pages = dataset.annotations.list(filters, page_size=2)
    assert [annotation.label for annotation in pages.all()] == ["person", "car", "car"]
    assert pages.items_count == 3
    assert dataset.items.list(dl.Filters(resource=dl.FiltersResource.ANNOTATION)).items_count == 3


def test_paging_by_id(dl, dataset, fill):
    items = fill(7)
    for item in items[:5]:
        classify(dl, item, "x")
    pages = dataset.items.list(page_size=3)
    assert pages.use_id_based_paging is True
    seen = [[item.id for item in page] for page in pages]
    assert [len(page) for page in seen] == [3, 3, 1]
    assert sum(seen, []) == sorted(item.id for item in items)
    found = [annotation.id for annotation in dataset.annotations.list(page_size=2).all()]
    assert len(found) == 5 and found == sorted(found)
    # What is deleted on the way disturbs nothing.
    assert sum(item.delete() for item in dataset.items.list(page_size=2).all()) == 7
    assert dataset.items.list().items_count == 0


def test_ranges_of_ids_cover_everything_once(dl, dataset, fill):
    fill(7)
    only = dl.Filters(field="name", values="0000.png", operator="ne")
    ranges = list(dl.Filters._get_split_filters(dataset=dataset, filters=only, max_items=2))
    found = [
        item.name for each in ranges for item in dataset.items.list(dl.Filters(custom_filter=each)).all()
    ]
    assert len(ranges) > 2 and sorted(found) == [f"{number:04}.png" for number in range(1, 7)]
