"""What is read of images: dimensions of whole ones, nothing of broken ones, and never an error."""

import io

import pytest
from PIL import Image

from alhelpers.platform.services.items.models import clean_path, guess_type, path_fields, read_image


@pytest.mark.parametrize("form", ["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP"])
def test_truncated_images_never_fail(tmp_path, form):
    buffer = io.BytesIO()
    Image.new("RGB", (5, 7)).save(buffer, form)
    path = tmp_path / "image"
    path.write_bytes(buffer.getvalue())
    assert read_image(path)["width"] == 5 and read_image(path)["height"] == 7
    for length in range(0, len(buffer.getvalue()), 3):
        path.write_bytes(buffer.getvalue()[:length])
        assert read_image(path) in ({}, read_image(path))
        path.write_bytes(buffer.getvalue()[:length] + b"\xff" * 20)
        read_image(path)


def test_paths():
    assert clean_path("a//b/../c.png") == "/a/c.png"
    assert clean_path("//../../x") == "/x"
    assert path_fields("/a/.b/c") == {"filename": "/a/.b/c", "dir": "/a/.b", "name": "c", "hidden": True}
    assert path_fields("/c")["dir"] == "/"


def test_types_do_not_depend_on_the_machine():
    names = {
        "a.png": "image/png",
        "b.JPG": "image/jpeg",
        "c.json": "application/json",
        "d": "application/octet-stream",
    }
    assert {name: guess_type(name) for name in names} == names
