"""Labels, recipes, ontologies and attributes."""

import numpy as np
import pytest
from helpers_contract import fails, get_json, not_found, png, refused


def fresh(dl, dataset):
    """The dataset as the platform has it now: the SDK keeps labels once it has read them."""
    return dl.datasets.get(dataset_id=dataset.id)


def tags(dl, dataset):
    return list(fresh(dl, dataset).labels_flat_dict)


@pytest.fixture
def recipe(dataset):
    (recipe,) = dataset.recipes.list()
    return recipe


@pytest.fixture
def ontology(recipe):
    (ontology,) = recipe.ontologies.list()
    return ontology


# ----------------------------------------------------------------------------------------------------- labels


def test_labels_are_added_in_every_form(dl, dataset):
    dataset.add_label("cat", color=(255, 0, 0), attributes=["calm"], display_label="Kitty")
    dataset.add_labels(["dog", dl.Label("bird", color=(1, 2, 3)), {"tag": "fish", "color": "#00ff00"}])
    labels = {label.tag: label for label in fresh(dl, dataset).labels}
    assert list(labels) == ["cat", "dog", "bird", "fish"]
    cat = labels["cat"]
    assert (cat.rgb, cat.hex, cat.attributes) == ((255, 0, 0), "#ff0000", ["calm"])
    assert cat.display_label == "Kitty"
    assert labels["bird"].rgb == (1, 2, 3) and labels["fish"].hex == "#00ff00"
    assert labels["dog"].hex.startswith("#")


def test_nested_labels_bring_their_parents(dl, dataset):
    dataset.add_label("animal.cat.persian", color="#0000ff")
    child = {"label_name": "van", "color": (1, 2, 4), "children": [{"label_name": "wheel"}]}
    dataset.add_labels([{"label_name": "car", "color": (1, 2, 3), "children": [child]}])
    expected = ["animal", "animal.cat", "animal.cat.persian", "car", "car.van", "car.van.wheel"]
    assert tags(dl, dataset) == expected
    assert fresh(dl, dataset).instance_map == {tag: number for number, tag in enumerate(expected, 1)}
    assert fresh(dl, dataset).labels_flat_dict["animal.cat.persian"].hex == "#0000ff"


def test_labels_are_what_the_platform_says_they_are(dl, project, dataset, ontology):
    dataset.add_labels(["cat", {"label_name": "car", "children": [{"label_name": "wheel"}]}])
    dataset.add_label("dog", color=(1, 2, 3), attributes=["calm"], display_label="Hound")
    made = project.ontologies.create(title="other", labels=[dl.Label(tag, color=(1, 2, 3)) for tag in "ab"])
    for each in (project.ontologies.get(ontology_id=ontology.id), made):
        sent = each.to_json()
        assert sent["roots"] == get_json(dl, f"/ontologies/{each.id}")["roots"]
        assert len(sent["roots"]) >= 2


def test_a_label_that_exists_is_changed_not_doubled(dl, dataset):
    dataset.add_label("cat", color=(255, 0, 0))
    dataset.add_label("cat.persian")
    dataset.add_label("cat", color=(0, 0, 9))
    assert tags(dl, dataset) == ["cat", "cat.persian"]
    assert fresh(dl, dataset).labels[0].rgb == (0, 0, 9)


def test_labels_are_updated(dl, dataset):
    dataset.add_labels(["cat", "dog"])
    dataset.update_label("cat", color=(0, 0, 9), display_label="Kitty")
    dataset.update_labels([dl.Label("dog", color="#123456")])
    cat, dog = fresh(dl, dataset).labels
    assert (cat.hex, cat.display_label, dog.hex) == ("#000009", "Kitty", "#123456")
    match, black = "label 'wolf' is not in the ontology", {"color": "#000000"}
    fails(dl.exceptions.BadRequest, match, dataset.update_label, "wolf", **black)
    both = [dl.Label("dog", **black), dl.Label("wolf", **black)]
    fails(dl.exceptions.BadRequest, match, dataset.update_labels, both)
    assert fresh(dl, dataset).labels[1].hex == "#123456"
    dataset.update_label("wolf", color=(1, 1, 1), upsert=True)
    dataset.update_labels(["fox"], upsert=True)
    assert tags(dl, dataset) == ["cat", "dog", "wolf", "fox"]


def test_labels_are_deleted(dl, dataset):
    dataset.add_labels(["a.b", "a.c", "d", "e"])
    fresh(dl, dataset).delete_labels(["a.b", "d"])
    assert tags(dl, dataset) == ["a", "a.c", "e"]
    fresh(dl, dataset).delete_labels("missing")
    fresh(dl, dataset).delete_labels("a")
    assert tags(dl, dataset) == ["e"]


def test_labels_of_another_dataset_are_taken_over(dl, project, dataset):
    dataset.add_labels(["a.b", dl.Label("c", color="#010203")])
    other = project.datasets.create("other", labels=[dl.Label("own", color="#ffffff")])
    other.add_labels(fresh(dl, dataset).labels)
    assert tags(dl, other) == ["own", "a", "a.b", "c"]
    assert fresh(dl, other).labels_flat_dict["c"].hex == "#010203"
    shared = project.datasets.create("shared", recipe_id=dataset.get_recipe_ids()[0])
    shared.add_label("d")
    assert tags(dl, dataset) == tags(dl, shared) == ["a", "a.b", "c", "d"]


def test_a_label_has_an_icon(dl, project, dataset, tmp_path):
    path = tmp_path / "icon.png"
    path.write_bytes(png(np.zeros((4, 4, 3), np.uint8)))
    dataset.add_label("cat", icon_path=str(path))
    image = fresh(dl, dataset).labels[0].display_data["displayImage"]
    item = dl.items.get(item_id=image["itemId"])
    assert item.dataset_id == image["datasetId"] and item.name.endswith("icon.png")
    assert item.filename.startswith("/.dataloop/ontologies/")


# ---------------------------------------------------------------------------------------------------- recipes


def test_a_dataset_has_a_recipe_with_an_ontology(dl, project, dataset, recipe, ontology):
    assert recipe.title == "images Default Recipe" and recipe.project_ids == [project.id]
    assert recipe.ontology_ids == [ontology.id] == fresh(dl, dataset).ontology_ids
    assert recipe.to_json() == get_json(dl, f"/recipes/{recipe.id}")
    assert dl.recipes.get(recipe_id=recipe.id).id == recipe.id
    assert ontology.recipe.id == recipe.id
    assert ontology.labels == [] and ontology.metadata["system"]["projectIds"] == [project.id]


def test_a_new_recipe_becomes_the_dataset_s(dl, dataset, recipe):
    made = dataset.recipes.create(recipe_name="mine", labels=[dl.Label("a", color="#ffffff")])
    assert fresh(dl, dataset).get_recipe_ids() == [made.id] and tags(dl, dataset) == ["a"]
    dataset.switch_recipe(recipe=recipe)
    assert fresh(dl, dataset).get_recipe_ids() == [recipe.id] and tags(dl, dataset) == []


def test_a_recipe_is_changed(dl, dataset, recipe):
    recipe.title, recipe.description = "better", "labels of animals"
    recipe.ui_settings["zoom"] = 2
    recipe.metadata["mine"] = 1
    recipe.metadata["system"]["secret"] = 1
    updated = recipe.update()
    assert (updated.title, updated.description) == ("better", "labels of animals")
    assert updated.ui_settings["zoom"] == 2
    assert updated.metadata == {"mine": 1, "system": {}}
    recipe.metadata["system"]["secret"] = 1
    del recipe.metadata["mine"]
    assert recipe.update(system_metadata=True).metadata == {"system": {"secret": 1}}
    recipe.ontology_ids = ["nowhere"]
    fails(dl.exceptions.BadRequest, "ontology not found: 'nowhere' is not an id", recipe.update)
    assert dl.recipes.get(recipe_id=recipe.id).title == "better"


def test_a_recipe_has_instructions_and_a_script(dl, project, recipe, tmp_path):
    (tmp_path / "how.pdf").write_bytes(b"%PDF-1.4")
    (tmp_path / "check.py").write_text("def check(item): ...")
    recipe.add_instruction(str(tmp_path / "how.pdf"))
    script = recipe.upload_annotations_verification_file(str(tmp_path / "check.py"))
    system = dl.recipes.get(recipe_id=recipe.id).metadata["system"]
    assert dl.items.get(item_id=system["instructionDocument"]["itemId"]).name.endswith(".pdf")
    assert system["validationFile"]["itemId"] == script.id
    recipe.metadata["system"]["collectionTemplates"] = [{"name": "hand", "id": "7"}]
    recipe.update(system_metadata=True)
    read = dl.recipes.get(recipe_id=recipe.id)
    assert read.get_annotation_template_id("hand") == "7"
    not_found(dl, lambda: read.get_annotation_template_id("foot"))


def test_a_clone_has_its_own_ontology_unless_it_is_shallow(dl, project, dataset, recipe):
    dataset.add_labels(["a.b", "c"])
    deep, shallow = recipe.clone(), recipe.clone(shallow=True)
    assert shallow.ontology_ids == recipe.ontology_ids and deep.ontology_ids != recipe.ontology_ids
    assert len({recipe.id, deep.id, shallow.id}) == 3
    (copied,) = deep.ontologies.list()
    assert list(copied.labels_flat_dict) == ["a", "a.b", "c"]
    copied.add_labels(["new"], update_ontology=True)
    assert tags(dl, dataset) == ["a", "a.b", "c"]


def test_a_deleted_recipe_leaves_its_dataset(dl, dataset, recipe):
    assert recipe.delete()
    fails(dl.exceptions.NotFound, "recipe not found", dl.recipes.get, recipe_id=recipe.id)
    read = fresh(dl, dataset)
    assert read.get_recipe_ids() == [] and read.recipes.list() == []
    with pytest.raises(dl.exceptions.NotFound, match="has no recipe"):
        assert read.labels
    not_found(dl, lambda: recipe.delete(force=True))


def test_recipes_of_a_project_are_listed(dl, project, dataset, recipe, ontology):
    extra = project.recipes.create(recipe_name="extra", labels={"x": (1, 2, 3)})
    other = dl.projects.create(f"{project.name}-other")
    other.recipes.create(recipe_name="extra")
    assert [each.id for each in project.recipes.list().all()] == [recipe.id, extra.id]

    def listed(field, values):
        filters = dl.Filters(resource=dl.FiltersResource.RECIPE, field=field, values=values)
        return [each.id for each in project.recipes.list(filters).all()]

    assert listed("ontologies", ontology.id) == [recipe.id]
    assert listed("title", "extra") == [extra.id]
    assert listed("title", "missing") == []
    pages = dl.Filters(resource=dl.FiltersResource.RECIPE, page_size=1)
    assert [len(page) for page in project.recipes.list(pages)] == [1, 1]
    refused(dl, "get", "/recipes?pageSize=x", None, "'pageSize' must be a whole number")


# ------------------------------------------------------------------------------------------------- ontologies


def test_ontologies_are_made_listed_changed_and_deleted(dl, project, dataset, recipe, ontology):
    second = recipe.ontologies.create(labels=[{"tag": "t", "color": "#ffffff"}], title="second")
    assert dl.recipes.get(recipe_id=recipe.id).ontology_ids == [ontology.id, second.id]
    assert [each.title for each in recipe.ontologies.list()] == ["images Default Ontology", "second"]
    assert [each.id for each in dl.ontologies.list(project_ids=[project.id])] == [ontology.id, second.id]
    assert dl.ontologies.list(project_ids=["elsewhere"]) == []
    second.title = "renamed"
    second.metadata["mine"] = 1
    second.metadata["system"]["secret"] = 1
    second.labels = []
    updated = second.update()
    assert (updated.title, updated.labels) == ("renamed", [])
    assert updated.metadata["mine"] == 1 and "secret" not in updated.metadata["system"]
    assert "secret" in second.update(system_metadata=True).metadata["system"]
    assert second.delete()
    fails(dl.exceptions.NotFound, "ontology not found", dl.ontologies.get, ontology_id=second.id)
    assert dl.recipes.get(recipe_id=recipe.id).ontology_ids == [ontology.id]


def test_labels_become_roots_and_attributes_of_the_older_kind_are_kept(dl, project):
    roots = dl.ontologies.labels_to_roots({"a": (1, 2, 3)})
    assert roots == [{"value": {"tag": "a", "color": "#010203", "attributes": []}, "children": []}]
    made = dl.ontologies.create(labels=[], project_ids=[project.id], attributes=["calm", "wild"])
    assert dl.ontologies.get(ontology_id=made.id).attributes == ["calm", "wild"]


@pytest.mark.parametrize(
    ("kind", "given", "stored"),
    [
        ("CHECKBOX", {"values": ["a", "b"]}, {"type": "options", "multi": True, "values": ["a", "b"]}),
        ("RADIO_BUTTON", {"values": ["a"]}, {"type": "options", "multi": False, "values": ["a"]}),
        ("SLIDER", {"range": (0, 10, 2)}, {"type": "range", "range": {"min": 0, "max": 10, "step": 2}}),
        ("YES_NO", {"scope": ["cat"]}, {"type": "boolean", "scope": ["cat"]}),
        ("FREE_TEXT", {"optional": False}, {"type": "freeText", "optional": False, "scope": ["*"]}),
    ],
)
def test_attributes_of_every_kind(dl, dataset, ontology, kind, given, stored):
    if "range" in given:
        given = {"attribute_range": dl.AttributesRange(*given["range"])}
    kind = getattr(dl.AttributesTypes, kind)
    assert dataset.update_attributes(title="How", key="1", attribute_type=kind, **given)
    (attribute,) = dl.ontologies.get(ontology_id=ontology.id).attributes
    assert attribute.items() >= ({"title": "How", "key": "1"} | stored).items()
    assert ontology.update_attributes(title="Other", key="1", attribute_type=kind, **given)
    (attribute,) = dl.ontologies.get(ontology_id=ontology.id).attributes
    assert attribute["title"] == "Other"


def test_attributes_are_deleted(dl, dataset, ontology):
    for key in "123":
        ontology.update_attributes(title=key, key=key, attribute_type=dl.AttributesTypes.YES_NO)
    assert ontology.delete_attributes(keys=["1", "3"])
    assert [each["key"] for each in dl.ontologies.get(ontology_id=ontology.id).attributes] == ["2"]
    dataset.add_label("kept", attributes=["2"])
    assert [each["key"] for each in dl.ontologies.get(ontology_id=ontology.id).attributes] == ["2"]


def test_an_ontology_is_copied_from_another(dl, project, dataset, ontology):
    dataset.add_labels(["a.b"])
    slider = dl.AttributesTypes.SLIDER
    ontology.update_attributes("Size", "1", slider, attribute_range=dl.AttributesRange(0, 1, 1))
    target = dl.ontologies.create(labels=[dl.Label("old", color="#000000")], project_ids=[project.id])
    target.copy_from(get_json(dl, f"/ontologies/{ontology.id}"))
    read = dl.ontologies.get(ontology_id=target.id)
    assert list(read.labels_flat_dict) == ["a", "a.b"]
    assert [(each["key"], each["title"]) for each in read.attributes] == [("1", "Size")]


RANGE = {"key": "1", "title": "T", "type": "range"}


@pytest.mark.parametrize(
    ("method", "path", "body", "message"),
    [
        ("patch", "/labels", {"labelsNode": [{"color": "#fff"}]}, "each label needs a 'tag'"),
        ("patch", "/labels", {"labelsNode": {"tag": "a"}}, "'labelsNode' must be a list"),
        ("patch", "/attributes", {"items": [RANGE | {"type": "mood"}]}, "'type' must be one of"),
        ("patch", "/attributes", {"items": [RANGE | {"key": None}]}, "'key' must be a non-empty"),
        ("patch", "/attributes", {"items": [RANGE]}, "needs a 'range'"),
        ("put", "", {"roots": [{"value": {}}]}, "a label must be"),
    ],
)
def test_a_wrong_change_of_an_ontology_is_refused_as_a_whole(dl, ontology, method, path, body, message):
    if path == "/labels" and isinstance(body["labelsNode"], list):
        body = body | {"labelsNode": [{"tag": "good"}, *body["labelsNode"]], "upsert": True}
    before = get_json(dl, f"/ontologies/{ontology.id}")
    refused(dl, method, f"/ontologies/{ontology.id}{path}", body, message)
    assert get_json(dl, f"/ontologies/{ontology.id}") == before
