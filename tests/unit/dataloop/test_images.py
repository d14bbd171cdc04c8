"""Image files of many kinds, as the adapter reads them."""

import io

import numpy as np
import pytest
from PIL import Image

from alhelpers.dataloop.images import download_images, read_image

GREY = np.arange(64, dtype=np.uint8).reshape(8, 8) * 4


NOISE = np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8)


def cut(file):
    return io.BytesIO(file.getvalue()[: len(file.getvalue()) // 2])


def encoded(image, form):
    buffer = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(buffer, form)
    buffer.seek(0)
    return buffer


class StoredItem:
    def __init__(self, filename, file):
        self.filename, self.file = filename, file

    def download(self, save_locally):
        assert save_locally is False
        return self.file


def test_items_are_downloaded_in_their_order_at_one_size():
    levels = [10, 250, 90]
    items = [
        StoredItem(f"/{level}", encoded(np.full((5 + row, 9, 3), level, np.uint8), "PNG"))
        for row, level in enumerate(levels)
    ]
    found = download_images(iter(items), (4, 6), colour=True)
    np.testing.assert_array_equal(found, np.broadcast_to(np.array(levels)[:, None, None, None], (3, 4, 6, 3)))
    for item in items:
        item.file.seek(0)
    assert download_images(items, 8).shape == (3, 8, 8)
    with pytest.raises(ValueError, match="item '/torn'"):
        download_images([StoredItem("/torn", cut(encoded(NOISE, "PNG")))], 8)


@pytest.mark.parametrize("form", ["PNG", "TIFF"])
def test_images_of_16_bits_are_scaled_and_not_cut_off(form):
    file = encoded(GREY.astype(np.uint16) * 256 + 200, form)
    np.testing.assert_array_equal(read_image(file, "x", 8), GREY)
    file.seek(0)
    np.testing.assert_array_equal(read_image(file, "x", 8, colour=True), np.stack([GREY] * 3, axis=2))


def test_photographs_are_read_upright():
    """As browsers and the platform's page show them, and as people annotate them."""
    turned = Image.Exif()
    turned[0x0112] = 6  # the camera was held upright: the rows of the file are the columns of the picture
    file = io.BytesIO()
    Image.fromarray(GREY[:4]).save(file, "PNG", exif=turned)
    file.seek(0)
    np.testing.assert_array_equal(read_image(file, "x", (8, 4)), np.rot90(GREY[:4], -1))


@pytest.mark.parametrize(
    ("file", "reason"),
    [
        (lambda: encoded(GREY.astype(np.float32), "TIFF"), "pixels are of mode F, whose range is not known"),
        (lambda: encoded(GREY.astype(np.int32), "TIFF"), "pixels are of mode I"),
        (lambda: encoded(Image.fromarray(GREY), "EPS"), "cannot identify image file"),
        (lambda: cut(encoded(NOISE, "PNG")), "truncated"),
        (lambda: cut(encoded(NOISE, "JPEG")), "truncated"),
        (lambda: io.BytesIO(b""), "cannot identify image file"),
        (lambda: encoded(Image.new("1", (20_000, 20_000)), "PNG"), "exceeds limit"),
    ],
)
def test_what_cannot_be_read_is_named(file, reason):
    with pytest.raises(ValueError, match=f"item '/a.png' is not an image that can be read: .*{reason}"):
        read_image(file(), "/a.png", 8)
