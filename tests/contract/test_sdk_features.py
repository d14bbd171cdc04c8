"""Feature sets, vectors, and items by the distance of their vectors."""

import math
import re

import pytest
from helpers_contract import MISSING, classify, fails, get_json, install, not_found, send


@pytest.fixture
def features(dl, project):
    return project.feature_sets.create(
        name="positions", size=2, set_type="embeddings", entity_type=dl.FeatureEntityType.ITEM
    )


@pytest.fixture
def placed(features, fill):
    """Items with the vectors (0, 0), (1, 1), (2, 2), and one without."""
    items = fill(4)
    features.features.create(value=[[place, place] for place in range(3)], entity=items[:3])
    return items


def near(features, euclid, size=1000):
    """The query of the platform's documentation for items near a vector."""
    return {
        "filter": {"$and": [{"hidden": False}, {"type": "file"}]},
        "page": 0,
        "pageSize": size,
        "resource": "items",
        "join": {
            "on": {"resource": "feature_vectors", "local": "entityId", "forigen": "id"},
            "filter": {"featureSetId": features.id} | ({"value": {"$euclid": euclid}} if euclid else {}),
        },
    }


def test_a_feature_set_is_made_read_changed_and_deleted(dl, project, features):
    assert features.to_json() == get_json(dl, f"/features/sets/{features.id}")
    assert (features.size, features.set_type, features.entity_type) == (2, "embeddings", "item")
    assert project.feature_sets.get(feature_set_name="positions").id == features.id
    features.name = "places"
    assert features.update().name == "places"
    assert [each.name for each in project.feature_sets.list().all()] == ["places"]
    assert features.delete()
    with pytest.raises(dl.exceptions.NotFound, match="feature set not found"):
        project.feature_sets.get(feature_set_id=features.id)
    not_found(dl, lambda: project.feature_sets.get(feature_set_name="places"))


def test_feature_sets_of_another_project_are_not_listed(dl, project, features):
    other = dl.projects.create(f"{project.name}-other")
    assert other.feature_sets.list().items_count == 0
    assert other.feature_sets.create("positions", 3, "embeddings", "item").size == 3


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"size": 0}, "length of its vectors"),
        ({"entity_type": "planet"}, "'entityType' must be one of item, annotation, dataset"),
        ({"name": "positions"}, "'positions' exists in project"),
        ({"name": ""}, "'name' must be a non-empty string"),
    ],
)
def test_a_wrong_feature_set_is_refused(dl, project, features, wrong, message):
    with pytest.raises(dl.exceptions.BadRequest, match=message):
        project.feature_sets.create(
            **{"name": "more", "size": 1, "set_type": "e", "entity_type": "item"} | wrong
        )
    assert project.feature_sets.list().items_count == 1


def test_vectors_are_made_read_and_deleted(dl, project, dataset, features, fill):
    first, second = fill(2)
    vector = features.features.create(value=[1.5, -2], entity=first, version="1.0.0")
    assert (vector.value, vector.entity_id, vector.version) == ([1.5, -2], first.id, "1.0.0")
    read = get_json(dl, f"/features/vectors/{vector.id}")
    assert read.pop("datasetId") == dataset.id and read == vector.to_json()
    features.features.create(value=[3, 4], entity=second)
    repositories = (features.features, project.features, dataset.features)
    assert [repository.list().items_count for repository in repositories] == [2, 2, 2]
    assert [each.value for each in second.features.list().all()] == [[3, 4]]
    of_first = dl.Filters(resource=dl.FiltersResource.FEATURE, field="entityId", values=first.id)
    assert [each.id for each in features.features.list(filters=of_first).all()] == [vector.id]
    assert vector.delete()
    fails(dl.exceptions.NotFound, "feature vector not found", features.features.get, feature_id=vector.id)
    features.delete()
    assert project.features.list().items_count == 0


def test_a_wrong_vector_is_refused_with_all_that_came_with_it(dl, features, fill):
    items, create = fill(2), features.features.create
    for value in ([1], [1, "2"], [1, True], [], {"x": 1}):
        match = (
            "has 1 numbers, but the feature set's size is 2" if value == [1] else "a list of finite numbers"
        )
        fails(dl.exceptions.BadRequest, match, create, value=[[1, 2], value], entity=items)
    assert features.features.list().items_count == 0


def test_a_vector_of_what_is_not_there_is_not_found(dl, features, item):
    with pytest.raises(dl.exceptions.NotFound, match="feature set not found"):
        features.features.create(value=[1, 2], entity=item, feature_set_id=MISSING)
    item.delete()
    fails(dl.exceptions.NotFound, "item not found", features.features.create, value=[1, 2], entity=item)


def test_more_vectors_than_a_page(dl, features, fill):
    items = fill(5)
    features.features.create(value=[[place, 0] for place in range(5)], entity=items)
    few = dl.Filters(resource=dl.FiltersResource.FEATURE, page_size=2)
    pages = features.features.list(filters=few)
    assert (pages.items_count, pages.total_pages_count) == (5, 3)
    assert [each.value[0] for each in pages.all()] == [0, 1, 2, 3, 4]


def test_vectors_go_with_their_item(features, placed):
    placed[0].delete()
    assert features.features.list().items_count == 2


def test_feature_sets_of_a_dataset_have_vectors_in_it(dl, project, dataset, features, fill):
    assert dataset.feature_sets.list().items_count == 0
    (item,) = fill(1)
    features.features.create(value=[0, 0], entity=item)
    project.feature_sets.create("empty", 2, "embeddings", "item")
    assert [each.id for each in dataset.feature_sets.list().all()] == [features.id]
    assert project.datasets.create("without").feature_sets.list().items_count == 0


@pytest.mark.parametrize("entity_type", ["annotation", "dataset"])
def test_vectors_of_other_entities(dl, project, dataset, fill, entity_type):
    features = project.feature_sets.create("others", 1, "embeddings", entity_type)
    (item,) = fill(1)
    classify(dl, item, "a")
    entity = item.annotations.list()[0] if entity_type == "annotation" else dataset
    entity_json = {"entityId": entity.id, "featureSetId": features.id, "value": [1], "project": project.id}
    send(dl, "post", "/features/vectors", [entity_json])
    (vector,) = features.features.list().all()
    assert vector.entity_id == entity.id


def test_a_model_has_a_feature_set(dl, project):
    install(dl, project)
    model = project.models.get(model_name="tiny-base")
    assert model.feature_set is None
    made = project.feature_sets.create("of-model", 2, "embeddings", "item", model_id=model.id)
    assert model.feature_set.id == made.id


def test_items_and_vectors_near_a_vector(dl, dataset, features, placed, project):
    query = near(features, {"input": [1.9, 1.9], "$euclidSort": {"eu_dist": "ascending"}}, size=2)
    pages = dataset.items.list(filters=dl.Filters(custom_filter=query))
    assert pages.items_count == 3
    assert [item.name for item in pages.all()] == ["0002.png", "0001.png", "0000.png"]
    (origin,) = placed[0].features.list().all()
    euclid = {"input": origin.id, "$euclidSort": {"eu_dist": "descending"}}
    euclid["$euclidFilter"] = {"$lte": math.sqrt(2) + 1e-9}
    items = dataset.items.list(filters=dl.Filters(custom_filter=near(features, euclid)))
    assert [item.name for item in items.all()] == ["0001.png", "0000.png"]
    items = dataset.items.list(filters=dl.Filters(custom_filter=near(features, None)))
    assert sorted(item.name for item in items.all()) == ["0000.png", "0001.png", "0002.png"]
    near_one = {"value": {"$euclid": {"input": [1, 1.1], "$euclidSort": {"eu_dist": "ascending"}}}}
    near_one["featureSetId"] = features.id
    filters = dl.Filters(custom_filter=near_one, resource=dl.FiltersResource.FEATURE)
    assert [each.value for each in project.features.list(filters=filters).all()] == [[1, 1], [2, 2], [0, 0]]


@pytest.mark.parametrize(
    ("euclid", "message"),
    [
        ({}, "needs an object with 'input'"),
        ({"input": [1]}, "filter by 'featureSetId' too"),
        ({"input": "near"}, "feature vector not found"),
        ({"input": [1, None]}, "a list of finite numbers"),
        ({"input": [1, 1], "$euclidSort": {"eu_dist": "random"}}, "use 'ascending' or 'descending'"),
        ({"input": [1, 1], "$euclidSort": {"name": "ascending"}}, "'\\$euclidSort' must be"),
        ({"input": [1, 1], "$euclidFilter": {"$near": 1}}, "unknown operator '\\$near'"),
    ],
)
def test_a_wrong_question_about_distances_is_refused(dl, dataset, features, placed, euclid, message):
    query = near(features, {"input": [0, 0]})
    query["join"]["filter"]["value"] = {"$euclid": euclid}
    success, answer = dl.client_api.gen_request("post", f"/datasets/{dataset.id}/query", json_req=query)
    assert not success and re.search(message, answer.json()["message"])
