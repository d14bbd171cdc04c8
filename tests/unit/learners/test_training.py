import copy

import numpy as np
import pytest
import torch

from alhelpers import data
from alhelpers.learners import build_network, predict, to_inputs, train

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def digits():
    """200 labelled digits and 500 others, as network inputs."""
    pool, test = data.load("digits", seed=0)
    few = pool.part(200)
    return (to_inputs(few.images), few.labels), (to_inputs(test.images), test.labels)


def weights(network):
    return torch.cat([value.detach().flatten() for value in network.parameters()])


# ------------------------------------------------------------------------------------------------------ inputs


def test_inputs_are_grey_levels_from_0_to_1():
    images = np.array([[[0, 51], [102, 255]]], dtype=np.uint8)
    inputs = to_inputs(images)
    assert inputs.shape == (1, 1, 2, 2) and inputs.dtype == torch.float32
    assert torch.allclose(inputs[0, 0], torch.tensor([[0, 0.2], [0.4, 1]]))


@pytest.mark.parametrize(
    "images, message",
    [
        (np.zeros((2, 8, 8), np.float32), r"float32 \(2, 8, 8\)"),
        (np.zeros((8, 8), np.uint8), r"uint8 \(8, 8\)"),
        (np.zeros((2, 8, 8, 3), np.uint8), r"uint8 \(2, 8, 8, 3\)"),
    ],
)
def test_images_of_another_form_are_refused(images, message):
    with pytest.raises(ValueError, match=message):
        to_inputs(images)


# ---------------------------------------------------------------------------------------------------- training


def test_two_hundred_labels_are_enough_to_read_digits(digits):
    (inputs, labels), (others, truth) = digits
    network = build_network(8, seed=0)
    train(network, inputs, labels, seed=0)
    accuracy = (predict(network, others).confidences.argmax(1) == truth).mean()
    # Chance is 0.1; this seed reaches about 0.95. The bound leaves room for other builds of torch.
    assert accuracy > 0.85


def test_a_large_network_learns_too():
    pool, test = data.load("mnist", seed=0)
    few, others = pool.part(200), test.take(np.arange(0, len(test), 7))
    network = build_network(28, seed=0)
    train(network, to_inputs(few.images), few.labels, steps=60, augmentation=True, seed=0)
    accuracy = (predict(network, to_inputs(others.images)).confidences.argmax(1) == others.labels).mean()
    assert accuracy > 0.8  # chance is 0.1; this seed reaches about 0.98


@pytest.mark.parametrize("augmentation", [False, True])
def test_same_seed_same_training(digits, augmentation):
    (inputs, labels), _ = digits
    trained = []
    for seed in (1, 1, 2):
        network = build_network(8, seed=0)
        train(network, inputs, labels, steps=5, augmentation=augmentation, seed=seed)
        trained.append(weights(network))
    assert torch.equal(trained[0], trained[1])
    assert not torch.equal(trained[0], trained[2])


def test_looking_does_not_change_the_training(digits):
    (inputs, labels), validation = digits
    plain, watched = build_network(8), build_network(8)
    train(plain, inputs, labels, steps=6, looks=1)
    train(watched, inputs, labels, steps=6, looks=6, validation=validation, on_look=lambda *_: None)
    assert torch.equal(weights(plain), weights(watched))


def test_torch_random_state_and_the_inputs_are_left_alone(digits):
    (inputs, labels), _ = digits
    before, data, targets = torch.random.get_rng_state(), inputs.clone(), labels.copy()
    train(build_network(8), inputs, labels, steps=2, augmentation=True)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.equal(inputs, data) and np.array_equal(labels, targets)


def test_the_network_is_left_in_evaluation_mode(digits):
    (inputs, labels), _ = digits
    network = build_network(8)
    train(network, inputs, labels, steps=1)
    assert not any(module.training for module in network.modules())


@pytest.mark.parametrize(
    "steps, looks, expected",
    [
        (20, 4, [5, 10, 15, 20]),
        (7, 3, [3, 5, 7]),
        (3, 10, [1, 2, 3]),
        (1, 1, [1]),
    ],
)
def test_history_has_as_many_rows_as_looks(digits, steps, looks, expected):
    (inputs, labels), (others, truth) = digits
    calls = []
    history = train(
        build_network(8),
        inputs[:20],
        labels[:20],
        steps=steps,
        looks=looks,
        validation=(others[:50], truth[:50]),
        on_look=lambda *call: calls.append(call),
    )
    assert history.steps == expected
    assert calls == [(step, steps) for step in expected]
    for column in history:
        assert len(column) == len(expected)
        assert np.isfinite(column).all()
    assert all(0 <= value <= 1 for value in history.validation_accuracy)


def test_history_without_validation_has_losses_only(digits):
    (inputs, labels), _ = digits
    history = train(build_network(8), inputs, labels, steps=10, looks=2)
    assert len(history.loss) == 2
    assert history.validation_loss == history.validation_accuracy == []


def test_the_last_row_is_what_the_trained_network_does(digits):
    (inputs, labels), (others, truth) = digits
    network = build_network(8)
    history = train(network, inputs, labels, steps=30, validation=(others, truth))
    predicted = predict(network, others).confidences
    assert history.validation_accuracy[-1] == pytest.approx((predicted.argmax(1) == truth).mean(), abs=1e-6)
    loss = -np.log(predicted[np.arange(len(truth)), truth]).mean()
    assert history.validation_loss[-1] == pytest.approx(loss, rel=1e-4)


def test_labels_may_be_a_tensor_or_of_any_whole_type(digits):
    (inputs, labels), _ = digits
    trained = []
    for given in (labels, torch.from_numpy(labels), labels.astype(np.uint8), labels.tolist()):
        network = build_network(8)
        train(network, inputs, given, steps=3)
        trained.append(weights(network))
    assert all(torch.equal(trained[0], other) for other in trained[1:])


def test_fewer_images_than_a_batch(digits):
    (inputs, labels), _ = digits
    history = train(build_network(8), inputs[:3], labels[:3], steps=4, batch_size=64)
    assert history.steps == [1, 2, 3, 4]


@pytest.mark.parametrize(
    "count, labels, options, message",
    [
        (0, [], {}, "0 images"),
        (3, [1, 2], {}, r"3 images and labels of shape \(2,\)"),
        (2, [[1], [2]], {}, r"2 images and labels of shape \(2, 1\)"),
        (2, [0.2, 1.0], {}, "labels hold float64"),
        (2, [0, -100], {}, "labels hold -100"),
        (2, [0, 1], {"steps": 0}, "steps is 0"),
        (2, [0, 1], {"batch_size": 0}, "batch_size 0"),
        (
            2,
            [0, 1],
            {"patience": 0},
            "patience is 0: it must be a whole number of looks, at least 1, or None",
        ),
        (2, [0, 1], {"patience": True}, "patience is True"),
        (2, [0, 1], {"patience": 1.5}, "patience is 1.5"),
        (2, [0, 1], {"patience": 2}, "no validation to look at: pass validation="),
        (2, [0, 1], {"validation": (torch.zeros(2, 1, 8, 8), np.array([1]))}, "2 images and labels of shape"),
    ],
)
def test_what_cannot_be_learnt_from_is_named_before_a_weight_changes(count, labels, options, message):
    network = build_network(8)
    before = weights(network)
    with pytest.raises(ValueError, match=message):
        train(network, torch.zeros(count, 1, 8, 8), np.array(labels), **options)
    assert torch.equal(weights(network), before)


# ---------------------------------------------------------------------------------------------- early stopping


def loss_of(network, validation):
    """The validation loss that the network has now, by its confidences."""
    predicted = predict(network, validation[0]).confidences
    return -np.log(predicted[np.arange(len(validation[1])), validation[1]]).mean()


def test_a_patience_stops_and_keeps_the_weights_of_the_best_look(digits):
    (inputs, labels), (others, _) = digits
    shuffled = np.random.default_rng(0).permutation(labels)  # nothing to learn, so that it soon gets worse
    validation = (others[:200], labels)
    network, options = build_network(8), {"steps": 40, "looks": 20, "validation": validation, "seed": 3}
    history = train(network, inputs, shuffled, patience=3, **options)
    best = int(np.argmin(history.validation_loss))
    assert len(history.steps) == best + 1 + 3 < 20
    assert loss_of(network, validation) == pytest.approx(history.validation_loss[best], rel=1e-4)
    assert not any(module.training for module in network.modules())
    # up to where it stopped, it is the training without a patience
    plain = train(build_network(8), inputs, shuffled, **options)
    assert plain.validation_loss[: len(history.steps)] == history.validation_loss


def test_a_patience_that_is_never_used_up_keeps_the_best_look_too(digits):
    (inputs, labels), (others, truth) = digits
    network, validation = build_network(8), (others[:200], truth[:200])
    history = train(network, inputs, labels, steps=20, looks=5, validation=validation, patience=9)
    assert len(history.steps) == 5
    assert loss_of(network, validation) == pytest.approx(min(history.validation_loss), rel=1e-4)


def test_losses_that_are_not_finite_are_no_best_look():
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 2))
    validation = (torch.full((2, 4), torch.nan), np.array([0, 1]))
    history = train(
        network, torch.rand(8, 4), np.arange(8) % 2, steps=10, looks=10, validation=validation, patience=2
    )
    assert len(history.steps) == 2
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
    """Sees what a network is trained on."""

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


# -------------------------------------------------------------------------------------------------- prediction


def test_predictions_are_confidences_logits_and_embeddings(digits):
    (inputs, _), _ = digits
    network = build_network(8, seed=1)
    found = predict(network, inputs)
    assert found.confidences.shape == found.logits.shape == (200, 10)
    assert found.embeddings.shape == (200, 64)
    assert {values.dtype for values in found} == {np.dtype(np.float32)}
    np.testing.assert_allclose(found.confidences.sum(1), 1, atol=1e-5)
    network.eval()
    with torch.no_grad():
        hidden = inputs
        for name, layer in network.named_children():
            hidden = layer(hidden)
            if name == "embedding":
                np.testing.assert_allclose(found.embeddings, hidden.numpy(), atol=1e-5)
        np.testing.assert_allclose(found.logits, hidden.numpy(), atol=1e-5)
        np.testing.assert_allclose(found.confidences, hidden.softmax(1).numpy(), atol=1e-5)


@pytest.mark.parametrize("batch_size", [1, 7, 200, 5000])
def test_the_batch_size_does_not_matter(digits, batch_size):
    (inputs, _), _ = digits
    network = build_network(8, seed=1)
    whole, parts = predict(network, inputs), predict(network, inputs, batch_size=batch_size)
    for one, other in zip(whole, parts, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


def test_every_layer_gets_its_mode_back(digits):
    (inputs, _), _ = digits
    network = build_network(8)
    network.train()
    network.dropout1.eval()
    modes = [module.training for module in network.modules()]
    predict(network, inputs)
    assert [module.training for module in network.modules()] == modes


def test_after_an_exception_the_network_is_as_before():
    network = build_network(8)
    network.train()
    with pytest.raises(RuntimeError):
        predict(network, torch.zeros(2, 1, 12, 12))
    assert network.training
    assert not network.embedding._forward_hooks


def test_prediction_changes_nothing(digits):
    (inputs, _), _ = digits
    network = build_network(8)
    state, random_state = copy.deepcopy(network.state_dict()), torch.random.get_rng_state()
    predict(network, inputs)
    assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items())
    assert torch.equal(torch.random.get_rng_state(), random_state)


def test_nothing_to_predict_is_an_error():
    with pytest.raises(ValueError, match="no images to predict"):
        predict(build_network(8), torch.zeros(0, 1, 8, 8))
    with pytest.raises(ValueError, match="batch_size is 0"):
        predict(build_network(8), torch.zeros(1, 1, 8, 8), batch_size=0)
