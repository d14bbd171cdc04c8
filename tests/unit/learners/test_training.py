import copy
from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.sparse import csr_matrix

from alhelpers import data
from alhelpers.learners import TorchClassifier, build_network
from alhelpers.training import train

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def digits():
    """The inputs and labels of 200 digits, and of 500 others."""
    pool, test = data.load("digits", seed=0)
    few = pool.part(200)
    return (few.inputs(), few.labels()), (test.inputs(), test.labels())


def weights(network):
    return torch.cat([value.detach().flatten() for value in network.parameters()])


def confidences_of(network, inputs):
    return TorchClassifier(network).predict(data.ArrayDataset(inputs)).confidences


def loss_of(network, inputs, labels):
    return -np.log(confidences_of(network, inputs)[np.arange(len(labels)), labels]).mean()


# ---------------------------------------------------------------------------------------------------- training


# Chance is 0.1; these seeds reach about 0.95 and 0.98. The bounds leave room for other builds of torch.
@pytest.mark.parametrize(
    ("name", "size", "options", "least"),
    [("digits", 8, {}, 0.85), ("mnist", 28, {"steps": 60, "augmentation": True}, 0.8)],
)
def test_two_hundred_labels_are_enough(name, size, options, least):
    pool, test = data.load(name, seed=0)
    few, others = pool.part(200), test.take(np.arange(0, len(test), 7))
    network = build_network(size, seed=0)
    train(network, few.inputs(), few.labels(), seed=0, **options)
    assert (confidences_of(network, others.inputs()).argmax(1) == others.labels()).mean() > least


@pytest.mark.parametrize("augmentation", [False, True])
def test_same_seed_same_training(digits, augmentation):
    trained = []
    for seed in (1, 1, 2):
        network = build_network(8, seed=0)
        train(network, *digits[0], steps=5, augmentation=augmentation, seed=seed)
        trained.append(weights(network))
    assert torch.equal(trained[0], trained[1])
    assert not torch.equal(trained[0], trained[2])


def test_evaluating_does_not_change_the_training(digits):
    plain, watched = build_network(8), build_network(8)
    train(plain, *digits[0], steps=6, evaluations=1)
    train(watched, *digits[0], steps=6, evaluations=6, validation=digits[1], progress=lambda *_: None)
    assert torch.equal(weights(plain), weights(watched))


def test_random_state_and_inputs_are_left_alone_and_the_network_in_evaluation_mode(digits):
    inputs, labels = digits[0]
    before, data, targets = torch.random.get_rng_state(), inputs.copy(), labels.copy()
    network = build_network(8)
    train(network, inputs, labels, steps=2, augmentation=True)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert np.array_equal(inputs, data) and np.array_equal(labels, targets)
    assert not any(module.training for module in network.modules())


@pytest.mark.parametrize(
    "steps, evaluations, expected",
    [(20, 4, [5, 10, 15, 20]), (7, 3, [3, 5, 7]), (3, 10, [1, 2, 3]), (1, 1, [1])],
)
def test_history_has_as_many_rows_as_evaluations(digits, steps, evaluations, expected):
    few, validation = (
        [values[:count] for values in part] for part, count in zip(digits, (3, 50), strict=True)
    )
    calls, options = [], {"steps": steps, "evaluations": evaluations}
    history = train(
        build_network(8), *few, validation=validation, progress=lambda *call: calls.append(call), **options
    )
    assert history.steps == expected
    assert calls == [(step, steps) for step in expected]
    for column in history:
        assert len(column) == len(expected)
        assert np.isfinite(column).all()
    assert all(0 <= value <= 1 for value in history.validation_accuracy)
    without = train(build_network(8), *few, **options)
    assert without.loss == history.loss
    assert without.validation_loss == without.validation_accuracy == []


def test_the_last_row_is_what_the_trained_network_does(digits):
    network, (others, truth) = build_network(8), digits[1]
    history = train(network, *digits[0], steps=30, validation=digits[1])
    predicted = confidences_of(network, others).argmax(1)
    assert history.validation_accuracy[-1] == pytest.approx((predicted == truth).mean(), abs=1e-6)
    assert history.validation_loss[-1] == pytest.approx(loss_of(network, others, truth), rel=1e-4)


def test_labels_may_be_a_tensor_or_of_any_whole_type(digits):
    inputs, labels = digits[0]
    trained = []
    for given in (labels, torch.from_numpy(labels), labels.astype(np.uint8), labels.tolist()):
        network = build_network(8)
        train(network, inputs, given, steps=3)
        trained.append(weights(network))
    assert all(torch.equal(trained[0], other) for other in trained[1:])


@pytest.mark.parametrize(
    "count, labels, options, message",
    [
        (0, [], {}, "0 inputs"),
        (3, [1, 2], {}, r"3 inputs and labels of shape \(2,\)"),
        (2, [[1], [2]], {}, r"2 inputs and labels of shape \(2, 1\)"),
        (2, [0.2, 1.0], {}, r"labels hold 0.2 \(float64\) for row 0"),
        (2, [0, None], {}, "labels hold None .*for row 1: .*leave out rows without a label"),
        (2, [0, 1], {"validation": (torch.zeros(2, 1, 8, 8), [3, 12])}, "labels hold 12.* 10 outputs"),
        (2, [0, -100], {}, "labels hold -100"),
        (2, [0, 1], {"steps": 0}, "steps is 0"),
        (2, [0, 1], {"batch_size": 0}, "batch_size 0"),
        (
            2,
            [0, 1],
            {"patience": 0},
            "patience is 0: it must be a whole number of evaluations, at least 1, or None",
        ),
        (2, [0, 1], {"patience": True}, "patience is True"),
        (2, [0, 1], {"patience": 1.5}, "patience is 1.5"),
        (2, [0, 1], {"patience": 2}, "no validation data: pass validation="),
        (2, [0, 1], {"validation": (torch.zeros(2, 1, 8, 8), np.array([1]))}, "2 inputs and labels of shape"),
    ],
)
def test_what_cannot_be_learnt_from_is_named_before_a_weight_changes(count, labels, options, message):
    network = build_network(8)
    before = weights(network)
    with pytest.raises(ValueError, match=message):
        train(network, torch.zeros(count, 1, 8, 8), np.array(labels), **options)
    assert torch.equal(weights(network), before)


def linear(outputs=3, dtype=torch.float32):
    torch.manual_seed(0)
    return torch.nn.Linear(4, outputs).to(dtype)


ROWS = np.random.default_rng(0).normal(size=(12, 4)).astype(np.float32)
CLASSES = np.arange(12) % 3


def read_only(values):
    values.setflags(write=False)
    return values


@pytest.mark.parametrize(
    "form",
    [
        lambda rows: read_only(rows.copy()),
        lambda rows: np.asfortranarray(rows)[::-1][::-1],
        lambda rows: rows.astype(">f4"),
        lambda rows: rows.astype(np.float64),
        pd.DataFrame,
        lambda rows: data.ArrayDataset(read_only(rows.copy()), CLASSES, "abc"),
    ],
    ids=["read-only", "not contiguous", "other bytes first", "double", "data frame", "data set"],
)
def test_arrays_of_any_layout_train_the_same_network_and_stay_as_they_are(form, recwarn):
    networks, inputs = [linear(), linear()], form(ROWS)
    for network, values in zip(networks, (ROWS, inputs), strict=True):
        train(network, values, CLASSES, steps=3)
    assert torch.equal(*map(weights, networks)) and not recwarn.list
    double = linear(dtype=torch.float64)
    train(double, inputs, CLASSES, steps=3)
    assert torch.allclose(weights(double).float(), weights(networks[0]), atol=1e-5)


class Named(NamedTuple):
    features: torch.Tensor
    logits: torch.Tensor


class Returns(torch.nn.Module):
    """Returns its logits in a form, and may take a dict."""

    def __init__(self, form):
        super().__init__()
        self.inner, self.form = linear(), form

    def forward(self, batch):
        return self.form(self.inner(batch["x"] if isinstance(batch, dict) else batch))


@pytest.mark.parametrize(
    ("network", "inputs", "message"),
    [
        (Returns(lambda logits: {"logits": logits}), ROWS, "it returned a dict.*logits=lambda"),
        (Returns(lambda logits: (logits, logits)), ROWS, "it returned a tuple"),
        (Returns(lambda logits: Named(logits, logits)), ROWS, "it returned a Named"),
        (linear(), {"x": ROWS, "y": ROWS[:7]}, "7 and 12 inputs and labels of shape"),
        (linear(), {}, " inputs and labels of shape"),
        (linear(), csr_matrix(ROWS), r"sparse csr_matrix: .*pass inputs.toarray\(\)"),
        (linear(), ROWS.astype(str), "inputs are <U.*torch modules take numbers"),
    ],
)
def test_forms_that_cannot_be_learnt_from_are_named_before_a_weight_changes(network, inputs, message):
    before = weights(network)
    with pytest.raises(ValueError, match=message):
        train(network, inputs, CLASSES, steps=2)
    assert torch.equal(weights(network), before)


def test_a_dict_is_passed_to_the_network_as_it_is():
    plain, by_name = linear(), Returns(lambda logits: logits)
    beside = {"none": np.zeros((12, 0), np.float32), "flags": CLASSES > 0, "codes": CLASSES.astype(np.uint16)}
    for network, inputs in ((plain, ROWS), (by_name, {"x": ROWS} | beside)):
        train(network, inputs, CLASSES, steps=3)
    assert torch.equal(weights(plain), weights(by_name))


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("in_memory", [True, False])
def test_inputs_that_are_not_finite_name_their_record(value, in_memory, monkeypatch):
    broken = ROWS.copy()
    broken[7, 1] = value
    dataset = data.ArrayDataset(broken, CLASSES, "abc", ids=[f"i{row}" for row in range(12)])
    network = torch.nn.Sequential(torch.nn.BatchNorm1d(4), linear())
    before = copy.deepcopy(network.state_dict())
    if not in_memory:
        monkeypatch.setattr("alhelpers.training._IN_MEMORY", 1)
    with pytest.raises(ValueError, match="the inputs of record i7 are not finite"):
        train(network, dataset, steps=9)
    assert all(torch.isfinite(parameter).all() for parameter in network.parameters())
    if in_memory:
        assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
        with pytest.raises(ValueError, match="the inputs of row 7 are not finite: replace"):
            train(network, broken, CLASSES, steps=2)

        class Filled(torch.nn.Linear):
            def forward(self, inputs):
                return super().forward(torch.nan_to_num(inputs, 0, 0, 0))

        train(network := Filled(4, 3), broken, CLASSES, steps=2)
        assert torch.isfinite(weights(network)).all()


def test_a_training_that_diverges_is_an_error():
    with pytest.raises(
        ValueError, match="the loss is (nan|inf) at step .*: train with a lower learning_rate"
    ):
        train(linear(), ROWS * 1e30, CLASSES, steps=40, learning_rate=1e30)

    class Rooted(torch.nn.Linear):
        def forward(self, inputs):  # the root of 0 has an infinite slope
            return super().forward(inputs) + (self.bias * 0).square().sqrt()

    with pytest.raises(ValueError, match="the weights are not finite after 1 steps"):
        train(Rooted(4, 3), ROWS, CLASSES, steps=1)


def test_probabilities_instead_of_logits_are_warned_of(recwarn):
    for last, warned in ((torch.nn.LogSoftmax(1), 0), (torch.nn.Sigmoid(), 0), (torch.nn.Softmax(1), 1)):
        train(torch.nn.Sequential(linear(), last), ROWS, CLASSES, steps=2)
        assert len(recwarn) == warned
    assert "returns probabilities" in str(recwarn.pop(UserWarning).message)


@pytest.mark.parametrize("classes", [[0, 2], [1]])
def test_classes_without_an_example_and_a_single_record_can_be_learnt_from(classes):
    network = linear(4)
    train(network, ROWS[: len(classes)], np.array(classes), steps=60, learning_rate=0.1)
    assert network(torch.from_numpy(ROWS[: len(classes)])).argmax(1).tolist() == classes


# ---------------------------------------------------------------------------------------------- early stopping


def test_a_patience_stops_and_keeps_the_best_weights(digits):
    (inputs, labels), (others, _) = digits
    shuffled = np.random.default_rng(0).permutation(labels)  # nothing to learn, so that it soon gets worse
    validation = (others[:200], labels)
    network, options = build_network(8), {"steps": 40, "evaluations": 20, "validation": validation, "seed": 3}
    history = train(network, inputs, shuffled, patience=3, **options)
    best = int(np.argmin(history.validation_loss))
    assert len(history.steps) == best + 1 + 3 < 20
    assert loss_of(network, *validation) == pytest.approx(history.validation_loss[best], rel=1e-4)
    assert not any(module.training for module in network.modules())
    # up to where it stopped, it is the training without a patience
    plain = train(build_network(8), inputs, shuffled, **options)
    assert plain.validation_loss[: len(history.steps)] == history.validation_loss


def test_a_patience_that_is_never_used_up_keeps_the_best_weights_too(digits):
    network, validation = build_network(8), [values[:200] for values in digits[1]]
    history = train(network, *digits[0], steps=20, evaluations=5, validation=validation, patience=9)
    assert len(history.steps) == 5
    assert loss_of(network, *validation) == pytest.approx(min(history.validation_loss), rel=1e-4)


def test_losses_that_are_not_finite_are_never_the_best():
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 2))
    validation = (torch.full((2, 4), torch.nan), np.array([0, 1]))
    options = {"steps": 10, "evaluations": 10, "validation": validation, "patience": 2}
    assert len(train(network, torch.rand(8, 4), np.arange(8) % 2, **options).steps) == 2
    assert torch.isfinite(weights(network)).all()


# ------------------------------------------------------------------------------------------------ augmentation


def blobs(count, size=28):
    """Bright bars through the middle, twice as long as wide."""
    images = torch.zeros(count, 1, size, size)
    images[:, :, size // 2 - 7 : size // 2 + 7, size // 2 - 3 : size // 2 + 3] = 1
    return images


def moments(images):
    """Each image's mass, centre, and the angle of its longer axis from the vertical in degrees."""
    size = images.shape[-1]
    place = torch.arange(size, dtype=torch.float32) - (size - 1) / 2
    y, x = torch.meshgrid(place, place, indexing="ij")
    image = images[:, 0]
    mass = image.sum((1, 2))
    cx, cy = (image * x).sum((1, 2)) / mass, (image * y).sum((1, 2)) / mass
    dx, dy = x - cx[:, None, None], y - cy[:, None, None]
    xx, yy, xy = ((image * product).sum((1, 2)) for product in (dx * dx, dy * dy, dx * dy))
    angle = torch.rad2deg(0.5 * torch.atan2(2 * xy, yy - xx))
    return mass, torch.stack([cx, cy], 1), angle


class Watcher(torch.nn.Module):
    """Keeps what it is trained on."""

    def __init__(self):
        super().__init__()
        self.bias, self.seen = torch.nn.Parameter(torch.zeros(2)), []

    def forward(self, inputs):
        self.seen.append(inputs.clone())
        return self.bias.expand(len(inputs), 2)


def augmented(images, seed=0, steps=1):
    network = Watcher()
    labels = np.zeros(len(images), dtype=np.int64)
    train(network, images, labels, steps=steps, batch_size=len(images), augmentation=True, seed=seed)
    return torch.cat(network.seen)


def test_augmentation_keeps_the_shape_and_only_moves_images_a_little():
    images = blobs(300)
    changed = augmented(images)
    assert changed.shape == images.shape and changed.dtype == images.dtype
    assert float(changed.min()) >= 0 and float(changed.max()) <= 1 + 1e-6
    mass, centre, angle = moments(changed)
    start, _, _ = moments(images)
    # 7 % of 28 pixels, scaled by at most 1/0.9; 10 degrees; areas between 0.9^2 and 1.1^2, or the inverse.
    assert float(centre.abs().max()) < 28 * 0.07 * 1.25
    assert float(angle.abs().max()) < 10.5
    assert 0.78 < float((mass / start).min()) and float((mass / start).max()) < 1.27
    # They do move: each of the three spans more than half of its range.
    assert float(centre.abs().max()) > 1 and float(angle.abs().max()) > 7
    assert float((mass / start).max() - (mass / start).min()) > 0.3


def test_augmentation_draws_anew_for_each_image_and_step():
    images = blobs(2)
    first, again = augmented(images, seed=1, steps=2), augmented(images, seed=1, steps=2)
    assert torch.equal(first, again)
    assert all(not torch.equal(first[one], first[other]) for one in range(4) for other in range(one))
    assert not torch.equal(first, augmented(images, seed=2, steps=2))
    assert torch.equal(images, blobs(2))
