"""Several labels and numbers with torch; batches that are preprocessed; ready models whose outputs do not fit."""

import copy
import warnings

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch import nn

from alhelpers import data
from alhelpers.learners import SklearnLearner, TorchClassifier, TorchRegressor
from alhelpers.training import train
from alhelpers.uncertainty import Committee, CommitteeError, mc_dropout

torch.set_num_threads(1)
ROWS = np.random.default_rng(0).normal(size=(64, 5)).astype(np.float32)
LABELS = (ROWS[:, :3] > 0).astype(int)
NUMBERS = ROWS[:, 0] + np.sin(ROWS[:, 1])
IDS = [f"i{row}" for row in range(64)]


def linear(outputs):
    torch.manual_seed(0)
    return nn.Linear(5, outputs)


def of(labels=None, names=None, task="classification", inputs=ROWS):
    return data.ArrayDataset(inputs, labels, names, task=task, ids=IDS)


@pytest.mark.parametrize(
    ("task", "labels", "outputs", "loss"),
    [
        ("multilabel", LABELS, 3, nn.functional.binary_cross_entropy_with_logits),
        ("multilabel", LABELS.astype(bool), 3, nn.functional.binary_cross_entropy_with_logits),
        ("regression", NUMBERS, 1, nn.functional.mse_loss),
        ("regression", ROWS[:, :2] * 2, 2, nn.functional.mse_loss),
        ("regression", NUMBERS, 1, nn.functional.l1_loss),
    ],
)
def test_each_task_is_trained_by_its_loss(task, labels, outputs, loss):
    """The same weights as of the loop that is written out here, on whole batches."""
    network, expected = linear(outputs), linear(outputs)
    chosen = {"loss": loss} if loss is nn.functional.l1_loss else {}
    history = train(
        network,
        ROWS,
        labels,
        task=task,
        steps=6,
        batch_size=64,
        evaluations=6,
        validation=(ROWS, labels),
        **chosen,
    )
    optimizer = torch.optim.AdamW(expected.parameters(), lr=6e-3, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 6e-3, total_steps=6)
    targets = torch.tensor(np.asarray(labels, dtype=np.float32).reshape(64, -1))
    losses = []
    for _ in range(6):
        value = loss(expected(torch.from_numpy(ROWS)), targets)
        losses.append(value.item())
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        schedule.step()
    np.testing.assert_allclose(history.loss, losses, rtol=1e-4)
    torch.testing.assert_close(network.weight, expected.weight, rtol=1e-4, atol=1e-5)
    outputs = network(torch.from_numpy(ROWS)).detach()
    assert history.validation_loss[-1] == pytest.approx(loss(outputs, targets).item(), rel=1e-5)
    if task == "multilabel":
        right = ((outputs.sigmoid() > 0.5) == (targets == 1)).float().mean().item()
        assert history.validation_accuracy[-1] == pytest.approx(right)
    else:
        assert history.validation_accuracy == []


def test_values_of_one_output_are_compared_with_their_labels_and_not_with_each_other():
    flat, column = linear(1), linear(1)
    whole = TorchRegressor(flat, logits=lambda output: output[:, 0], steps=30)
    for learner in (whole, other := TorchRegressor(column, steps=30)):
        learner.fit(of(NUMBERS, task="regression"))
    torch.testing.assert_close(flat.weight, column.weight)
    np.testing.assert_allclose(whole.predict(of()).values, other.predict(of()).values, rtol=1e-5)


def test_confidences_of_several_labels_are_sigmoids():
    network = nn.Sequential(linear(3), nn.Dropout(0.5))
    found = TorchClassifier(network, task="multilabel").predict(of(names="abc"), passes=5, seed=3)
    logits = network[0](torch.from_numpy(ROWS)).detach()
    np.testing.assert_allclose(found.confidences, logits.sigmoid(), atol=1e-6)
    np.testing.assert_allclose(found.logits, logits, atol=1e-6)
    samples, mean = mc_dropout(network, ROWS, 5, outputs="values", logits=torch.sigmoid, seed=3)
    np.testing.assert_array_equal(found.samples, samples)
    np.testing.assert_allclose(mean, samples.mean(axis=1), atol=1e-6)
    assert found.task == "multilabel" and found.class_names == ("a", "b", "c")


@pytest.mark.parametrize(
    ("make", "dataset", "message"),
    [
        (
            lambda: TorchClassifier(linear(3), task="multilabel"),
            lambda: of(LABELS[:, :2], "ab", "multilabel"),
            "the labels have 2 columns, but the network has 3 outputs: build it with 2",
        ),
        (
            lambda: TorchClassifier(linear(3), task="multilabel"),
            lambda: of(LABELS, "abcd", "multilabel"),
            r"labels have the shape \(64, 3\): several labels a record are \(N, 4\)",
        ),
        (
            lambda: TorchClassifier(linear(3), task="multilabel"),
            lambda: of(np.where(np.arange(64)[:, None] == 5, 2, LABELS), "abc", "multilabel"),
            r"the labels of record i5 are \[2, 2, 2\]: each must be 0 or 1",
        ),
        (
            lambda: TorchClassifier(linear(3), task="multilabel"),
            lambda: of(np.where(np.arange(64)[:, None] == 5, np.nan, LABELS), "abc", "multilabel"),
            "the labels of record i5 are .*nan.*leave out records without labels",
        ),
        (
            lambda: TorchClassifier(linear(3)),
            lambda: of(LABELS, None),
            r"labels of shape \(64, 3\): one label a row.*pass task='multilabel'",
        ),
        (
            lambda: TorchRegressor(linear(1)),
            lambda: of(np.where(np.arange(64) == 7, np.inf, NUMBERS), None, "regression"),
            "the label of record i7 is inf: give it a number",
        ),
        (
            lambda: TorchRegressor(linear(2)),
            lambda: of(NUMBERS, None, "regression"),
            "the labels have 1 columns, but the network has 2 outputs: build it with 1",
        ),
        (
            lambda: TorchRegressor(linear(1), logits=lambda output: {"value": output}),
            lambda: of(NUMBERS, None, "regression"),
            r'must return values of shape \(N,\) or \(N, O\).*it returned a dict.*output: output\["value"\]',
        ),
        (
            lambda: TorchClassifier(linear(3)),
            lambda: of(np.arange(64) % 3, "abcd"),
            "the network has 3 outputs, and the data set 4 class names, a, b, c, d: build the network with one output",
        ),
    ],
)
def test_labels_that_do_not_fit_are_named_before_a_weight_changes(make, dataset, message):
    learner = make()
    before = learner.network.weight.detach().clone()
    with pytest.raises(ValueError, match=message):
        learner.fit(dataset())
    assert torch.equal(before, learner.network.weight)


class Named:
    """A data set of another library, whose labels are the names of their classes."""

    def __init__(self, labels, names=("ant", "bee")):
        self.whole, self.class_names, self.found = of(), names, np.array(labels, dtype=object)
        self.ids, self.task = self.whole.ids, "classification"

    def __len__(self):
        return 64

    def inputs(self, rows):
        return self.whole.inputs(rows)

    def labels(self, rows):
        return self.found[rows]

    def take(self, rows):
        raise NotImplementedError


def test_labels_may_be_the_names_of_their_classes():
    names = np.where(NUMBERS > 0, "bee", "ant")
    learners = [TorchClassifier(linear(2), steps=5) for _ in range(2)]
    learners[0].fit(Named(names))
    learners[1].fit(of(NUMBERS > 0, ["ant", "bee"]))
    assert torch.equal(learners[0].network.weight, learners[1].network.weight)
    names[9] = "cow"
    with pytest.raises(
        ValueError, match="the label of record i9 is 'cow', which is none of the class names: ant, bee"
    ):
        learners[0].fit(Named(names))


def test_a_ready_module_is_checked_where_it_predicts():
    with pytest.raises(ValueError, match="the network has 3 outputs, and the data set 2 class names, a, b"):
        TorchClassifier(linear(3)).predict(of(names="ab"))
    with pytest.raises(ValueError, match="the network has 3 outputs, and the data set 2 class names, a, b"):
        TorchClassifier(linear(3), task="multilabel").predict(of(names="ab"))
    broken = ROWS.copy()
    broken[[40, 50], 2] = np.nan
    network = nn.Sequential(linear(2), nn.Dropout(0.5))
    for learner, what in (
        (TorchClassifier(network, prediction_batch_size=7), "logits"),
        (TorchClassifier(network, task="multilabel"), "logits"),
        (TorchRegressor(network), "values"),
    ):
        for passes in (0, 4):
            with pytest.raises(ValueError, match=f"the {what} of record i40 are not finite"):
                learner.predict(of(inputs=broken), passes=passes)
    with pytest.raises(ValueError, match=r"must return values .*it returned \(64, 2, 1\)"):
        TorchRegressor(linear(2), logits=lambda output: output[..., None]).predict(of())


@pytest.mark.parametrize(
    ("form", "code"),
    [
        (lambda x: {"hidden": x, "logits": x}, 'output["logits"]'),
        (lambda x: {"loss": x.sum(), "scores": x}, 'output["scores"]'),
        (lambda x: (x.sum(), x), "output[1]"),
        (lambda x: type("Output", (), {})(), "..."),
    ],
)
def test_what_takes_logits_out_of_an_output_is_suggested(form, code):
    class Wrapped(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.Sequential(linear(2), nn.Dropout(0.5))

        def forward(self, rows):
            return form(self.inner(rows))

    network = Wrapped()
    for call in (
        lambda: TorchClassifier(network).predict(of()),
        lambda: TorchClassifier(network).fit(of(NUMBERS > 0)),
        lambda: mc_dropout(network, ROWS, 2),
    ):
        with pytest.raises(ValueError) as error:
            call()
        assert f"logits=lambda output: {code}" in str(error.value)


def test_the_tasks_of_the_two_classes():
    for make, task in (
        (TorchClassifier, "regression"),
        (TorchRegressor, "multilabel"),
        (TorchRegressor, "boxes"),
    ):
        with pytest.raises(
            ValueError, match=f"task is '{task}', .*{make.__name__}: .*, TorchRegressor for 'regression'"
        ):
            make(linear(1), task=task)
    for learner in (TorchRegressor(linear(1)), TorchClassifier(linear(3), task="multilabel")):
        assert type(learner.fresh(1)) is type(learner) and learner.fresh(1).task == learner.task


# ------------------------------------------------------------------------------
# preprocessing
# ------------------------------------------------------------------------------


def images(side=8):
    return np.random.default_rng(1).integers(0, 256, (40, side, side, 3), dtype=np.uint8)


def smaller(batch):
    planes = torch.from_numpy(batch).permute(0, 3, 1, 2) / 255
    return (nn.functional.interpolate(planes, 4, mode="bilinear", antialias=True) - 0.5) / 0.25


def on_images():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(48, 16), nn.ReLU(), nn.Dropout(0.3), nn.Linear(16, 2))


def test_preprocessing_is_the_same_as_a_data_set_that_was_preprocessed():
    labels = np.arange(40) % 2
    raw, made = data.ArrayDataset(images(), labels), data.ArrayDataset(smaller(images()).numpy(), labels)
    learners = (
        TorchClassifier(on_images(), preprocess=smaller, steps=9),
        TorchClassifier(on_images(), steps=9),
    )
    histories = [
        learner.fit(part, validation=part) for learner, part in zip(learners, (raw, made), strict=True)
    ]
    assert histories[0] == histories[1]
    found = [
        learner.predict(part, passes=3, embeddings=True).fields()
        for learner, part in zip(learners, (raw, made), strict=True)
    ]
    for name, values in found[0].items():
        np.testing.assert_array_equal(values, found[1][name])
    fresh = learners[0].fresh(0)
    assert fresh.predict(raw).confidences.shape == (40, 2)


def test_each_row_is_preprocessed_once_in_a_fit_and_once_in_a_prediction_whatever_the_steps_and_passes(
    monkeypatch,
):
    seen = []

    def counted(batch):
        seen.append(len(batch))
        return smaller(batch)

    dataset = data.ArrayDataset(images(), np.arange(40) % 2)
    learner = TorchClassifier(on_images(), preprocess=counted, steps=30)
    for call in (lambda: learner.fit(dataset), lambda: learner.predict(dataset, passes=9)):
        seen.clear()
        call()
        assert 40 <= sum(seen) <= 43  # and a few rows to see what they become
    # large images are read in parts that fit in memory, also where they become small ones
    monkeypatch.setattr("alhelpers.learners._torch_passes._AT_ONCE", images()[:6].nbytes)
    expected = TorchClassifier(learner.network, preprocess=smaller).predict(dataset).logits
    seen.clear()
    np.testing.assert_array_equal(learner.predict(dataset).logits, expected)
    assert max(seen) == 6


def test_what_preprocessing_must_not_return_is_named(monkeypatch):
    dataset = data.ArrayDataset(images(), np.arange(40) % 2)
    for wrong, message in (
        (lambda batch: smaller(batch)[:1], r"returned Tensor with \[1\] rows for a batch of 40: return"),
        (lambda batch: None, "returned NoneType"),
        (lambda batch: [1, 2], "returned list"),
        (lambda batch: {}, "returned dict"),
        (lambda batch: {"a": smaller(batch), "b": smaller(batch)[:3]}, "returned dict"),
    ):
        learner = TorchClassifier(on_images(), preprocess=wrong)
        with pytest.raises(ValueError, match=message.replace("40", r"\d+")):
            learner.predict(dataset)
    monkeypatch.setattr("alhelpers.learners._torch_passes._AT_ONCE", images()[:6].nbytes)
    uneven = TorchClassifier(on_images(), preprocess=lambda batch: np.zeros((len(batch), 3, 4, len(batch))))
    with pytest.raises(ValueError, match="other shapes for other batches, .*: pad or resize to one shape"):
        uneven.predict(dataset)


def test_committees_need_the_task_of_numbers():
    regressor = Committee(TorchRegressor(lambda: linear(1), steps=2), 2)
    regressor.fit(of(NUMBERS), workers=1)  # the learner knows its task
    assert regressor.predict(of()).samples.shape == (64, 2)
    with pytest.raises(
        CommitteeError, match=r"labels hold .*float32\), which is no class index.*task='regression'"
    ):
        Committee(TorchClassifier(lambda: linear(2)), 2).fit(of(NUMBERS))


@pytest.mark.parametrize(
    "make", [lambda: TorchClassifier(nn.Linear(2, 3), steps=2), lambda: SklearnLearner(LogisticRegression())]
)
def test_a_named_class_without_an_example_is_warned_of(make):
    inputs = np.tile(np.eye(4, 2, dtype=np.float32), (8, 1))
    names = ["cat", "dog", "fox"]
    with pytest.warns(UserWarning, match="no record is labelled fox: .* label at least one"):
        make().fit(data.ArrayDataset(inputs, [0, 1] * 16, names))
    with warnings.catch_warnings(action="error"):
        make().fit(data.arrays(inputs, ["fox", "dog", "cat", "dog"] * 8))
        make().fit(data.ArrayDataset(inputs[:4], [0, 1, 0, 1], names))  # a first round


def test_a_single_class_is_warned_of():
    with pytest.warns(UserWarning, match="no record is labelled dog, fox"):
        TorchClassifier(nn.Linear(2, 3), steps=2).fit(
            data.ArrayDataset(np.eye(2), [0, 0], ["cat", "dog", "fox"])
        )


def test_a_label_that_no_record_has_is_warned_of():
    labels = np.array([[1, 0], [0, 0], [1, 0], [1, 0]])
    dataset = data.ArrayDataset(np.eye(4, 2, dtype=np.float32), labels, ["sun", "rain"], task="multilabel")
    with pytest.warns(UserWarning, match="no record is labelled rain"):
        TorchClassifier(nn.Linear(2, 2), task="multilabel", steps=2).fit(dataset)


@pytest.mark.parametrize("task", ["classification", "multilabel"])
def test_sigmoids_are_told_from_logits_that_are_small(task):
    draw = np.random.default_rng(0)
    labels = draw.integers(0, 2, (60, 2) if task == "multilabel" else 60)
    sign = labels if task == "multilabel" else np.stack([1 - labels, labels], 1)
    dataset = data.ArrayDataset((4.0 * sign - 2).astype(np.float32), labels, ["a", "b"], task=task)
    design = nn.Linear(2, 2)
    with torch.no_grad():
        design.weight.mul_(0.001)
        design.bias.fill_(0.3)  # all outputs between 0 and 1, before it is trained
    with warnings.catch_warnings(action="error"):
        TorchClassifier(copy.deepcopy(design), task=task, steps=100).fit(dataset)
    ends_in_a_sigmoid = nn.Sequential(nn.Linear(2, 2), nn.Sigmoid())
    learner = TorchClassifier(ends_in_a_sigmoid, task=task, steps=200, learning_rate=0.1)
    with pytest.warns(UserWarning, match="returns probabilities"):
        learner.fit(dataset)
