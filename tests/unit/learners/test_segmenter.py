"""The segmenter: what it learns from, what it predicts, and the scores of its passes."""

from functools import partial

import numpy as np
import pytest
import torch

from alhelpers import data, protocols, records, scores
from alhelpers.learners import SegmentationPredictions, Segmenter
from alhelpers.learners._box_loss import box_loss
from alhelpers.learners._map_decoding import LEAST_WEIGHT, at_pixels
from alhelpers.learners._map_loss import map_loss, object_boxes
from alhelpers.uncertainty import Committee
from alhelpers.uncertainty.mc_dropout import mc_dropout

torch.set_num_threads(1)
NAMES = ("background", "light", "dark")
RECIPE = {"batch_size": 8, "evaluations": 2}


def squares(count=24, seed=0, shape=(32, 32)):
    """A light or a dark square on grey; the last column is not counted."""
    draw = np.random.default_rng(seed)
    images, maps = np.full((count, *shape), 128, np.uint8), np.zeros((count, *shape), np.uint8)
    for number in range(count):
        top, left = draw.integers(0, [shape[0] - 12, shape[1] - 12]).tolist()
        images[number, top : top + 12, left : left + 12] = 255 * (number % 2)
        maps[number, top : top + 12, left : left + 12] = 2 - number % 2
    maps[:, :, -1] = 255
    return data.ArrayDataset(images, maps, NAMES, task="segmentation")


@pytest.fixture(scope="module")
def trained():
    segmenter = Segmenter(NAMES, steps=40, **RECIPE)
    return segmenter, segmenter.fit(squares(), validation=squares(4, seed=1))


def test_it_learns(trained):
    segmenter, history = trained
    assert isinstance(segmenter, protocols.Learner) and len(history.validation_loss) == 2
    dataset = squares(10, seed=2)
    found, truth = segmenter.predict(dataset), dataset.labels()
    assert isinstance(found, SegmentationPredictions) and isinstance(found, protocols.Predictions)
    assert found.task == "segmentation" and found.labels.dtype == np.uint8
    np.testing.assert_allclose(found.confidences.sum(1), 1, atol=1e-5)
    counted = truth != 255
    assert (found.labels[counted & (truth > 0)] == truth[counted & (truth > 0)]).mean() > 0.7
    assert sum(parameter.numel() for parameter in segmenter.network.parameters()) <= 200_000


def test_image_scores_are_those_of_whole_passes(trained):
    """Reduced part by part, they equal the scores of samples of the network run as a whole."""
    network, dataset = trained[0].network, squares(5, seed=3, shape=(27, 34))
    segmenter = Segmenter(NAMES, prediction_batch_size=2)
    segmenter.network.load_state_dict(network.state_dict())
    found = segmenter.predict(dataset, passes=3, embeddings=True, seed=4)
    planes = torch.from_numpy(dataset.inputs()[:, None] / np.float32(255)).expand(-1, 3, -1, -1)
    pixels = partial(at_pixels, size=(27, 34))
    samples, mean = mc_dropout(network, planes, 3, masks="pass", logits=pixels, seed=4)
    np.testing.assert_allclose(found.confidences, mean, atol=1e-4)
    np.testing.assert_allclose(segmenter.samples(dataset, 3, seed=4), samples, atol=1e-4)
    assert found.embeddings.shape == (5, 128)
    inside = mean.argmax(1) > 0
    for name, score in (("entropy", "predictive_entropy"), ("margin", "mean_margin"), ("bald", "bald")):
        maps = scores.pixel_map(samples, score)
        own = [values[where].mean() if where.any() else 0 for values, where in zip(maps, inside, strict=True)]
        for ending, expected in (
            ("", scores.over_pixels(maps)),
            ("_top", scores.over_pixels(maps, "top_k", k=0.02)),
            ("_foreground", own),
        ):
            np.testing.assert_allclose(found.image_scores[name + ending], expected, atol=1e-3)
    table = found.to_records(dataset.ids)
    rows = [dict(row) for row in table["metadata"].to_pylist()]
    np.testing.assert_allclose([row["bald"] for row in rows], found.image_scores["bald"], rtol=1e-6)
    assert records.column(table, "embeddings").shape == (5, 128)
    assert set(segmenter.predict(dataset).image_scores) == {
        name for name in found.image_scores if not name.startswith("bald")
    }


def drawn(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_the_loss_is_of_the_foreground_and_of_objects():
    outputs, maps = drawn(2, 3 + 20, 8, 8), torch.zeros(2, 30, 32, dtype=torch.uint8)
    maps[0, 4:12, 8:14], maps[1, 10:20, 3:9], maps[0, 20:22, 20:24] = 1, 2, 1  # the last is too small
    boxes = torch.tensor([[8.0, 4, 14, 12, 0], [3, 10, 9, 20, 1]])[:, None]
    inside = torch.nn.functional.pixel_shuffle(outputs[:, 7:], 4)[:, 0, :30].sigmoid()
    there = maps > 0
    overlap = (2 * inside[there].sum() + 1) / (inside.sum() + there.sum() + 1)
    crossed = -torch.where(there, inside, 1 - inside).log().mean()
    expected = 2 * (crossed + 1 - overlap) + box_loss(outputs[:, :7], boxes)
    torch.testing.assert_close(map_loss(outputs, maps), expected)


def test_objects_are_connected_pixels_of_a_class():
    maps = torch.zeros(3, 16, 20, dtype=torch.uint8)
    maps[0, :4, :4], maps[0, 4:8, 4:8], maps[0, 8:12, 8:13], maps[0, :4, 12:16] = 3, 3, 1, 3
    maps[2, 2:, 2:] = 255
    expected = {(0.0, 0.0, 8.0, 8.0, 2.0), (12.0, 0.0, 16.0, 4.0, 2.0), (8.0, 8.0, 13.0, 12.0, 0.0)}
    boxes = object_boxes(maps)
    assert {tuple(box) for box in boxes[0].tolist() if box[4] >= 0} == expected
    assert (boxes[1:] == -1).all()


def test_pixels_of_crowds_do_not_count():
    outputs, other = drawn(2, 3 + 20, 12, 8), drawn(2, 3 + 20, 12, 8, seed=1)
    maps = torch.zeros(2, 48, 32, dtype=torch.uint8)
    maps[:, 4:14, 6:14] = torch.tensor([1, 2], dtype=torch.uint8)[:, None, None]
    other[:, :, :8], maps[:, 32:] = outputs[:, :, :8], 255
    torch.testing.assert_close(map_loss(other, maps), map_loss(outputs, maps))
    torch.testing.assert_close(map_loss(outputs[:, :, :8], maps[:, :32]), map_loss(outputs, maps))
    assert map_loss(outputs, torch.full_like(maps, 255)) < 1e-5


def test_a_cell_becomes_sixteen_pixels():
    """Each pixel has its own foreground, and the probabilities of a pixel sum to 1."""
    cells = drawn(2, 3 + 20, 3, 4)
    found = at_pixels(cells, (11, 14))
    assert found.shape == (2, 3, 11, 14)
    torch.testing.assert_close(found.exp().sum(1), torch.ones(2, 11, 14))
    for y, x in ((0, 0), (7, 10), (10, 13)):
        expected = (-cells[:, 7 + 4 * (y % 4) + x % 4, y // 4, x // 4]).sigmoid()
        torch.testing.assert_close(found[:, 0, y, x].exp(), expected)


def test_the_class_of_a_pixel_is_that_of_the_centres_nearby():
    cells = drawn(1, 3 + 20, 12, 12)
    cells[:, 7:] = 20
    inside = at_pixels(cells, (48, 48))[0, 1:, 2::4, 2::4]
    window = cells[0, :3, 1:10, 2:11]  # of the cell at (5, 6)
    near = (5 - torch.arange(-4, 5).abs()).float()
    weights = near[:, None] * near * (window[2].sigmoid() + LEAST_WEIGHT)
    expected = (window[:2] * weights).sum((1, 2)) / weights.sum()
    torch.testing.assert_close(inside[:, 5, 6], expected.log_softmax(0), rtol=1e-4, atol=1e-4)


def test_boxes_are_refused_with_the_way_to_their_maps():
    scenes = data.scenes(2, size=16)
    with pytest.raises(ValueError, match=r"a Segmenter is for segmentation: .* dataset.segmentation\(\)"):
        Segmenter(scenes.segmentation().class_names).fit(scenes)


def test_save_and_load_keep_every_bit(trained, tmp_path):
    trained[0].save(tmp_path)
    other = trained[0].fresh(3)
    other.load(tmp_path)
    dataset = squares(3)
    np.testing.assert_array_equal(
        other.predict(dataset, passes=2).confidences, trained[0].predict(dataset, passes=2).confidences
    )
    names = trained[0].class_names
    with pytest.raises(ValueError, match="the same names in the same order"):
        Segmenter((names[-1], *names[:-1])).load(tmp_path)


def test_wrong_labels_are_named(trained):
    dataset = squares(4)
    maps = dataset.labels().copy()
    maps[2, 3, 5] = 7
    for labels, message in (
        (maps, r"the label of image 2 at pixel \(3, 5\) is 7: it must be from 0 to 2, or 255"),
        (maps[:, :20], r"shape \(4, 20, 32\): they must be whole numbers of shape \(4, 32, 32\)"),
        (maps / 2, "the labels are float64"),
    ):
        wrong = data.ArrayDataset(dataset.inputs(), labels, NAMES, task="segmentation")
        with pytest.raises(ValueError, match=message):
            Segmenter(NAMES, **RECIPE).fit(wrong)
    with pytest.raises(ValueError, match="class_names are 1: they must be at least 2"):
        Segmenter(["background"])
    with pytest.raises(ValueError, match=r"confidences must have shape \(N, 3, H, W\)"):
        SegmentationPredictions(np.zeros((2, 2, 4, 4)), NAMES)
    with pytest.raises(ValueError, match="confidences of image 1 are not from 0 to 1"):
        SegmentationPredictions(np.stack([np.zeros((3, 4, 4)), np.full((3, 4, 4), np.nan)]), NAMES)
    with pytest.raises(ValueError, match="bald has 3 rows, and there are 2 images"):
        SegmentationPredictions(np.zeros((2, 3, 4, 4)), NAMES, image_scores={"bald": np.zeros(3)})


def test_a_committee_scores_the_disagreement_of_its_members(trained):
    committee = Committee(trained[0], 2)
    committee.models[0], dataset = trained[0], squares(4, seed=5)
    found = committee.predict(dataset)
    samples = np.stack([member.predict(dataset).confidences for member in committee.models], axis=1)
    np.testing.assert_allclose(found.confidences, samples.mean(1), atol=1e-6)
    expected = scores.over_pixels(scores.pixel_map(samples, "bald"))
    np.testing.assert_allclose(found.image_scores["bald"], expected, atol=1e-6)
