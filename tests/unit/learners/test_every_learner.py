"""What every learner must do, as scikit-learn's estimator checks do for estimators.

A new learner joins by an entry in ``LEARNERS``.
"""

import copy
import functools
from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.compose import make_column_transformer
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from torch import nn

from alhelpers import data, protocols, records
from alhelpers.data.arrays import parts_of
from alhelpers.learners import SklearnLearner, TorchClassifier, TorchRegressor, build_network
from alhelpers.learners.deforming import elastic
from alhelpers.uncertainty import Committee, CommitteeError

torch.set_num_threads(1)
ROWS, CLASSES = 60, 4
RECIPE = {"steps": 12, "batch_size": 16, "prediction_batch_size": 7}


class Counting(data.ArrayDataset):
    """A data set that counts how many rows are read at once."""

    most = 0

    def inputs(self, rows):
        self.most = max(self.most, len(rows))
        return super().inputs(rows)


def small_images(seed=0, shape=(ROWS, 9, 12, 3)):
    """Noisy colour images, whose class is the place of their bright stripe."""
    draw = np.random.default_rng(seed)
    images = draw.integers(0, 120, shape, dtype=np.uint8)
    labels = np.arange(shape[0]) % CLASSES
    for image, label in zip(images, labels, strict=True):
        image[2 * label : 2 * label + 2] += 130
    return data.ImageSet("stripes", images, labels, ["a", "b", "c d", "é"])


def planes(inputs_of):
    """The same images as another form of inputs."""

    def make(seed=0):
        images = small_images(seed)
        return data.ArrayDataset(
            inputs_of(images.inputs()), images.labels(), images.class_names, ids=images.ids
        )

    return make


def table(seed=0, outputs=1):
    images = small_images(seed)
    features = images.inputs().mean(axis=(1, 3))
    labels = features @ np.linspace(-1, 1, 9 * outputs).reshape(9, outputs)
    labels = labels[:, 0] if outputs == 1 else labels
    return data.ArrayDataset(features, labels, task="regression", ids=images.ids)


def several(seed=0):
    """Images with any number of stripes, each of which is a label."""
    draw = np.random.default_rng(seed)
    pixels = draw.integers(0, 120, (ROWS, 3, 9, 12)) / 255
    labels = draw.integers(0, 2, (ROWS, CLASSES))
    for image, own in zip(pixels, labels, strict=True):
        image[:, np.flatnonzero(np.repeat(own, 2))] += 0.5
    ids = [f"s{row}" for row in range(ROWS)]
    return data.ArrayDataset(pixels, labels, ["a", "b", "c d", "é"], task="multilabel", ids=ids)


def texts(seed=0):
    images, draw = small_images(seed), np.random.default_rng(seed)
    seen = np.where(draw.random(ROWS) < 0.15, draw.integers(0, CLASSES, ROWS), images.labels())
    words = np.array(["red rose", "blue sea", "green field", "grey stone"])[seen]
    noise = np.array(["house", "car", "road"])[draw.integers(0, 3, ROWS)]
    joined = np.array([f"{one} {other}" for one, other in zip(words, noise, strict=True)])
    return data.ArrayDataset(joined, images.labels(), images.class_names, ids=images.ids)


def counts_of_letters(batch):
    return torch.tensor([[text.count(letter) for letter in "abcdefghijkl"] for text in batch]).double()


def columns(seed=0):
    dataset = texts(seed)
    colours = pd.Categorical([text.split()[0] for text in dataset.inputs()])
    frame = pd.DataFrame({"colour": colours, "length": [len(text) for text in dataset.inputs()]})
    return data.ArrayDataset(frame, dataset.labels(), dataset.class_names, ids=dataset.ids)


def colour_network(seed):
    return build_network((9, 12), CLASSES, channels=3, seed=seed)


def numbers_network(outputs=1):
    return nn.Sequential(nn.Linear(9, 32), nn.ReLU(), nn.Dropout(0.1), nn.Linear(32, outputs))


class TwoInputs(nn.Module):
    """Takes images and a column of numbers by name, and returns a dict."""

    def __init__(self):
        super().__init__()
        self.hidden, self.drop, self.head = (
            nn.Linear(9 * 12 * 3 + 9, 16),
            nn.Dropout(0.3),
            nn.Linear(16, CLASSES),
        )

    def forward(self, pixels, rows):
        features = torch.relu(self.hidden(torch.cat([pixels.flatten(1), rows], 1)))
        return {"features": features, "logits": self.head(self.drop(features))}


class Auxiliary(nn.Module):
    """Takes two positional inputs, and returns a tuple."""

    def __init__(self):
        super().__init__()
        self.both = TwoInputs()

    def forward(self, pixels, rows):
        output = self.both(pixels, rows)
        return output["features"], output["logits"]


class OneAfterAnother(Committee):
    """Members are trained in this process, which starts faster."""

    def fit(self, dataset, **options):
        return super().fit(dataset, workers=1, **options)


class Case(NamedTuple):
    make: object
    dataset: object = small_images
    stored: bool = True
    passes: int = 3
    builds: bool = True
    embedding: int = 64
    members: int = 0


def _two(inputs):
    return {"pixels": inputs, "rows": inputs.mean((1, 3))}


LEARNERS = {
    "build": Case(lambda: TorchClassifier(colour_network, **RECIPE)),
    "augmented": Case(lambda: TorchClassifier(colour_network, augmentation=elastic, **RECIPE)),
    "module": Case(lambda: TorchClassifier(colour_network(3), **RECIPE), builds=False),
    "layer by name": Case(
        lambda: TorchClassifier(colour_network, embedding="conv1", **RECIPE), embedding=16 * 9 * 12
    ),
    "dict": Case(
        lambda: TorchClassifier(
            TwoInputs, logits=lambda output: output["logits"], embedding="hidden", **RECIPE
        ),
        planes(_two),
        embedding=16,
    ),
    "tuple": Case(
        lambda: TorchClassifier(Auxiliary, logits=lambda output: output[1], **RECIPE),
        planes(lambda inputs: tuple(_two(inputs).values())),
        embedding=16,
    ),
    "preprocess": Case(
        lambda: TorchClassifier(
            lambda: nn.Sequential(nn.Linear(12, 32), nn.ReLU(), nn.Dropout(0.2), nn.Linear(32, CLASSES)),
            preprocess=counts_of_letters,
            **RECIPE | {"steps": 40},
        ),
        texts,
        embedding=32,
    ),
    "several labels": Case(
        lambda: TorchClassifier(colour_network, task="multilabel", **RECIPE | {"steps": 40}), several
    ),
    "several labels, a dict": Case(
        lambda: TorchClassifier(
            TwoInputs,
            task="multilabel",
            preprocess=_two,
            logits=lambda output: output["logits"],
            embedding="hidden",
            **RECIPE | {"steps": 40},
        ),
        several,
        embedding=16,
    ),
    "numbers": Case(lambda: TorchRegressor(numbers_network, **RECIPE), table, embedding=32),
    "vectors of numbers": Case(
        lambda: TorchRegressor(lambda: numbers_network(2), **RECIPE),
        lambda seed=0: table(seed, 2),
        embedding=32,
    ),
    "committee of several labels": Case(
        lambda: OneAfterAnother(
            TorchClassifier(colour_network, task="multilabel", **RECIPE | {"steps": 40}), 2
        ),
        several,
        members=2,
    ),
    "committee of numbers": Case(
        lambda: OneAfterAnother(TorchRegressor(numbers_network, **RECIPE), 2), table, embedding=32, members=2
    ),
    "texts": Case(
        lambda: SklearnLearner(make_pipeline(TfidfVectorizer(), RandomForestClassifier(5))),
        texts,
        stored=False,
        passes=0,
        embedding=11,
    ),
    "a data frame with categories": Case(
        lambda: SklearnLearner(
            make_pipeline(
                make_column_transformer((OneHotEncoder(), ["colour"]), remainder="passthrough"),
                RandomForestClassifier(3),
            )
        ),
        columns,
        stored=False,
        passes=0,
        embedding=5,
    ),
    "several labels of a forest": Case(
        lambda: SklearnLearner(RandomForestClassifier(9)),
        several,
        stored=False,
        passes=0,
        embedding=9 * 12 * 3,
    ),
    "committee": Case(lambda: OneAfterAnother(TorchClassifier(colour_network, **RECIPE), 2), members=2),
    "classifier": Case(
        lambda: SklearnLearner(RandomForestClassifier(5)), stored=False, passes=0, embedding=9 * 12 * 3
    ),
    "pipeline": Case(
        lambda: SklearnLearner(make_pipeline(StandardScaler(), RandomForestClassifier(5))),
        stored=False,
        passes=0,
        embedding=9 * 12 * 3,
    ),
    "regressor": Case(
        lambda: SklearnLearner(RandomForestRegressor(5)), table, stored=False, passes=0, embedding=9
    ),
    "regressor of vectors": Case(
        lambda: SklearnLearner(RandomForestRegressor(5)),
        lambda seed=0: table(seed, 2),
        stored=False,
        passes=0,
        embedding=9,
    ),
}
every_learner = pytest.mark.parametrize("case", LEARNERS.values(), ids=LEARNERS)


def networks(learner):
    return [member.network for member in getattr(learner, "models", [learner])]


def outputs(predictions):
    """All arrays of predictions in one flat array."""
    arrays = [*predictions.fields().values(), *([] if predictions.values is None else [predictions.values])]
    return np.concatenate([np.ravel(values) for values in arrays])


def fitted(case, *, start=1, seed=2):
    learner = case.make().fresh(start)
    return learner, learner.fit(case.dataset(), seed=seed)


fitted_once = functools.cache(fitted)


def trained(case):
    """A copy of the learner that `fitted` returns, which is fitted once for all tests."""
    return copy.deepcopy(fitted_once(case)[0])


@every_learner
def test_it_fulfils_the_protocols(case):
    learner, history = fitted(case)
    assert isinstance(learner, protocols.Learner) and isinstance(case.dataset(), protocols.Dataset)
    assert isinstance(history, protocols.History)
    assert isinstance(learner.predict(case.dataset()), protocols.Predictions)


@every_learner
def test_fit_is_deterministic_by_seed(case):
    one, again, other = (fitted(case, seed=seed) for seed in (2, 2, 3))
    assert one[1] == again[1]
    found = [outputs(learner.predict(case.dataset(1))) for learner, _ in (one, again, other)]
    np.testing.assert_array_equal(found[0], found[1])
    assert not np.array_equal(found[0], found[2])


@every_learner
def test_fresh_is_untrained_and_starts_by_its_seed(case):
    original = trained(case)
    before = outputs(original.predict(case.dataset()))
    found = []
    for seed in (1, 1, 4):
        learner = original.fresh(seed)
        learner.fit(case.dataset(), seed=2)
        found.append(outputs(learner.predict(case.dataset())))
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_array_equal(found[0], before)
    assert np.array_equal(found[0], found[2]) != case.builds
    np.testing.assert_array_equal(outputs(original.predict(case.dataset())), before)


@every_learner
def test_it_learns(case):
    """Better than chance on other rows; for the regressor, than the mean."""
    learner, dataset = case.make().fresh(0), case.dataset(5)
    for seed in range(4):
        learner.fit(case.dataset(), seed=seed)
    predictions, truth = learner.predict(dataset), dataset.labels()
    assert predictions.task == dataset.task
    if dataset.task == "multilabel":
        assert ((predictions.confidences > 0.5) == truth).mean() > 0.7
    elif predictions.values is None:
        assert (predictions.confidences.argmax(1) == truth).mean() > 0.7
    else:
        assert ((predictions.values - truth) ** 2).mean() < 0.5 * truth.var()


@every_learner
def test_predict_changes_nothing(case):
    learner = trained(case)
    own = networks(learner) if case.stored else []
    for network in own:
        network.train()
        next(network.children()).eval()
    before = copy.deepcopy(own)
    dataset, read = case.dataset(), case.dataset()
    random_states = _random_states()
    first = outputs(learner.predict(dataset, passes=case.passes, embeddings=True))
    np.testing.assert_array_equal(
        outputs(learner.predict(dataset, passes=case.passes, embeddings=True)), first
    )
    assert _random_states() == random_states
    for values, expected in zip(parts_of(dataset.inputs(None)), parts_of(read.inputs(None)), strict=True):
        np.testing.assert_array_equal(values, expected)
    for network, other in zip(own, before, strict=True):
        assert [each.training for each in network.modules()] == [each.training for each in other.modules()]
        for name, value in network.state_dict().items():
            assert torch.equal(value, other.state_dict()[name])
        assert not any(module._forward_hooks or module._forward_pre_hooks for module in network.modules())


def _random_states():
    return torch.get_rng_state().tolist(), np.random.get_state()[1].tolist()  # noqa: NPY002


@every_learner
def test_predictions_have_the_documented_shapes(case):
    learner = trained(case)
    dataset = case.dataset().part(23, start=4)
    found = learner.predict(dataset, passes=case.passes, embeddings=True, seed=1)
    assert len(found) == 23 and found.embeddings.shape == (23, case.embedding)
    assert all(values.dtype == np.float32 for values in found.fields().values())
    table = found.to_records(dataset.ids)
    assert table["id"].to_pylist() == list(dataset.ids)
    assert set(found.fields()) <= set(table.column_names)
    members = (case.members,) * (case.members > 0)
    shape = dataset.labels().shape[1:]
    if found.values is not None:
        assert found.values.shape == (23, *shape) and found.confidences is None
        written = [row["value"] for row in table["metadata"].to_pylist()]
        np.testing.assert_allclose(np.array(written), found.values, rtol=1e-6)
    else:
        assert found.confidences.shape == (23, CLASSES)
        names = list(dataset.class_names)
        assert table["class_names"].to_pylist() == [names] * 23
        assert found.confidences.min() >= 0 and found.confidences.max() <= 1
    if dataset.task == "multilabel":
        assert not {"class_name", "confidence"} & set(table.column_names)
        assert np.abs(found.confidences.sum(1) - 1).max() > 0.1
    elif dataset.task == "classification":
        np.testing.assert_allclose(found.confidences.sum(1), 1, atol=1e-5)
        assert table["class_name"].to_pylist() == [names[row] for row in found.confidences.argmax(1)]
        shape = (CLASSES,)
    if case.passes:
        shape = shape or (1,) * (case.members > 0)
        assert found.samples.shape == (23, *members, case.passes, *shape)
        if dataset.task == "classification":
            np.testing.assert_allclose(found.samples.sum(-1), 1, atol=1e-5)
        passes = np.moveaxis(found.samples, 1 + len(members), 0)
        assert not np.array_equal(passes[0], passes[1])
        rows = found.to_records(dataset.ids)
        assert records.column(rows, "mc_dropout").shape == (
            23,
            case.passes * max(case.members, 1),
            *(shape or (1,)),
        )
        other = learner.predict(dataset, passes=case.passes, seed=2).samples
        assert not np.array_equal(found.samples, other)
    plain = learner.predict(dataset)
    assert plain.embeddings is None and (plain.samples is None) == (not case.members)


@every_learner
def test_save_and_load_keep_every_bit(case, tmp_path):
    learner = trained(case)
    if not case.stored:
        with pytest.raises(ValueError, match="can only be stored as a pickle.*fit again.*skops"):
            learner.save(tmp_path)
        with pytest.raises(ValueError, match="pickle"):
            learner.load(tmp_path)
        assert not any(tmp_path.iterdir())
        return
    learner.save(tmp_path / "a")
    other = case.make().fresh(9)
    other.load(tmp_path / "a")
    other.save(tmp_path / "b")
    expected = outputs(learner.predict(case.dataset()))
    np.testing.assert_array_equal(outputs(other.predict(case.dataset())), expected)
    (file, *_) = sorted((tmp_path / "a").rglob("weights.pt"))
    for content, message in ((b"no weights", "is damaged"), (file.read_bytes()[:500], "is damaged")):
        file.write_bytes(content)
        with pytest.raises(ValueError, match=message):
            other.load(tmp_path / "a")
    np.testing.assert_array_equal(outputs(other.predict(case.dataset())), expected)
    TorchClassifier(nn.Linear(2, 2)).save(file.parent)
    with pytest.raises(ValueError, match="the weights of another network"):
        other.load(tmp_path / "a")
    with pytest.raises((FileNotFoundError, CommitteeError)):
        other.load(tmp_path / "none")


@every_learner
def test_wrong_input_is_named(case):
    learner = trained(case)
    dataset, empty = case.dataset(), case.dataset().take(np.array([], dtype=int))
    with pytest.raises(
        ValueError,
        match="the data set is empty: label at least one|no labelled record",
    ):
        learner.fit(empty)
    with pytest.raises(ValueError, match="the data set is empty: there is nothing to predict"):
        learner.predict(empty)
    for passes in (1, -2, True, 2.5):
        with pytest.raises(ValueError, match=f"passes is {passes}"):
            learner.predict(dataset, passes=passes)
    before = outputs(learner.predict(dataset))
    if dataset.task == "classification":
        for labels, message in (
            (np.full(ROWS, CLASSES), f"labels hold .*{CLASSES}"),
            (np.full(ROWS, -1), "labels .*(-1|int64)"),
            (np.full(ROWS, 0.5), "labels .*float64"),
        ):
            wrong = data.ArrayDataset(dataset.inputs(None), labels, None, ids=dataset.ids)
            if message != f"labels hold .*{CLASSES}" or case.stored:
                with pytest.raises(ValueError, match=message):
                    learner.fit(wrong)
    np.testing.assert_array_equal(outputs(learner.predict(dataset)), before)


@every_learner
def test_a_large_data_set_is_read_part_by_part(case, monkeypatch):
    """The same predictions, and the same training, as from memory."""
    whole = case.dataset()
    lazy = Counting(whole.inputs(None), whole.labels(), whole.class_names, task=whole.task, ids=whole.ids)
    learner = trained(case)
    expected = outputs(learner.predict(whole, embeddings=True))
    for name in ("torch_learner._CHUNK", "sklearn_learner._ROWS"):
        monkeypatch.setattr(f"alhelpers.learners.{name}", 10)
    np.testing.assert_allclose(outputs(learner.predict(lazy, embeddings=True)), expected, atol=1e-5)
    assert lazy.most <= 10
    if case.stored and not case.members:
        monkeypatch.setattr("alhelpers.training._IN_MEMORY", 1)
        monkeypatch.setattr("alhelpers.training._VALIDATION_ROWS", 20)
        lazy.most = 0
        other = case.make().fresh(1)
        history = other.fit(lazy, seed=2, validation=lazy)
        assert lazy.most == 20 and len(history.validation_loss) == 10
        np.testing.assert_array_equal(outputs(other.predict(whole, embeddings=True)), expected)
        samples = other.predict(lazy, passes=2).samples
        assert not np.array_equal(samples[:7], samples[7:14])
