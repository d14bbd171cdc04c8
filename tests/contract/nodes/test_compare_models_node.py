import copy
import json

import pytest
from node_samples import label, predict, predict_as

from alhelpers.configurations import shipped
from alhelpers.dataloop import ModelComparer, node_context
from alhelpers.dataloop.compare_models import compare
from alhelpers.dataloop.data_split import split_dataset
from alhelpers.evaluation import NoGroundTruth

DEFAULT = shipped("compare_configurations.json")
TEST = shipped("test_subset_filter.json")
TRAINING = {
    "wins": "all",
    "checks": [
        {"type": "plot", "figure": "loss", "legend": "val", "x_index": -1, "maximize": False, "min_delta": 0}
    ],
}
BOX = {"left": 1, "top": 1, "right": 5, "bottom": 5}


@pytest.fixture(scope="module")
def classified(dl, make_dataset, make_model):
    """Six labelled test images, a model that is right on all of them and one that is right on half."""
    dataset, items = make_dataset([f"{number}.png" for number in range(6)])
    good, poor = make_model(), make_model()
    for number, item in enumerate(items.values()):
        truth = "ab"[number % 2]
        wrong = "ba"[number % 2]
        label(dl, item, truth)
        predict(dl, item, good, truth, 0.9, {truth: 0.9, wrong: 0.1})
        guess = truth if number < 3 else wrong
        predict(dl, item, poor, guess, 0.8, {guess: 0.8, ("ab".replace(guess, "")): 0.2})
    return dataset, poor, good


def test_the_better_model_wins_and_the_decision_is_kept(dl, shared_project, classified, progress):
    dataset, poor, good = classified
    config = copy.deepcopy(DEFAULT)
    winner = ModelComparer.compare_models(poor, good, progress, dl.Context(sdk=dl), config, dataset)
    assert winner.id == good.id and config == DEFAULT
    assert progress.action == "update model" and "1.0000" in progress.message
    kept = shared_project.models.get(model_id=good.id).metadata["user"]["compare"]
    assert kept["action"] == "update model" and kept["new"] == 1.0 and kept["previous"] < 1.0
    assert kept["test_items"] == 6
    assert (kept["previous_model_id"], kept["dataset_id"]) == (poor.id, dataset.id)
    assert "full confidences" in kept["method"] and {row["name"] for row in kept["rows"]} == {"a", "b"}
    # It outlives an ordinary update of the model.
    stored = shared_project.models.get(model_id=good.id)
    stored.description = "described later"
    stored.update()
    assert shared_project.models.get(model_id=good.id).metadata["user"]["compare"] == kept


def test_a_discarded_model_leaves_the_previous_one_alone(shared_project, classified, progress):
    dataset, poor, good = classified
    before = shared_project.models.get(model_id=good.id).to_json()
    winner = ModelComparer().compare_models(good, poor, progress, None, None, dataset)
    assert winner.id == good.id and progress.action == "discard"
    assert shared_project.models.get(model_id=good.id).to_json() == before
    after = shared_project.models.get(model_id=poor.id)
    assert after.metadata["user"]["compare"]["action"] == "discard"
    assert "update model" not in json.dumps([after.tags, after.metadata["system"].get("tags")])


def test_min_delta_and_repeated_comparisons(classified):
    dataset, poor, good = classified
    first = compare(poor, good, DEFAULT, dataset)
    assert compare(poor, good, DEFAULT, dataset) == first and first.better
    assert not compare(poor, good, {"precision_recall": {"min_delta": 0.99}}, dataset).better
    assert not compare(good, good, DEFAULT, dataset).better


def test_a_model_that_was_not_evaluated_is_named(dl, make_model, classified, progress):
    dataset, poor, _ = classified
    fresh = make_model("never evaluated")
    message = "'never evaluated' has not been evaluated on dataset .*run evaluate first"
    with pytest.raises(ValueError, match=message):
        ModelComparer.compare_models(poor, fresh, progress, None, DEFAULT, dataset)
    assert progress.action is None


def test_models_of_different_outputs_are_refused(classified, make_model):
    dataset, poor, _ = classified
    with pytest.raises(ValueError, match="different outputs"):
        compare(poor, make_model(output_type="box"), DEFAULT, dataset)


def test_no_ground_truth_is_an_error(dl, make_dataset, make_model):
    dataset, items = make_dataset(["a.png"])
    models = make_model(), make_model()
    for model in models:
        predict(dl, items["a.png"], model, "a", 0.9)
    with pytest.raises(NoGroundTruth, match="none of the 1 test items has ground-truth"):
        compare(*models, DEFAULT, dataset)


@pytest.fixture(scope="module")
def subset_only(dl, make_dataset, make_model):
    """Two test images that the new model gets right, and training images that only the old model was run on."""
    dataset, items = make_dataset([f"{number}.png" for number in range(6)])
    old, new = make_model(), make_model()
    names = sorted(items)
    split_dataset(dataset, {"test": 1}, filters=dl.Filters(field="name", values=names[:2], operator="in"))
    for number, name in enumerate(names):
        label(dl, items[name], "ab"[number % 2])
        predict(dl, items[name], old, "a" if number < 2 else "ab"[number % 2], 0.9)
        if number < 2:
            predict(dl, items[name], new, "ab"[number % 2], 0.9)
    return dataset, old, new


def test_the_test_filter_decides_which_items_count(subset_only):
    dataset, old, new = subset_only
    given = copy.deepcopy(TEST)
    for config in (
        {"precision_recall": {"iou_threshold": 0.5, "min_delta": 0, "test_filter": given}},
        {"precision_recall": {}, "test_filter": given},
    ):
        result = compare(old, new, config, dataset)
        assert result.better and result.test_items == 2 and "top-1" in result.method
    assert given == TEST


def test_different_items_are_warned_of_and_none_is_an_error(subset_only):
    dataset, old, new = subset_only
    result = compare(old, new, DEFAULT, dataset)
    assert result.test_items == 6
    assert any("evaluated on different items: 4 only by" in text for text in result.warnings)
    nothing = {"filter": {"$and": [{"dir": "/no"}]}}
    with pytest.raises(ValueError, match="selects no item"):
        compare(old, new, {"precision_recall": {"test_filter": nothing}}, dataset)


def test_models_that_share_no_evaluated_item_are_not_compared(dl, make_dataset, make_model):
    dataset, items = make_dataset(["0.png", "1.png"])
    models = make_model("left"), make_model("right")
    for item, model in zip(items.values(), models, strict=True):
        label(dl, item, "a")
        predict(dl, item, model, "a", 0.9)
    with pytest.raises(
        ValueError, match="'left' and 'right' have predictions on .* but share no item: evaluate"
    ):
        compare(*models, DEFAULT, dataset)


def test_detectors_are_compared_by_label_and_place(dl, make_dataset, make_model):
    dataset, items = make_dataset(["0.png", "1.png", "2.png"])
    right, wrong_class, nothing = (make_model(output_type="box") for _ in range(3))
    for number, item in enumerate(items.values()):
        name = "ab"[number % 2]
        label(dl, item, name, **BOX)
        predict(dl, item, right, name, 0.9, **BOX)
        predict(dl, item, wrong_class, "ba"[number % 2], 0.9, **BOX)
    result = compare(wrong_class, right, DEFAULT, dataset)
    assert (result.previous, result.new, result.better) == (0.0, 1.0, True)
    # Evaluated, and blind: a result, not an error.
    nothing.metadata["system"]["evaluate"] = {"datasets": [dataset.id]}
    nothing.update(system_metadata=True)
    blind = compare(right, nothing, DEFAULT, dataset)
    assert blind.new == 0.0 and any("predicted nothing" in warning for warning in blind.warnings)


def test_model_info_in_the_user_metadata_marks_a_prediction_too(dl, make_dataset, make_model):
    dataset, items = make_dataset(["a.png", "b.png"])
    by_id, by_name = make_model(), make_model()
    for name, item in items.items():
        label(dl, item, name[0])
        for info, guess in (
            # A name that is another model's by now: the id decides.
            ({"model_id": by_id.id, "name": by_name.name}, name[0]),
            ({"name": by_name.name}, "ba"["ab".index(name[0])]),
        ):
            predict_as(dl, item, guess, {"confidence": 0.9} | info, "user")
    result = compare(by_name, by_id, DEFAULT, dataset)
    assert (result.previous, result.new) == (0.0, 1.0)
    assert not any("several" in text for text in result.warnings)


def publish(dl, model, dataset, samples):
    model.metrics.create(
        [dl.PlotSample(figure="loss", legend="val", x=x, y=y) for x, y in samples], dataset_id=dataset.id
    )


@pytest.fixture(scope="module")
def trained(dl, make_model, classified):
    """A model whose best value is its last one, far beyond the first page, and one with a few samples out of order."""
    dataset, *_ = classified
    long, short = make_model(), make_model()
    publish(dl, long, dataset, [(x, 2.0 if x < 1200 else 0.25) for x in range(1, 1201)])
    publish(dl, short, dataset, [(3, 0.5), (1, 0.01), (2, 0.75)])
    return dataset, short, long


def test_training_metrics_are_read_to_the_last_page_and_in_order(trained, progress):
    _, short, long = trained
    config = copy.deepcopy(TRAINING)
    winner = ModelComparer.compare_models(short, long, progress, None, config)
    assert winner.id == long.id and progress.action == "update model" and config == TRAINING
    row = winner.metadata["user"]["compare"]["rows"][0]
    assert (row["previous"], row["new"]) == (0.5, 0.25)
    assert ModelComparer.compare_models(long, short, progress, None, TRAINING).id == long.id
    assert progress.action == "discard"


def test_a_model_without_metrics_is_named(trained, make_model):
    _, short, _ = trained
    with pytest.raises(ValueError, match="'untrained' has no metric 'loss' / 'val'; it has none at all"):
        compare(short, make_model("untrained"), TRAINING)


def test_a_dataset_with_checks_alone_compares_the_checks(trained):
    dataset, short, long = trained
    assert compare(short, long, TRAINING, dataset).metric == "training_metrics"


SEVERAL = shipped("compare_configurations_several_metrics.json")


@pytest.fixture
def queries(dl, monkeypatch):
    """The queries that the SDK sends, with the ids that came back."""
    sent = []
    send = dl.client_api.gen_request

    def recording(*args, **options):
        success, response = send(*args, **options)
        path = options.get("path", args[1] if len(args) > 1 else "")
        if path.endswith("/query"):
            body = options.get("json_req") or {}
            ids = [entry["id"] for entry in response.json()["items"]]
            sent.append((body.get("resource"), json.dumps(body["filter"]), ids))
        return success, response

    monkeypatch.setattr(dl.client_api, "gen_request", recording)
    return sent


@pytest.fixture(scope="module")
def crowded(dl, make_dataset, make_model):
    """Test images that carry the predictions of two detectors and of two that are not compared."""
    dataset, items = make_dataset([f"{number}.png" for number in range(8)])
    models = [make_model(output_type="box") for _ in range(4)]
    for item in items.values():
        label(dl, item, "a", **BOX)
        for model in models:
            predict(dl, item, model, "a", 0.9, **BOX)
    return dataset, *models


@pytest.mark.parametrize(
    "config",
    [
        DEFAULT,
        {"precision_recall": {}, "f1": {}, "mean_average_precision": {}, "calibration": {}, "wins": "any"},
    ],
    ids=["one metric", "four metrics"],
)
def test_each_annotation_is_read_once_however_many_metrics(crowded, queries, config):
    dataset, old, new, *_ = crowded
    comparison = compare(old, new, config, dataset)
    assert len(comparison.metrics) == len([key for key in config if key != "wins"])
    # One query for each model's predictions, one for the ground truth, and nothing of other models; between them one
    # for items in which a model found nothing, whose empty answer is asked for again.
    assert [resource for resource, *_ in queries] == ["annotations"] * 2 + ["items"] * 2 + ["annotations"]
    ids = [one for *_, found in queries for one in found]
    assert len(ids) == len(set(ids)) == 3 * 8
    assert all(model.id in query for model, (_, query, _) in zip((old, new), queries, strict=False))


def test_a_test_filter_costs_one_query_of_items(crowded, queries):
    dataset, old, new, *_ = crowded
    everything = {"filter": {"$and": [{"hidden": False}, {"type": "file"}]}}
    config = {"f1": {}, "calibration": {}, "wins": "any", "test_filter": everything}
    assert compare(old, new, config, dataset).test_items == 8
    assert sorted(str(resource) for resource, *_ in queries) == ["annotations"] * 3 + ["items"]


def test_several_metrics_are_decided_and_stored(dl, shared_project, classified, progress):
    dataset, poor, good = classified
    config = copy.deepcopy(SEVERAL)
    context = node_context(shared_project, {})
    winner = ModelComparer.compare_models(poor, good, progress, context, config, dataset)
    assert winner.id == good.id and config == SEVERAL and progress.action == "update model"
    kept = shared_project.models.get(model_id=good.id).metadata["user"]["compare"]
    names = [metric["name"] for metric in kept["metrics"]]
    assert names == ["precision_recall", "accuracy", "f1", "calibration"]
    assert kept["metrics"][1]["previous"] == 0.5 and kept["metrics"][1]["new"] == 1.0 and kept["wins"] == 0.75
    for metric in kept["metrics"]:
        interval = metric["interval"]
        assert interval["level"] == 0.95 and interval["samples"] > 900
        assert interval["low"] <= metric["difference"] <= interval["high"]
    # What it says is kept when the model is discarded too.
    ModelComparer.compare_models(good, poor, progress, context, config, dataset)
    kept = shared_project.models.get(model_id=poor.id).metadata["user"]["compare"]
    assert kept["action"] == "discard" and len(kept["metrics"]) == 4


def test_versions_that_share_a_name_are_kept_apart_by_id(dl, make_dataset, make_model):
    dataset, items = make_dataset(["a.png", "b.png"])
    first, second = make_model(), make_model()
    for name, item in items.items():
        label(dl, item, name[0])
        for model, guess in ((first, "ba"["ab".index(name[0])]), (second, name[0])):
            info = {"name": "detector", "model_id": model.id, "confidence": 0.9}
            predict_as(dl, item, guess, info, "user", "system")
        # Of a version that nobody knows any more.
        predict_as(dl, item, "a", {"name": "detector", "confidence": 1.0}, "user")
    first.name = second.name = "detector"
    result = compare(first, second, {"accuracy": {}}, dataset)
    assert (result.previous, result.new) == (0.0, 1.0)


BAD = {
    "wrong value": ({"accuracy": {"min_confidence": 95}}, "min_confidence 95 must be"),
    "metric of boxes": (
        {"mean_average_precision": {}},
        "cannot compare models that predict 'class' annotations",
    ),
    "empty test subset": ({"accuracy": {}, "test_filter": {"filter": {"dir": "/no"}}}, "selects no item"),
    "no metrics of training": (TRAINING | {"wins": "any"}, "has no metric 'loss' / 'val'"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_leaves_both_models_as_they_were_and_can_be_run_again(
    shared_project, classified, progress, case
):
    dataset, poor, good = classified
    config, message = BAD[case]
    before = [shared_project.models.get(model_id=model.id).to_json() for model in (poor, good)]
    for _ in range(2):
        with pytest.raises(ValueError, match=message):
            ModelComparer.compare_models(poor, good, progress, None, config, dataset)
    for without_dataset in (None, {"accuracy": {}}):
        with pytest.raises(ValueError, match="needs the dataset"):
            ModelComparer.compare_models(poor, good, progress, None, without_dataset)
    assert [shared_project.models.get(model_id=model.id).to_json() for model in (poor, good)] == before
    assert progress.action is None
    assert ModelComparer.compare_models(poor, good, progress, None, DEFAULT, dataset).id == good.id


def test_an_unknown_metric_beside_a_known_one_is_ignored_with_a_warning(classified, progress, caplog):
    dataset, poor, good = classified
    winner = ModelComparer.compare_models(poor, good, progress, None, {"speed": {}, **DEFAULT}, dataset)
    assert winner.id == good.id and "metric 'speed' is not known and ignored" in caplog.text
    assert any("'speed'" in warning for warning in winner.metadata["user"]["compare"]["warnings"])


def test_a_prediction_without_a_confidence_is_named(dl, make_dataset, make_model):
    dataset, items = make_dataset(["a.png"])
    models = make_model(), make_model("unsure")
    label(dl, items["a.png"], "a")
    for model, confidence in zip(models, (0.9, None), strict=True):
        predict(dl, items["a.png"], model, "a", confidence)
    message = "model 'unsure', prediction .* confidence None must be a finite number"
    with pytest.raises(ValueError, match=message):
        compare(*models, DEFAULT, dataset)


@pytest.mark.parametrize("names", [["a"], ["a", "a"], ["a", "b", "c"]])
def test_confidences_without_a_class_each_are_named(dl, make_dataset, make_model, names):
    dataset, items = make_dataset(["a.png"])
    models = make_model(), make_model()
    label(dl, items["a.png"], "a")
    for model, named in zip(models, (["a", "b"], names), strict=True):
        predict(dl, items["a.png"], model, "a", 0.9)
        annotation = items["a.png"].annotations.list()[-1]
        annotation.metadata["user"]["prediction"] = {"class_names": named, "confidences": [0.9, 0.1]}
        annotation.update(system_metadata=True)
    with pytest.raises(
        ValueError, match=rf"model {models[1].name!r}, .* confidences: 2 values for the class names \["
    ):
        compare(*models, DEFAULT, dataset)


def test_nan_in_a_training_metric_is_named(dl, make_model, classified, progress):
    dataset, *_ = classified
    good, broken = make_model(), make_model("broken")
    publish(dl, good, dataset, [(1, 0.5)])
    publish(dl, broken, dataset, [(1, "nan")])
    for pair in ((good, broken), (broken, good)):
        with pytest.raises(ValueError, match="model 'broken', metric 'loss' / 'val', x = 1: the value"):
            ModelComparer.compare_models(*pair, progress, None, TRAINING)
    assert progress.action is None


def test_metrics_that_are_left_out_are_warned_of(trained, classified):
    dataset, poor, good = classified
    both = DEFAULT | TRAINING
    assert any("checks of training metrics" in text for text in compare(poor, good, both, dataset).warnings)
    _, short, long = trained
    by_training = compare(short, long, both)
    assert by_training.metric == "training_metrics"
    assert any("precision_recall is not compared" in text for text in by_training.warnings)


def test_more_than_a_page_of_annotations_is_read_to_the_end_and_once(dl, make_dataset, make_model, queries):
    dataset, items = make_dataset(["0.png"])
    item, (old, new) = items["0.png"], [make_model(output_type="box") for _ in range(2)]
    corners = [(40 * (place % 40), 40 * (place // 40)) for place in range(1010)]
    places = [{"left": x, "top": y, "right": x + 20, "bottom": y + 20} for x, y in corners]
    truth = [dl.Annotation.new(annotation_definition=dl.Box(label="a", **place)) for place in places]
    found = [
        dl.Annotation.new(
            annotation_definition=dl.Box(label="a", **place),
            metadata={"system": {"model": {"name": new.name, "model_id": new.id, "confidence": 0.9}}},
        )
        for place in places
    ]
    item.annotations.upload(truth + found)
    predict(dl, item, old, "a", 0.9, **places[0])
    queries.clear()
    result = compare(old, new, {"precision_recall": {}, "f1": {}}, dataset)
    assert result.new == result.metrics[1]["new"] == 1.0 and result.previous == pytest.approx(1 / 1010)
    ids = [one for *_, page in queries for one in page]
    assert len(ids) == len(set(ids)) == 2 * 1010 + 1 and len(queries) == 1 + 2 + 2 + 2
