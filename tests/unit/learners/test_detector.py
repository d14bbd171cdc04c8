"""The detector: what it learns from, what it predicts, and its passes."""

import copy
from functools import partial

import numpy as np
import pytest
import torch

from alhelpers import data, protocols, records
from alhelpers.data.labels import MissingClassWarning
from alhelpers.learners import BoxPredictions, Detector, DetectorFunction, Segmenter
from alhelpers.learners._box_decoding import activated
from alhelpers.uncertainty import Committee, merge_boxes
from alhelpers.uncertainty.mc_dropout import mc_dropout

torch.set_num_threads(1)
RECIPE = {"batch_size": 8, "evaluations": 2, "score_threshold": 0.02}


class Boxes(data.ArrayDataset):
    """Images with rows of boxes."""

    def __init__(self, inputs, rows, names=("a", "b"), ids=None):
        super().__init__(inputs, None, names, task="detection", ids=ids)
        self.rows = rows

    def labels(self, rows=None):
        names = self.ids[rows if rows is not None else slice(None)].tolist()
        return [{"image_id": name, **box} for name in names for box in self.rows.get(name, [])]


def box(left, top, right, bottom, label="a"):
    return {"label": label, "left": left, "top": top, "right": right, "bottom": bottom}


def squares(count=48, seed=0, shape=(32, 32), channels=3):
    """Bright squares "a" and dark ones "b" of 8 to 12 pixels on grey, at most one an image."""
    draw = np.random.default_rng(seed)
    images, rows = draw.uniform(0.45, 0.55, (count, channels, *shape)).astype(np.float32), {}
    for number in range(count):
        side, label = int(draw.integers(8, 13)), number % 3
        top, left = draw.integers(0, [shape[0] - side + 1, shape[1] - side + 1]).tolist()
        if label < 2:
            images[number, :, top : top + side, left : left + side] = 1 - label
            rows[number] = [box(left, top, left + side, top + side, "ab"[label])]
    return Boxes(images, rows)


@pytest.fixture(scope="module")
def trained():
    detector = Detector(("a", "b"), steps=70, **RECIPE)
    return detector, detector.fit(squares(), validation=squares(9, seed=1))


def equal(one, other):
    for name in ("offsets", "boxes", "confidences", "embeddings", "object_embeddings"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    assert (one.samples is None) == (other.samples is None)
    for first, second in zip(one.samples or (), other.samples or (), strict=True):
        np.testing.assert_array_equal(first, second)


def test_it_learns(trained):
    detector, history = trained
    assert history.steps == [35, 70] and len(history.validation_loss) == 2 and not history.validation_accuracy
    # 0.16 to 0.29 of it under ten seeds; the loss after 35 steps differs from processor to processor
    begun = Detector(("a", "b"), steps=1, **RECIPE | {"evaluations": 1})
    first = begun.fit(squares(), validation=squares(9, seed=1)).validation_loss[0]
    assert history.validation_loss[1] < min(0.5 * first, history.validation_loss[0])
    test = squares(30, seed=2)
    found, truth = detector.predict(test).rows(test.ids.tolist()), test.labels()
    from alhelpers import evaluation

    assert evaluation.average_precision(truth, found, items=test.ids.tolist()).macro > 0.8
    assert sum(parameter.numel() for parameter in detector.network.parameters()) <= 200_000


def test_it_fulfils_the_protocols(trained, tmp_path):
    detector, dataset = trained[0], squares(5, seed=3)
    assert isinstance(detector, protocols.Learner) and isinstance(trained[1], protocols.History)
    before, state = copy.deepcopy(detector.network.state_dict()), torch.get_rng_state()
    found = detector.predict(dataset, passes=3, embeddings=True)
    assert isinstance(found, BoxPredictions) and isinstance(found, protocols.Predictions)
    equal(detector.predict(dataset, passes=3, embeddings=True), found)
    assert torch.equal(torch.get_rng_state(), state) and not detector.network.training
    for name, value in detector.network.state_dict().items():
        assert torch.equal(value, before[name])
    detector.save(tmp_path)
    other = detector.fresh(9)
    assert not torch.equal(other.network.head[1].weight, detector.network.head[1].weight)
    other.load(tmp_path)
    equal(other.predict(dataset, passes=3, embeddings=True), found)
    mistaken = Detector((*detector.class_names[1:], detector.class_names[0], "c"))
    with pytest.raises(
        ValueError, match=r"holds weights for the classes \[.* 'c'\]: make it with the same names"
    ):
        mistaken.load(tmp_path)
    torch.save(detector.network.state_dict(), tmp_path / "weights.pt")  # as saved before the names were
    other.load(tmp_path)
    with pytest.raises(ValueError, match="the weights of another network"):
        mistaken.load(tmp_path)


def test_fit_is_deterministic_by_seed():
    weights = []
    for start, seed in ((1, 2), (1, 2), (1, 3), (4, 2)):
        detector = Detector(("a", "b"), steps=3, **RECIPE).fresh(start)
        detector.fit(squares(8), seed=seed)
        weights.append(detector.network.head[1].weight)
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2]) and not torch.equal(weights[0], weights[3])


def test_predictions_do_not_depend_on_the_parts(trained):
    detector, dataset = trained[0], squares(7, seed=4)
    alone = Detector(("a", "b"), **RECIPE, prediction_batch_size=2)
    alone.network.load_state_dict(detector.network.state_dict())
    for passes in (0, 3):
        one = detector.predict(dataset, passes=passes, embeddings=True, seed=5)
        other = alone.predict(dataset, passes=passes, embeddings=True, seed=5)
        np.testing.assert_array_equal(one.offsets, other.offsets)
        np.testing.assert_allclose(one.boxes, other.boxes, atol=1e-3)
        np.testing.assert_allclose(one.confidences, other.confidences, atol=1e-4)
        assert one.embeddings.shape == (7, 96) and one.object_embeddings.shape == (len(one.boxes), 96)
        np.testing.assert_allclose(one.object_embeddings, other.object_embeddings, atol=1e-3)
    assert (one.boxes >= 0).all() and (one.boxes <= 32).all()


def test_passes_on_the_grid_are_whole_passes_of_the_network(trained):
    """Means and samples are those of the network run as a whole, pass by pass, at the cells of the objects."""
    detector, dataset = trained[0], squares(5, seed=5)
    found = detector.predict(dataset, passes=4, seed=3)
    images = torch.from_numpy(dataset.inputs(None))
    whole, mean = mc_dropout(
        detector.network,
        images,
        4,
        masks="pass",
        outputs="values",
        logits=lambda o: activated(o, (32, 32)),
        seed=3,
    )
    owners = np.repeat(np.arange(5), np.diff(found.offsets))
    assert len(owners) and not np.array_equal(found.samples.boxes[:, 0], found.samples.boxes[:, 1])
    for row, owner in enumerate(owners):
        distance = np.abs(mean[owner, -4:] - found.boxes[row][:, None, None]).sum(0)
        place = np.unravel_index(distance.argmin(), distance.shape)
        np.testing.assert_allclose(mean[owner][:, *place][-4:], found.boxes[row], atol=1e-3)
        np.testing.assert_allclose(mean[owner][:, *place][:-4], found.confidences[row], atol=1e-4)
        values = whole[owner][:, :, *place]
        values[values[:, :-4].max(1) < 0.02] = np.nan
        np.testing.assert_allclose(values[:, -4:], found.samples.boxes[row], atol=1e-3)
        np.testing.assert_allclose(values[:, :-4], found.samples.confidences[row], atol=1e-4)


def test_passes_are_merged_by_their_overlap(trained):
    detector, dataset = trained[0], squares(12, seed=6)
    merging = Detector(("a", "b"), merge="iou", **RECIPE)
    merging.network.load_state_dict(detector.network.state_dict())
    found = merging.predict(dataset, passes=4, embeddings=True)
    missing = np.isnan(found.samples.boxes[..., 0])
    assert not missing.all(1).any() and len(found.boxes) == len(found.object_embeddings) > 0
    np.testing.assert_allclose(found.confidences, np.nan_to_num(found.samples.confidences).mean(1), atol=1e-6)
    np.testing.assert_allclose(found.boxes, np.nanmean(found.samples.boxes, axis=1), atol=1e-3)
    assert records.validate(found.to_records(dataset.ids), task="detection") == 12


def test_images_of_any_size_and_colour(trained):
    detector = trained[0]
    for inputs in (
        squares(3, shape=(41, 50)).inputs(None),
        squares(3, channels=1).inputs(None),
        np.full((3, 33, 35, 3), 128, np.uint8),
        np.full((3, 33, 35), 128, np.uint8),
    ):
        found = detector.predict(Boxes(inputs, {}), passes=2)
        size = inputs.shape[1:3] if inputs.dtype == np.uint8 else inputs.shape[2:]
        assert len(found) == 3 and (found.boxes <= np.array([size[1], size[0]] * 2)).all()
    grey = Detector(("a", "b"), channels=1, steps=2, **RECIPE)
    grey.fit(squares(8, channels=1, shape=(25, 30)))
    with pytest.raises(ValueError, match="the images have 3 channels, and the network takes 1"):
        grey.predict(squares(2))


def test_images_without_objects_and_classes_without_example():
    empty = Boxes(squares(8).inputs(None), {})
    detector = Detector(("a", "b"), steps=2, **RECIPE)
    with pytest.warns(MissingClassWarning, match="no record is labelled a, b"):
        history = detector.fit(empty)
    assert np.isfinite(history.loss).all() and len(detector.predict(empty).offsets) == 9
    high = Detector(("a", "b"), score_threshold=0.99).predict(empty, passes=2, embeddings=True)
    assert high.boxes.shape == (0, 4) and high.object_embeddings.shape == (0, 96)
    assert len(high.certainties()["combined"]) == 0 and high.samples.boxes.shape == (0, 2, 4)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([box(1, 1, np.nan, 9)], r"box \[1.0, 1.0, nan, 9.0\] of image 2 is not finite"),
        ([box(5, 5, 5, 9)], r"box \[5.0, .* of image 2 has no area"),
        ([box(9, 5, 5, 9)], "of image 2 has no area"),
        ([box(40, 40, 50, 50)], "of image 2 is outside of its image, 32 wide and 32 high"),
        ([box(1, 1, 9, 9, "z")], "of image 2 has the label 'z', which is none of the class names: a, b"),
        ([box(None, 1, 9, 9)], "a box of image 2 has the left None: it must be a number"),
        ([box(1, "q", 9, 9)], "a box of image 2 has the top 'q': it must be a number"),
        ([{"label": "a"}], "a box of image 2 has no 'left': it must be a number"),
        ([{**box(1, 1, 9, 9), "image_id": 77}], "labels of image 2 hold a box of image 77"),
    ],
)
def test_wrong_boxes_are_named(rows, message):
    detector = Detector(("a", "b"), steps=2, **RECIPE)
    dataset = Boxes(squares(4).inputs(None), {1: [box(-3, -3, 9, 40)], 2: rows})
    before = detector.network.head[1].weight.clone()
    with pytest.raises(ValueError, match=message):
        detector.fit(dataset)
    assert torch.equal(detector.network.head[1].weight, before)


def test_wrong_input_is_named(trained):
    detector, dataset = trained[0], squares(4)
    images = data.ImageSet("x", np.zeros((2, 32, 32), np.uint8), np.zeros(2, int), ["a", "b"])
    broken = Boxes(
        np.where(np.arange(4)[:, None, None, None] == 2, np.nan, dataset.inputs(None)), dataset.rows
    )
    empty = Boxes(dataset.inputs(None)[:0], {})
    for wrong, fits, predicts in (
        (Boxes(dataset.inputs(None), {}, ("b", "a")), "class names of the data set are b, a", None),
        (broken, "the inputs of record 2 are not finite", None),
        (
            Boxes(dataset.inputs(None)[:, :, :7], {}),
            r"float32 of shape \(1, 3, 7, 32\)",
            r"of shape \(1, 3, 7",
        ),
        (empty, "the data set is empty: label at least one", "the data set is empty: there is nothing"),
    ):
        with pytest.raises(ValueError, match=fits):
            detector.fit(wrong)
        with pytest.raises(ValueError, match=predicts or fits):
            detector.predict(wrong)
    with pytest.raises(
        ValueError, match="the data set is for classification, and a Detector is for detection"
    ):
        detector.fit(images)
    assert (
        len(detector.predict(images)) == 2
    )  # what its labels are does not matter, such as a folder without any
    with pytest.raises(ValueError, match="the validation set is empty: pass at least one row, or"):
        detector.fit(dataset, validation=empty)
    for passes in (1, -2, True, 2.5):
        with pytest.raises(ValueError, match=f"passes is {passes}"):
            detector.predict(dataset, passes=passes)
    for seed in (-1, 1.5):
        with pytest.raises(ValueError, match=f"seed is {seed}: it must be a whole number of at least 0"):
            detector.predict(dataset, passes=2, seed=seed)
    for options, message in (
        ({"learning_rate": float("nan")}, "learning_rate is nan: it must be a finite number above 0"),
        ({"merge": "mean"}, "merge must be"),
        ({"dropout": 0}, "dropout is 0"),
        ({"steps": 0}, "steps is 0"),
        ({"channels": 2}, "channels is 2"),
        ({"score_threshold": 1}, "score_threshold is 1"),
        ({"batch_size": 0.5}, "batch_size is 0.5"),
    ):
        with pytest.raises(ValueError, match=message):
            Detector(("a", "b"), **options)
    with pytest.raises(ValueError, match="class_names are .*distinct"):
        Detector(("a", "a"))


@pytest.mark.parametrize("outputs", [slice(None), slice(-4, -3)], ids=["all", "one side"])
def test_a_network_whose_weights_are_not_finite_is_refused(trained, outputs):
    detector, dataset = copy.deepcopy(trained[0]), squares(2)
    with torch.no_grad():
        detector.network.head[-1].bias[outputs] = np.nan
    for passes in (0, 2):
        with pytest.raises(
            ValueError, match="the network's outputs for record 0 are not finite: its weights"
        ):
            detector.predict(dataset, passes=passes)


def test_wrong_names_and_weights_of_another_learner_are_named_in_one_line(tmp_path):
    for names in (3, "circle"):
        for learner in (Detector, Segmenter, partial(DetectorFunction, len)):
            with pytest.raises(ValueError, match=f"class_names is {names!r}: it must be a list of names"):
                learner(names)
    Detector(("background", "a")).save(tmp_path)
    with pytest.raises(ValueError, match=r"weights of another network: [^\n]{,99}, which the model needs$"):
        Segmenter(("background", "a")).load(tmp_path)


class OneAfterAnother(Committee):
    """Members are trained in this process, which starts faster."""

    def fit(self, dataset, **options):
        return super().fit(dataset, workers=1, **options)


def test_a_committee_merges_the_boxes_of_its_members(trained):
    dataset = squares(9, seed=7)
    committee = OneAfterAnother(Detector(("a", "b"), steps=5, **RECIPE), 2)
    committee.fit(squares(12), folds="bootstrap")
    committee.models[0] = trained[0]
    found = committee.predict(dataset, embeddings=True)
    members = [member.predict(dataset) for member in committee.models]
    for values, expected in zip(found.samples, merge_boxes(members), strict=True):
        np.testing.assert_array_equal(values, expected)
    assert found.samples.boxes.shape[1] == 2 and found.embeddings.shape == (9, 96)
    both = committee.predict(dataset, passes=3)
    assert both.samples.boxes.shape[1] == 6 and len(both.boxes)
