"""Models and data of many kinds, picked from by ``loop.pick``: the picks are those of plain code for each."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from alhelpers import data
from alhelpers.learners import SklearnLearner, TorchClassifier, TorchRegressor
from alhelpers.loop import pick
from alhelpers.uncertainty import Committee

COUNT, SIZE = 30, 6


def inputs_of(seed=0, features=5):
    return np.random.default_rng(seed).normal(size=(COUNT, features)).astype(np.float32)


def net(outputs, seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, outputs)).eval()


def outputs_of(module, inputs):
    with torch.inference_mode():
        return module(torch.from_numpy(inputs)).double()


def best(scores, ids=None):
    ids = list(range(len(scores))) if ids is None else list(ids)
    order = sorted(range(len(scores)), key=lambda row: (-float(scores[row]), ids[row]))
    return [ids[row] for row in order[:SIZE]]


def entropy(probabilities):
    return -(probabilities * np.log(probabilities)).sum(-1)


def test_a_data_loader():
    inputs, module = inputs_of(), net(3)
    loader = DataLoader(TensorDataset(torch.from_numpy(inputs)), batch_size=7)
    chosen = pick(TorchClassifier(module), data.loader(loader), SIZE)
    assert chosen.ids == best(entropy(outputs_of(module, inputs).softmax(1).numpy()))


class DictModel(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = net(3)

    def forward(self, batch):
        return {"scores": self.net(batch), "features": batch}


def test_a_model_that_returns_a_dict():
    inputs, module = inputs_of(), DictModel().eval()
    learner = TorchClassifier(module, logits=lambda output: output["scores"])
    chosen = pick(learner, data.arrays(inputs), SIZE, strategy="margin")
    top = outputs_of(module.net, inputs).softmax(1).topk(2).values.numpy()
    assert chosen.ids == best(1 - (top[:, 0] - top[:, 1]))


class TextModel(nn.Module):
    """Called as models of Hugging Face are: keyword arguments, and an object with ``logits``."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.table, self.head = nn.Embedding(40, 5), nn.Linear(5, 2)

    def forward(self, input_ids, attention_mask):
        weights = attention_mask[..., None].float()
        pooled = (self.table(input_ids) * weights).sum(1) / weights.sum(1)
        return SimpleNamespace(logits=self.head(pooled))


def tokenize(texts):
    tokens = [[len(word) + ord(word[0]) % 20 for word in text.split()] for text in texts]
    longest = max(map(len, tokens))
    ids = torch.tensor([each + [0] * (longest - len(each)) for each in tokens])
    mask = torch.tensor([[1] * len(each) + [0] * (longest - len(each)) for each in tokens])
    return {"input_ids": ids, "attention_mask": mask}


TEXTS = np.array(
    [f"{'so ' * (row % 3)}word{row} is {'good bad odd'.split()[row % 3]}" for row in range(COUNT)]
)


def test_a_text_model_with_a_tokenizer():
    module = TextModel().eval()
    learner = TorchClassifier(module, preprocess=tokenize, logits=lambda output: output.logits)
    chosen = pick(learner, data.arrays(TEXTS), SIZE)
    with torch.inference_mode():
        each = [module(**tokenize([text])).logits[0].double().softmax(0).numpy() for text in TEXTS]
    assert chosen.ids == best(np.round(entropy(np.stack(each)), 6))


def test_a_pipeline_of_scikit_learn_for_texts():
    labels = ["good" if row % 2 else "bad" for row in range(COUNT)]
    pipeline = make_pipeline(TfidfVectorizer(), LogisticRegression()).fit(TEXTS, labels)
    pool = np.array([f"a {text}" for text in TEXTS])
    chosen = pick(SklearnLearner(pipeline), data.arrays(pool, ids=[f"t{row}" for row in range(COUNT)]), SIZE)
    scores = np.round(entropy(pipeline.predict_proba(pool)), 6)
    assert chosen.ids == best(scores, [f"t{row}" for row in range(COUNT)])


@pytest.mark.parametrize("over", ["mean", "max"])
def test_several_labels(over):
    inputs, module = inputs_of(), net(4)
    chosen = pick(
        TorchClassifier(module, task="multilabel"),
        data.ArrayDataset(inputs, task="multilabel"),
        SIZE,
        strategy="label_uncertainty",
        over=over,
    )
    p = outputs_of(module, inputs).sigmoid().numpy()
    each = -(p * np.log(p) + (1 - p) * np.log(1 - p))
    assert chosen.ids == best(each.mean(1) if over == "mean" else each.max(1))


def test_numbers_by_the_spread_of_passes_and_of_members():
    inputs = inputs_of()
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(5, 16), nn.ReLU(), nn.Dropout(0.5), nn.Linear(16, 1)).eval()
    dataset = data.ArrayDataset(inputs, task="regression")
    learner = TorchRegressor(module)
    chosen = pick(learner, dataset, SIZE, strategy="spread", passes=9, seed=2)
    samples = learner.predict(dataset, passes=9, seed=2).samples
    assert chosen.ids == best(samples.reshape(COUNT, 9).astype(np.float64).var(1))
    committee = Committee(TorchRegressor(lambda seed: net(1, seed)), members=4)
    chosen = pick(committee, dataset, SIZE, strategy="spread")
    values = np.stack([outputs_of(model.network, inputs)[:, 0] for model in committee.models], axis=1)
    assert chosen.ids == best(values.var(1))


def test_a_table_whose_rows_without_a_label_are_the_pool(tmp_path):
    lines = [
        f"r{row:02},{row % 7},{row % 5},{'' if row % 3 else 'yes' if row % 2 else 'no'}"
        for row in range(COUNT)
    ]
    (tmp_path / "rows.csv").write_text("\n".join(["id,a,b,label", *lines]))
    table = data.table(tmp_path / "rows.csv", features=["a", "b"], label="label", id="id")
    learner = SklearnLearner(LogisticRegression())
    learner.fit(table.labelled)
    chosen = pick(learner, table, SIZE)
    rows = [row for row in range(COUNT) if row % 3]
    model = LogisticRegression().fit(
        [[row % 7, row % 5] for row in range(0, COUNT, 3)],
        ["yes" if row % 2 else "no" for row in range(0, COUNT, 3)],
    )
    scores = np.round(entropy(model.predict_proba([[row % 7, row % 5] for row in rows])), 5)
    assert chosen.ids == best(scores, [f"r{row:02}" for row in rows])
