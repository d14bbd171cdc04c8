"""What is particular to torch: trunks, embeddings, hooks, builders and modules."""

import pickle

import numpy as np
import pytest
import torch
from torch import nn

from alhelpers import data
from alhelpers.learners import TorchClassifier, build_network
from alhelpers.training import train
from alhelpers.uncertainty import DropoutError, mc_dropout

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def digits():
    pool, test = data.load("digits", seed=0)
    return pool.part(100), test.part(60)


def digits_network(seed):
    return build_network(8, 10, seed=seed)


class Counted(nn.Flatten):
    """A layer of torch's own kind that counts the rows that pass through it."""

    rows = 0

    def forward(self, inputs):
        self.rows += len(inputs)
        return super().forward(inputs)


Counted.__module__ = nn.Flatten.__module__


def test_it_trains_and_predicts_what_the_network_does(digits):
    """The same weights and numbers, bit for bit, as of :func:`train`, and those of a forward pass."""
    labelled, test = digits
    learner = TorchClassifier(digits_network, steps=8, augmentation=True, prediction_batch_size=16)
    history = learner.fit(labelled, validation=test, seed=5)
    network, inputs = digits_network(0), torch.from_numpy(test.inputs())
    validation, recipe = (inputs, test.labels()), {"steps": 8, "augmentation": True, "seed": 5}
    assert history == train(network, labelled.inputs(), labelled.labels(), validation=validation, **recipe)
    for value, other in zip(learner.network.parameters(), network.parameters(), strict=True):
        assert torch.equal(value, other)
    found = learner.predict(test, passes=4, embeddings=True, seed=2)
    np.testing.assert_array_equal(found.samples, mc_dropout(network, inputs, 4, batch_size=16, seed=2)[0])
    hidden = {"": inputs}
    with torch.no_grad():
        for name, layer in network.named_children():
            hidden[name] = layer([*hidden.values()][-1])
    for batch_size in (1, 7, 5000):
        other = TorchClassifier(network, prediction_batch_size=batch_size).predict(test, embeddings=True)
        for one in (found, other):
            np.testing.assert_allclose(one.logits, hidden["logits"], atol=1e-5)
            np.testing.assert_allclose(one.embeddings, hidden["embedding"], atol=1e-5)
            np.testing.assert_allclose(one.confidences, hidden["logits"].softmax(1), atol=1e-5)


def test_after_an_exception_the_network_is_as_before():
    network = build_network(8)
    network.train()
    with pytest.raises(RuntimeError):
        TorchClassifier(network).predict(data.ArrayDataset(np.zeros((2, 1, 12, 12), np.float32)))
    assert network.training and not any(module._forward_pre_hooks for module in network.modules())


@pytest.mark.parametrize(
    ("layers", "calls"),
    [
        (lambda: [nn.Dropout(0.5)], 1),
        (lambda: [nn.Sequential(nn.ReLU(), nn.Dropout(0.5))], 1),
        (lambda: [nn.ReLU(), nn.Dropout(0.5), nn.Linear(64, 64), nn.Dropout(0.5)], 1),
        (lambda: [nn.RReLU(), nn.Dropout(0.5)], 1),
    ],
)
def test_layers_before_the_first_dropout_run_once(digits, layers, calls):
    trunk = Counted()
    network = nn.Sequential(trunk, *layers(), nn.Linear(64, 10))
    learner = TorchClassifier(network)
    found = learner.predict(digits[1], passes=6)
    assert trunk.rows == calls * 60
    samples, _ = mc_dropout(network, torch.from_numpy(digits[1].inputs()), 6)
    np.testing.assert_array_equal(found.samples, samples)


def test_dropout_of_another_kind_is_never_taken_for_a_layer_that_runs_once(digits):
    """A layer of the caller's own may drop units by itself, as may a block before the last dropout."""

    class Own(nn.Module):
        def forward(self, inputs):
            return nn.functional.dropout(inputs.flatten(1), 0.5, self.training)

    for first in (Own(), nn.Sequential(nn.Flatten(), nn.Dropout(0.5))):
        network = nn.Sequential(first, nn.Linear(64, 32), nn.Dropout(1e-9), nn.Linear(32, 10))
        samples = TorchClassifier(network).predict(digits[1], passes=2).samples
        assert np.abs(samples[:, 0] - samples[:, 1]).max() > 1e-3


def test_a_module_is_trained_in_place_and_fresh_returns_to_its_first_weights(digits):
    network = digits_network(4)
    learner = TorchClassifier(network, steps=3)
    learner.fit(digits[0])
    assert learner.network is network
    again = learner.fresh(9)
    for value, first in zip(again.network.parameters(), digits_network(4).parameters(), strict=True):
        assert torch.equal(value, first)
    again.fit(digits[0])
    for value, other in zip(again.network.parameters(), network.parameters(), strict=True):
        assert torch.equal(value, other) and value is not other


def test_a_builder_takes_a_seed_or_is_called_under_it():
    learners = [TorchClassifier(lambda: nn.Linear(4, 2), seed=seed) for seed in (1, 1, 2)]
    one, again, other = (learner.network.weight for learner in learners)
    assert torch.equal(one, again) and not torch.equal(one, other)
    assert torch.equal(learners[2].fresh(1).network.weight, one)
    assert torch.equal(
        TorchClassifier(digits_network, seed=3).network.conv1.weight, digits_network(3).conv1.weight
    )
    with pytest.raises(ValueError, match="build must return a torch.nn.Module, it returned a str"):
        TorchClassifier(lambda: "network")


def test_the_embedding_is_what_goes_into_the_last_linear_layer_that_is_called(digits):
    class Head(nn.Module):
        def __init__(self):
            super().__init__()
            self.last, self.first = nn.Linear(12, 10), nn.Linear(64, 12)

        def forward(self, inputs):
            return self.last(torch.tanh(self.first(inputs.flatten(1))))

    learner, inputs = TorchClassifier(Head), torch.from_numpy(digits[1].inputs())
    found = learner.predict(digits[1], embeddings=True).embeddings
    with torch.no_grad():
        expected = torch.tanh(learner.network.first(inputs.flatten(1)))
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-6)
    convolutions = nn.Sequential(nn.Conv2d(1, 10, 8), nn.Flatten())
    with pytest.raises(ValueError, match="no nn.Linear.*name a layer, embedding="):
        TorchClassifier(convolutions).predict(digits[1], embeddings=True)
    named = TorchClassifier(convolutions, embedding="0").predict(digits[1], embeddings=True)
    np.testing.assert_array_equal(named.embeddings, named.logits)
    with pytest.raises(AttributeError, match="hidden"):
        TorchClassifier(convolutions, embedding="hidden").predict(digits[1], embeddings=True)


def test_what_a_network_must_not_return_is_named(digits):
    labelled, test = digits
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    with pytest.raises(ValueError, match="must return logits of shape .*returned a dict.*logits=lambda"):
        TorchClassifier(network, logits=lambda output: {"logits": output}).fit(labelled)
    with pytest.raises(ValueError, match=r"must return logits of shape \(N, C\).*it returned \(64,\)"):
        TorchClassifier(network, logits=lambda output: output[:, 0]).fit(labelled)
    with pytest.raises(
        ValueError, match="labels hold 9, but the network has 4 outputs: labels must be from 0 to 3"
    ):
        TorchClassifier(nn.Sequential(nn.Flatten(), nn.Linear(64, 4))).fit(labelled)
    with pytest.raises(DropoutError, match="no dropout"):
        TorchClassifier(network).predict(test, passes=2)
    with torch.no_grad():
        network[1].bias[3] = torch.nan
    with pytest.raises(ValueError, match=f"logits of record {test.ids[0]} are not finite"):
        TorchClassifier(network).predict(test)


def test_a_network_whose_outputs_are_no_logits_is_named_when_it_predicts(digits):
    _, test = digits
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    with pytest.raises(ValueError, match="must return logits .*returned a dict.*logits=lambda"):
        TorchClassifier(network, logits=lambda output: {"logits": output}).predict(test)
    with pytest.raises(ValueError, match="one output, whose softmax is always 1.*torch.cat"):
        TorchClassifier(nn.Sequential(nn.Flatten(), nn.Linear(64, 1))).predict(test)
    learner = TorchClassifier(nn.Sequential(network, nn.Softmax(1)))
    with pytest.warns(UserWarning, match="returns probabilities.*remove its softmax.*clamp_min") as caught:
        first = learner.predict(test)
        learner.predict(test)
    assert len(caught) == 1
    mended = TorchClassifier(learner.network, logits=lambda output: output.clamp_min(1e-12).log()).predict(
        test
    )
    plain = TorchClassifier(network).predict(test)
    np.testing.assert_allclose(mended.confidences, plain.confidences, atol=1e-5)
    assert first.confidences.max() < plain.confidences.max()


def test_the_order_of_class_names_is_that_of_the_training(digits):
    labelled, test = digits
    learner = TorchClassifier(digits_network, steps=1)
    learner.fit(labelled)
    turned = data.ImageSet("turned", test.images, test.labels(), test.class_names[::-1])
    message = (
        "names of the data set are 9, 8, .* fitted on are 0, 1, .*: use the same names in the same order"
    )
    with pytest.raises(ValueError, match=message):
        learner.predict(turned)
    with pytest.raises(ValueError, match=message):
        learner.fresh(0).fit(labelled, validation=turned)
    assert len(learner.fresh(0).predict(turned)) == 60


def test_weights_that_do_not_fit_change_nothing(digits, tmp_path):
    """Not even those layers that would fit."""
    network = digits_network(0)
    for other, message in (
        (
            build_network(8, 4, seed=1),
            r"the weights of another network: 'logits.weight' has the shape \(4, \d+\) there and \(10, \d+\) in the"
            " model$",
        ),
        (nn.Linear(2, 2), "the weights of another network: it has no 'conv1.weight', which the model needs$"),
    ):
        TorchClassifier(other).save(tmp_path)
        with pytest.raises(ValueError, match=message):
            TorchClassifier(network).load(tmp_path)
    torch.save(torch.zeros(3), tmp_path / "weights.pt")
    with pytest.raises(ValueError, match="another network: .*Tensor"):
        TorchClassifier(network).load(tmp_path)
    for value, expected in zip(network.parameters(), digits_network(0).parameters(), strict=True):
        assert torch.equal(value, expected)


def test_weights_are_loaded_from_their_folder_or_their_file(tmp_path):
    saved = nn.Linear(3, 2)
    TorchClassifier(saved).save(tmp_path / "model")
    for place in ("model", "model/weights.pt"):
        network = nn.Linear(3, 2)
        TorchClassifier(network).load(tmp_path / place)
        assert torch.equal(network.weight, saved.weight)
    with pytest.raises(FileNotFoundError, match="nowhere is not there: name the folder that save wrote"):
        TorchClassifier(saved).load(tmp_path / "nowhere")


class Opened:
    """Writes a file when it is read from a pickle."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def test_damaged_files_and_pickles_are_errors_and_no_code_of_theirs_runs(tmp_path):
    learner = TorchClassifier(nn.Linear(3, 2))
    learner.save(tmp_path)
    path, draw = tmp_path / "weights.pt", np.random.default_rng(0)
    whole = path.read_bytes()
    damaged = [whole[:length] for length in range(0, len(whole), 97)]
    torch.save(nn.Linear(3, 2).state_dict(), path, _use_new_zipfile_serialization=False)
    old = np.frombuffer(path.read_bytes(), np.uint8)
    for _ in range(60):
        changed = old.copy()
        changed[draw.integers(len(changed) // 2, size=4)] = draw.integers(256, size=4)
        damaged.append(changed.tobytes())
    damaged += [pickle.dumps(Opened(tmp_path / "code")), b""]
    failed = 0
    for content in damaged:
        path.write_bytes(content)
        try:
            learner.load(tmp_path)
        except ValueError as error:
            failed += 1
            assert "is damaged" in str(error) or "of another network" in str(error)
    assert failed > len(damaged) / 2 and not (tmp_path / "code").exists()


def test_a_patience_and_the_batch_sizes_are_checked(digits):
    learner = TorchClassifier(digits_network, patience=1, steps=30, learning_rate=1.0, evaluations=30)
    with pytest.raises(ValueError, match="patience is 1, but there is no validation data"):
        learner.fit(digits[0])
    assert len(learner.fit(digits[0], validation=digits[1]).steps) < 30
    with pytest.raises(ValueError, match="prediction_batch_size is 0"):
        TorchClassifier(digits_network, prediction_batch_size=0)
    calls = []
    TorchClassifier(digits_network, steps=4, evaluations=2).fit(
        digits[0], progress=lambda *call: calls.append(call)
    )
    assert calls == [(2, 4), (4, 4)]
