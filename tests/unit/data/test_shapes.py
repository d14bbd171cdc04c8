"""Pictures of shapes: what is written where, and what is refused."""

from collections import Counter

import numpy as np
import pytest
from PIL import Image

from alhelpers import data


def test_a_folder_is_read_back_with_its_classes(tmp_path):
    labelled = data.write_shapes(tmp_path, 20, size=24, seed=1)
    pool = data.write_shapes(tmp_path, 30, labelled=False, size=24, seed=2)
    photos = data.folder(tmp_path)
    assert sorted([*labelled, *pool]) == list(photos.ids)
    assert photos.class_names == ("circle", "square", "star", "triangle")
    own = photos.labelled
    assert [own.class_names[label] for label in own.labels()] == [labelled[id] for id in own.ids]
    assert list(photos.unlabelled.ids) == sorted(pool)
    assert photos.inputs(np.arange(3)).shape == (3, 3, 24, 24)


def test_the_seed_decides_the_pictures(tmp_path):
    written = [data.write_shapes(tmp_path / name, 6, seed=4) for name in ("first", "again")]
    assert written[0] == written[1]
    for path in written[0]:
        assert (tmp_path / "first" / path).read_bytes() == (tmp_path / "again" / path).read_bytes()


def test_shares_and_one_of_each_class(tmp_path):
    written = data.write_shapes(tmp_path, 400, shares={"circle": 0.9, "star": 0.1}, size=8, seed=0)
    counts = Counter(written.values())
    assert counts.keys() == {"circle", "star"} and 20 <= counts["star"] <= 64
    few = data.write_shapes(tmp_path, 4, size=8, seed=1)
    assert sorted(few.values()) == ["circle", "square", "star", "triangle"]


def test_a_shape_is_lighter_than_what_is_behind_it(tmp_path):
    for path in data.write_shapes(tmp_path, 12, seed=3):
        image = np.asarray(Image.open(tmp_path / path), dtype=float).mean(2)
        assert 0.1 < (image > 130).mean() < 0.6


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"count": 0}, "count is 0"),
        ({"count": 1, "size": 4}, "size 4"),
        ({"count": 1, "shares": {"cat": 1}}, "'cat': 1.*circle, square, star, triangle"),
        ({"count": 1, "shares": {"star": 0}}, "above 0"),
        ({"count": 1, "shares": {}}, "above 0"),
    ],
)
def test_wrong_options_are_named(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        data.write_shapes(tmp_path, **options)
    assert not [*tmp_path.iterdir()]


def test_files_are_never_overwritten(tmp_path):
    data.write_shapes(tmp_path, 3, seed=0)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.png")}
    with pytest.raises(FileExistsError, match="choose another seed or folder"):
        data.write_shapes(tmp_path, 3, seed=0)
    assert before == {path: path.read_bytes() for path in tmp_path.rglob("*.png")}
