import pytest
import torch

from alhelpers.learners import deforming
from alhelpers.learners.deforming import deform


def _images(count=6):
    return torch.rand(count, 1, 9, 9, generator=torch.Generator().manual_seed(0))


def _still(monkeypatch, **moves):
    """Switch all deformations off but some."""
    for name in ("_TURN", "_SCALE", "_SLANT", "_SHIFT", "_BEND"):
        monkeypatch.setattr(deforming, name, moves.get(name, 0.0))


def test_without_any_draw_nothing_changes(monkeypatch):
    _still(monkeypatch)
    torch.testing.assert_close(deform(_images()), _images())


def test_a_turn_by_half_a_circle_turns_the_image_round(monkeypatch):
    _still(monkeypatch, _TURN=torch.pi)
    images = _images()
    monkeypatch.setattr(torch, "rand", lambda *shape: torch.ones(shape))
    torch.testing.assert_close(deform(images), images.flip(2, 3), atol=1e-5, rtol=0)


def test_a_shift_by_a_pixel_moves_all_pixels(monkeypatch):
    _still(monkeypatch, _SHIFT=2 / 9)
    images = _images()
    monkeypatch.setattr(torch, "rand", lambda *shape: torch.ones(shape))
    torch.testing.assert_close(deform(images)[:, :, :-1, :-1], images[:, :, 1:, 1:], atol=1e-5, rtol=0)


@pytest.mark.parametrize("move", ["_TURN", "_SCALE", "_SLANT", "_SHIFT", "_BEND"])
def test_every_kind_of_deformation_changes_each_image_in_its_own_way(monkeypatch, move):
    strength = getattr(deforming, move)
    _still(monkeypatch, **{move: strength})
    torch.manual_seed(0)
    one = _images(1).expand(4, -1, -1, -1)
    moved = deform(one)
    assert not torch.allclose(moved, one, atol=1e-3)
    assert not torch.allclose(moved[0], moved[1], atol=1e-3)
