"""Models of many kinds, each mined: the picks are those of a reference that is written out here."""

from collections import UserDict
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from alhelpers import data, mining, records
from alhelpers.learners import SklearnLearner, TorchClassifier, TorchRegressor
from alhelpers.uncertainty import Committee, mc_dropout

torch.set_num_threads(1)
POOL, SIZE = 90, 12
NAMES = ["ant", "bee", "cat"]


@pytest.fixture(scope="module")
def features():
    return np.random.default_rng(3).normal(size=(POOL, 6)).astype(np.float32)


def module(outputs=3, seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(6, 24), nn.ReLU(), nn.Dropout(0.3), nn.Linear(24, outputs))


def best(scores):
    """The rows of the highest scores, best first."""
    return [row for row, _ in sorted(enumerate(scores.tolist()), key=lambda pair: (-pair[1], pair[0]))][:SIZE]


def entropy(confidences):
    return -(confidences * np.log(confidences)).sum(-1)


def logits_by_hand(network, *inputs, rows=32, of=lambda output: output):
    """A plain loop: evaluation mode, batch by batch."""
    network.eval()
    with torch.no_grad():
        return torch.cat(
            [of(network(*(part[start : start + rows] for part in inputs))) for start in range(0, POOL, rows)]
        )


def picked(learner, dataset, strategy, *, passes=0, **options):
    table = learner.predict(dataset, passes=passes, seed=1).to_records(dataset.ids)
    return list(mining.mine(table, strategy, SIZE, **options).ids)


def test_a_data_loader(features):
    """Its batches as they come, in a plain loop, against the same loader as a data set."""
    network = module()
    loader = DataLoader(TensorDataset(torch.from_numpy(features), torch.arange(POOL) % 3), batch_size=32)
    logged = []
    with torch.no_grad():
        for batch, _ in loader:
            logged.append(network.eval()(batch).double().softmax(1))
    ordered = torch.cat(logged).sort(1).values.numpy()
    pool = data.loader(loader, NAMES)
    assert picked(TorchClassifier(network), pool, "margin") == best(ordered[:, -2] - ordered[:, -1])
    samples, _ = mc_dropout(network, loader, 8, seed=2)  # without a data set
    ordered = np.sort(samples.mean(axis=1, dtype=np.float64), axis=1)
    table = records.from_arrays(np.arange(POOL), mc_dropout=samples)
    assert list(mining.mine(table, "mc_dropout", SIZE).ids) == best(ordered[:, -2] - ordered[:, -1])


class Named(nn.Module):
    """Takes two inputs by name, and returns a dict."""

    def __init__(self):
        super().__init__()
        self.inner = module()

    def forward(self, left, right):
        return {"hidden": left, "logits": self.inner(torch.cat([left, right], 1))}


def test_a_module_that_returns_a_dict(features):
    network = Named()
    halves = {"left": features[:, :2], "right": features[:, 2:]}
    dataset = data.ArrayDataset(halves, class_names=NAMES, ids=[f"r{row:03d}" for row in range(POOL)])
    learner = TorchClassifier(network, logits=lambda output: output["logits"])
    logits = logits_by_hand(
        network, *map(torch.from_numpy, halves.values()), of=lambda output: output["logits"]
    )
    expected = best(entropy(logits.double().softmax(1).numpy()))
    assert picked(learner, dataset, "entropy") == [f"r{row:03d}" for row in expected]


@dataclass
class ModelOutput:
    """What transformers' models return: attributes, some of them None."""

    logits: torch.Tensor
    loss: torch.Tensor | None = None
    hidden_states: tuple | None = None


class SequenceClassifier(nn.Module):
    """Called as transformers' models are: with keywords, of which some stay out."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(1)
        self.embeddings, self.dropout, self.classifier = (
            nn.Embedding(40, 8),
            nn.Dropout(0.2),
            nn.Linear(8, 3),
        )

    def forward(self, input_ids=None, attention_mask=None, labels=None, **options):
        mask = attention_mask[..., None]
        places = 1 + torch.arange(input_ids.shape[1])[:, None] / 10  # no two texts tie
        pooled = (self.embeddings(input_ids) * mask * places).sum(1) / mask.sum(1)
        return ModelOutput(self.classifier(self.dropout(pooled)))


class Encoding(UserDict):
    """A mapping that is no dict, as those of tokenizers."""


WORDS = ["red", "green", "blue", "house", "tree", "river", "old", "new", "small", "far"]


def tokenizer(texts):
    """Pads to the longest text of the batch."""
    numbers = [[WORDS.index(word) + 1 for word in text.split()] for text in texts]
    longest = max(map(len, numbers))
    rows = np.array([row + [0] * (longest - len(row)) for row in numbers])
    return Encoding(input_ids=torch.from_numpy(rows), attention_mask=torch.from_numpy((rows > 0).astype(int)))


@pytest.fixture(scope="module")
def texts():
    draw = np.random.default_rng(5)
    return np.array([" ".join(draw.choice(WORDS, draw.integers(2, 9), replace=False)) for _ in range(POOL)])


def test_a_module_that_is_called_as_those_of_hugging_face(texts):
    network = SequenceClassifier()
    dataset = data.ArrayDataset(texts, class_names=NAMES)
    learner = TorchClassifier(
        network,
        preprocess=tokenizer,
        logits=lambda output: output.logits,
        prediction_batch_size=16,
        steps=300,
    )
    network.eval()
    with torch.no_grad():
        logits = torch.cat([network(**tokenizer([text])).logits for text in texts])
    ordered = logits.double().softmax(1).sort(1).values.numpy()
    assert picked(learner, dataset, "margin") == best(ordered[:, -2] - ordered[:, -1])
    samples = learner.predict(dataset, passes=6, seed=1).samples.astype(np.float64)
    bald = entropy(samples.mean(1)) - entropy(samples).mean(1)
    assert picked(learner, dataset, "mc_dropout", passes=6, score="bald") == best(bald)
    with pytest.raises(ValueError, match=r"returned a ModelOutput.*logits=lambda output: output\.logits"):
        TorchClassifier(network, preprocess=tokenizer).predict(dataset)
    # it learns, too
    labelled = data.ArrayDataset(texts, ["red" in text for text in texts], ["no", "yes", "never"])
    history = learner.fit(labelled, validation=labelled)
    assert history.validation_accuracy[-1] > 0.9


def test_a_text_pipeline_of_scikit_learn(texts):
    labels = np.array([("green" in text) + 2 * ("blue" in text and "green" not in text) for text in texts])
    fitted = make_pipeline(TfidfVectorizer(), LogisticRegression()).fit(texts[:40], labels[:40])
    dataset = data.ArrayDataset(texts, class_names=NAMES)
    expected = best(entropy(fitted.predict_proba(texts)))
    assert picked(SklearnLearner(fitted), dataset, "entropy") == expected
    learner = SklearnLearner(make_pipeline(TfidfVectorizer(), LogisticRegression()))
    learner.fit(data.ArrayDataset(texts[:40], labels[:40], NAMES))
    assert picked(learner, dataset, "entropy") == expected


def of_labels(confidences):
    """The mean over the labels of their binary entropy."""
    return -(confidences * np.log(confidences) + (1 - confidences) * np.log1p(-confidences)).mean(-1)


def test_a_head_with_a_sigmoid_for_each_label(features):
    network = module(4)
    dataset = data.ArrayDataset(features, class_names=["a", "b", "c", "d"])
    learner = TorchClassifier(network, task="multilabel")
    logits = logits_by_hand(network, torch.from_numpy(features)).double()
    expected = best(of_labels(logits.sigmoid().numpy()))
    assert picked(learner, dataset, "label_uncertainty") == expected
    # the sigmoid in the module itself
    whole = nn.Sequential(network, nn.Sigmoid())
    of_sigmoids = TorchClassifier(whole, task="multilabel", logits=lambda output: output.logit(eps=1e-6))
    assert picked(of_sigmoids, dataset, "label_uncertainty") == expected
    sure = nn.Sequential(whole[0], nn.Linear(4, 4), nn.Sigmoid())
    with torch.no_grad():
        sure[1].weight.copy_(20 * torch.eye(4))
    with pytest.warns(UserWarning, match=r"remove its sigmoid, .*logits=lambda output: output.logit\("):
        TorchClassifier(sure, task="multilabel").predict(dataset)
    found = learner.predict(dataset, passes=9, seed=1)
    samples = found.samples.astype(np.float64)
    bald = of_labels(samples.mean(1)) - of_labels(samples).mean(1)
    assert picked(learner, dataset, "label_uncertainty", passes=9, score="bald") == best(bald)
    np.testing.assert_array_equal(
        found.samples, mc_dropout(network, features, 9, outputs="values", logits=torch.sigmoid, seed=1)[0]
    )
    for strategy in ("entropy", "margin", "confidence"):
        with pytest.raises(records.RecordError, match="record 0 .*sums to .*label_uncertainty"):
            picked(learner, dataset, strategy)


def test_a_regression(features):
    labels = np.sin(features[:, 0]) + features[:, 1]
    labelled = data.ArrayDataset(features, labels, task="regression")
    learner = TorchRegressor(lambda: module(1), steps=60)
    learner.fit(labelled)
    samples = learner.predict(labelled, passes=12, seed=1).samples.astype(np.float64)
    assert samples.shape == (POOL, 12)
    assert picked(learner, labelled, "spread", passes=12) == best(samples.var(axis=1))
    committee = Committee(learner, 3)
    committee.fit(labelled, workers=1)
    members = np.stack(
        [
            logits_by_hand(member.network, torch.from_numpy(features)).double().numpy()[:, 0]
            for member in committee.models
        ]
    )
    assert picked(committee, labelled, "spread") == best(members.var(axis=0))


def test_a_committee_of_a_head_with_several_labels(features):
    labels = np.stack([features[:, 0] > 0, features[:, 1] + features[:, 2] > 0], axis=1)
    labelled = data.ArrayDataset(features, labels, ["a", "b"], task="multilabel")
    committee = Committee(TorchClassifier(lambda: module(2), task="multilabel", steps=150), 3)
    history = committee.fit(labelled, validation=labelled, folds="bootstrap")  # lambdas go to other processes
    assert history.validation_accuracy[-1] > 0.9
    members = np.stack(
        [
            logits_by_hand(member.network, torch.from_numpy(features)).double().sigmoid().numpy()
            for member in committee.models
        ],
        axis=1,
    )
    bald = of_labels(members.mean(1)) - of_labels(members).mean(1)
    assert picked(committee, labelled, "label_uncertainty", score="bald") == best(bald)
    assert picked(committee, labelled, "label_uncertainty") == best(of_labels(members.mean(1)))
