"""A learner that a configuration names: what may be named, what it is passed, and what is refused."""

import numpy as np
import pytest
import torch

from alhelpers import data
from alhelpers.dataloop.own_code import own_learner
from alhelpers.learners import TorchClassifier

CODE = """
from os import system
from functools import partial
import torch
from torch import nn
from my_layers import Middle

called = partial(print)

def build(class_names, image_size, colour=False, width=4):
    height, wide = image_size
    inputs = (3 if colour else 1) * height * wide
    return nn.Sequential(nn.Flatten(), nn.Linear(inputs, width), Middle(), nn.Linear(width, len(class_names)))

class Net(nn.Module):
    def __init__(self, class_names):
        super().__init__()
        self.last = nn.Linear(64, len(class_names))

    def forward(self, images):
        return self.last(images.flatten(1))

def seeded(seed):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 2))

def boosted(seed):
    from sklearn.linear_model import LogisticRegression
    from alhelpers.learners import SklearnLearner
    return SklearnLearner(LogisticRegression(random_state=seed))

def ready_made(seed):
    from alhelpers.learners import TorchClassifier
    return TorchClassifier(lambda: Net([1, 2]), steps=7, seed=seed)

def anything(**settings):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, settings["outputs"]))

def text(): return "no module"

def needs(height): return nn.Linear(height, 2)

def by_place(seed, /): return nn.Linear(64, 2)
"""
SHARED = {"image_size": 8, "colour": False, "seed": 3}
NAMES = ["no", "yes"]


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "own_code"
    folder.mkdir()
    (folder / "my_model.py").write_text(CODE)
    (folder / "my_layers.py").write_text("from torch import nn\n\n\nclass Middle(nn.ReLU):\n    pass\n")
    (folder / "broken.py").write_text("import missing_package\n")
    (tmp_path / "outside.py").write_text("def build():\n    raise SystemExit('ran')\n")
    (folder / "link.py").symlink_to(tmp_path / "outside.py")
    return folder


def made(folder, name="build", parameters=None, **options):
    return own_learner({"module": f"my_model.py:{name}", **options}, folder, parameters or {}, SHARED, NAMES)


def images(count=6):
    pixels = np.random.default_rng(0).integers(0, 255, (count, 8, 8), dtype=np.uint8)
    return data.ImageSet("noise", pixels, np.arange(count) % 2, NAMES)


def test_a_module_gets_the_arguments_that_it_names(folder):
    learner = made(folder, parameters={"width": 7}, steps=5, embedding="1")
    assert isinstance(learner, TorchClassifier)
    assert [layer.out_features for layer in learner.network if hasattr(layer, "out_features")] == [7, 2]
    learner.fit(images(), seed=0)
    found = learner.predict(images(), embeddings=True)
    assert found.confidences.shape == (6, 2) and found.embeddings.shape == (6, 7)


@pytest.mark.parametrize(("name", "parameters"), [("Net", {}), ("seeded", {}), ("anything", {"outputs": 2})])
def test_classes_seeds_and_any_keywords(folder, name, parameters):
    assert made(folder, name, parameters).predict(images()).confidences.shape == (6, 2)


def test_the_seed_decides_the_weights_and_nothing_else_is_drawn(folder):
    torch.manual_seed(11)
    expected = torch.rand(3)
    torch.manual_seed(11)
    one, other = made(folder), made(folder)
    assert torch.equal(torch.rand(3), expected)
    assert all(
        torch.equal(a, b) for a, b in zip(one.network.parameters(), other.network.parameters(), strict=True)
    )
    assert not torch.equal(one.fresh(4).network[1].weight, one.network[1].weight)


def test_a_learner_is_taken_as_it_is(folder):
    learner = made(folder, "ready_made")
    assert isinstance(learner, TorchClassifier) and learner.network.last.out_features == 2
    with pytest.raises(
        ValueError, match="returns a learner, which is trained in its own way: remove 'steps'"
    ):
        made(folder, "ready_made", steps=3)


def test_a_change_of_the_file_counts_at_once(folder):
    assert len(made(folder, "seeded").network) == 2
    file = folder / "my_model.py"
    file.write_text(file.read_text().replace("nn.Linear(64, 2))", "nn.Linear(64, 2), nn.Identity())"))
    assert len(made(folder, "seeded").network) == 3


@pytest.mark.parametrize(
    ("module", "message"),
    [
        ("my_model.py:system", "must define a function 'system' itself"),
        ("my_model.py:called", "must define a function 'called' itself"),
        ("my_model.py:CODE", "must define a function 'CODE' itself"),
        ("my_model.py:nn", "must define a function 'nn' itself"),
        (
            "other.py:build",
            "'other.py:build' is not in the folder 'own_code' of the codebase: it has broken.py, ",
        ),
        ("link.py:build", "'link.py:build' is not in the folder 'own_code'"),
        ("broken.py:build", "broken.py can't be imported: ModuleNotFoundError: .*missing_package"),
        *(
            (name, "learner.module .* must be a file of the folder 'own_code' and a function in it")
            for name in (
                "../outside.py:build",
                "/etc/x.py:build",
                "sub/my_model.py:build",
                "sub\\my_model.py:build",
                "my_model:build",
                "os.system",
                "my_model.py",
                "my_model.py:_hidden",
                "my_model.py:nn.Linear",
                "my_model.py:build()",
                "my_model.py:build\n",
                3,
            )
        ),
    ],
)
def test_nothing_else_can_be_named(folder, module, message):
    with pytest.raises(ValueError, match=message):
        own_learner({"module": module}, folder, {}, SHARED, NAMES)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        (
            "build",
            {"parameters": {"wide": 3}},
            "has no parameter 'wide'; it has class_names, image_size, colour, width",
        ),
        ("build", {"parameters": {"class_names": ["a"]}}, "'class_names' are the model's labels"),
        ("needs", {}, "needs 'height': give it in 'parameters'"),
        ("by_place", {}, "can't be passed by name: remove the '/'"),
        ("boosted", {}, "returns a SklearnLearner, which can't be stored as a model's weights"),
        ("text", {}, "returned str: return a torch module, or a learner"),
        ("build", {"step": 3}, "learner has the unknown key 'step'.*did you mean 'steps'"),
        ("build", {"steps": 0}, "learner.steps 0 must be a whole number of at least 1"),
    ],
)
def test_what_does_not_fit_is_named(folder, name, options, message):
    with pytest.raises(ValueError, match=message):
        made(folder, name, **options)


def test_a_codebase_without_own_code_says_how_to_publish_it(tmp_path):
    with pytest.raises(
        ValueError, match="needs the folder 'own_code' .* publish the app with own_code='my_model.py'"
    ):
        made(tmp_path / "own_code")
