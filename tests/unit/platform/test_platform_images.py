"""What is read of images: dimensions of whole ones, nothing of broken ones, and never an error."""

import asyncio
import io
import os
import random
import signal

import pytest
from PIL import Image

from alhelpers.platform.services.items import files
from alhelpers.platform.services.items.images import make_thumbnail, read_image
from alhelpers.platform.services.items.models import clean_path, guess_type, path_fields


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


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_turned_image_has_an_upright_thumbnail(tmp_path, orientation):
    upright = Image.new("RGB", (40, 20), "white")
    upright.paste("black", (0, 0, 10, 10))  # the top left corner, however the camera was held
    turn = {
        1: lambda image: image,
        2: lambda image: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
        3: lambda image: image.rotate(180),
        4: lambda image: image.transpose(Image.Transpose.FLIP_TOP_BOTTOM),
        5: lambda image: image.transpose(Image.Transpose.TRANSPOSE),
        6: lambda image: image.rotate(90, expand=True),
        7: lambda image: image.transpose(Image.Transpose.TRANSVERSE),
        8: lambda image: image.rotate(270, expand=True),
    }
    stored = turn[orientation](upright)
    exif = stored.getexif()
    exif[0x0112] = orientation
    file = tmp_path / "image.jpg"
    stored.save(file, exif=exif, quality=95)
    found = read_image(file)
    assert (found["width"], found["height"]) == stored.size
    assert found.get("exif") == ({"Orientation": orientation} if orientation > 1 else None)
    thumbnail = Image.open(io.BytesIO(make_thumbnail(file))).convert("L")
    assert thumbnail.size == (40, 20) and thumbnail.getpixel((3, 3)) < 50 < 200 < thumbnail.getpixel((35, 15))


def test_broken_headers_never_fail(tmp_path):
    image = Image.new("RGB", (30, 20))
    exif = image.getexif()
    exif[0x0112], exif[0x010E] = 6, "text"
    chance = random.Random(0)
    file = tmp_path / "image"
    for form in ("JPEG", "TIFF", "PNG", "WEBP"):
        buffer = io.BytesIO()
        image.save(buffer, form, exif=exif)
        for _ in range(200):
            content = bytearray(buffer.getvalue())
            for _ in range(3):
                content[chance.randrange(min(len(content), 250))] = chance.randrange(256)
            file.write_bytes(content)
            assert set(read_image(file)) <= {"width", "height", "channels", "exif"}
            assert make_thumbnail(file) is None or read_image(file)


def test_other_formats_are_not_decoded(tmp_path):
    """EPS would start ghostscript."""
    file = tmp_path / "image.png"
    buffer = io.BytesIO()
    Image.new("RGB", (5, 7)).save(buffer, "EPS")
    file.write_bytes(buffer.getvalue())
    assert read_image(file) == {} and make_thumbnail(file) is None


def test_thumbnails_are_made_in_a_process_of_their_own(tmp_path, monkeypatch):
    file, broken = tmp_path / "image.png", tmp_path / "broken.png"
    Image.new("RGB", (500, 300), "red").save(file)
    broken.write_bytes(b"x")

    async def play():
        decoder = files.Decoder()
        assert await decoder.thumbnail(str(broken)) == await decoder.thumbnail(str(tmp_path)) == b""
        first, second = await asyncio.gather(
            *[decoder.thumbnail(str(file))] * 1, decoder.thumbnail(str(file))
        )
        assert first == second == make_thumbnail(file)
        process = decoder._process
        os.kill(process.pid, signal.SIGSTOP)
        monkeypatch.setattr(files, "DECODE_SECONDS", 0.2)
        assert await decoder.thumbnail(str(file)) == b"" and process.returncode is not None
        monkeypatch.setattr(files, "DECODE_SECONDS", 30.0)
        assert await decoder.thumbnail(str(file)) == first
        decoder._process.kill()
        assert await decoder.thumbnail(str(file)) == b"" and await decoder.thumbnail(str(file)) == first
        await decoder.close()

    asyncio.run(play())


def test_paths():
    assert clean_path("a//b/../c.png") == "/a/c.png"
    assert clean_path("//../../x") == "/x"
    assert path_fields("/a/.b/c") == {"filename": "/a/.b/c", "dir": "/a/.b", "name": "c", "hidden": True}
    assert path_fields("/c")["dir"] == "/"


def test_types_do_not_depend_on_the_machine():
    names = {"a.png": "image/png", "b.JPG": "image/jpeg"}
    names |= {"c.json": "application/json", "d": "application/octet-stream"}
    assert {name: guess_type(name) for name in names} == names
