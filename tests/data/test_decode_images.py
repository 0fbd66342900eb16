import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from fewlabel.data.images import decode, size_of

COLOURS = {
    ("top", "left"): (200, 30, 60),
    ("top", "right"): (10, 180, 90),
    ("bottom", "left"): (20, 40, 220),
    ("bottom", "right"): (250, 240, 5),
}
OPPOSITE = {"top": "bottom", "bottom": "top", "left": "right", "right": "left"}
# EXIF 2.32, tag 0x0112: where the stored row 0 and column 0 are seen
SIDES = {
    1: ("top", "left"),
    2: ("top", "right"),
    3: ("bottom", "right"),
    4: ("bottom", "left"),
    5: ("left", "top"),
    6: ("right", "top"),
    7: ("right", "bottom"),
    8: ("left", "bottom"),
}


def quadrants(row_0: str = "top", column_0: str = "left") -> np.ndarray:
    """8 × 8 pixels with a colour in each corner, stored so that row 0 is seen at a side."""
    pixels = np.zeros((8, 8, 3), np.uint8)
    for i, row in enumerate((row_0, OPPOSITE[row_0])):
        for j, column in enumerate((column_0, OPPOSITE[column_0])):
            corner = (row, column) if row in ("top", "bottom") else (column, row)
            pixels[4 * i : 4 * i + 4, 4 * j : 4 * j + 4] = COLOURS[corner]
    return pixels


@pytest.mark.parametrize("suffix", ["png", "bmp", "gif", "tif", "webp"])
@pytest.mark.parametrize("mode", ["RGB", "P"])
def test_colours_survive_every_lossless_format(suffix: str, mode: str, tmp_path: Path) -> None:
    path = tmp_path / f"image.{suffix}"
    image = Image.fromarray(quadrants())
    image = image if mode == "RGB" else image.quantize(4, method=Image.Quantize.MEDIANCUT)
    image.save(path, lossless=True)  # heeded by WebP alone
    np.testing.assert_array_equal(decode(path, 8), quadrants())


@pytest.mark.parametrize("orientation", SIDES)
def test_exif_orientation_is_undone(orientation: int, tmp_path: Path) -> None:
    path = tmp_path / "turned.png"
    image = Image.fromarray(quadrants(*SIDES[orientation]))
    exif = Image.Exif()
    exif[0x0112] = orientation
    image.save(path, exif=exif)
    np.testing.assert_array_equal(decode(path, 8), quadrants())


def test_alpha_is_composited_on_white(tmp_path: Path) -> None:
    alpha = np.linspace(0, 255, 16).round()
    colour = np.array([200, 0, 100])
    pixels = np.zeros((16, 16, 4), np.uint8)
    pixels[..., :3] = colour
    pixels[..., 3] = alpha
    path = tmp_path / "see-through.png"
    Image.fromarray(pixels).save(path)
    expected = 255 + (colour - 255) * alpha[:, None] / 255
    np.testing.assert_allclose(
        decode(path, 16), np.broadcast_to(expected, (16, 16, 3)), rtol=0, atol=1
    )


def test_grey_with_alpha_stays_grey(tmp_path: Path) -> None:
    path = tmp_path / "see-through.png"
    Image.new("LA", (4, 4), (0, 255 - 55)).save(path)
    np.testing.assert_array_equal(decode(path, 4), np.full((4, 4, 1), 55))


@pytest.mark.parametrize("mode", ["L", "P", "RGB"])
def test_a_colour_declared_transparent_turns_white(mode: str, tmp_path: Path) -> None:
    pixels = np.array([[30, 30], [90, 90]], np.uint8)
    image = Image.fromarray(pixels).convert(mode)
    transparent = (30, 30, 30) if mode == "RGB" else int(np.asarray(image)[0, 0])
    path = tmp_path / "image.png"
    image.save(path, transparency=transparent)
    np.testing.assert_array_equal(decode(path, 2)[..., 0], [[255, 255], [90, 90]])


@pytest.mark.parametrize(
    ("suffix", "order"), [("png", "<u2"), ("tif", "<u2"), ("tif", ">u2"), ("pgm", "<u2")]
)
def test_16_bit_grey_is_scaled_not_clipped(suffix: str, order: str, tmp_path: Path) -> None:
    levels = np.arange(256).reshape(16, 16)
    path = tmp_path / f"deep.{suffix}"
    Image.fromarray((levels * 257).astype(order)).save(path)
    np.testing.assert_array_equal(decode(path, 16)[..., 0], levels)


def test_12_bit_grey_is_scaled_from_12_bits(tmp_path: Path) -> None:
    """A TIFF tells how many bits there are: two pixels, 0xFFF and 0x7F8, lie in three bytes."""
    tags = [
        *((256, 2), (257, 1), (258, 12), (259, 1), (262, 1)),  # width, height, bits, raw, grey
        *((273, 8), (277, 1), (278, 1), (279, 3)),  # place, samples, rows, length
    ]
    entries = b"".join(struct.pack("<HHIHH", tag, 3, 1, value, 0) for tag, value in tags)
    head = struct.pack("<2sHI", b"II", 42, 12)
    directory = struct.pack("<H", len(tags)) + entries + bytes(4)
    path = tmp_path / "sensor.tif"
    path.write_bytes(head + bytes([0xFF, 0xF7, 0xF8, 0]) + directory)
    with Image.open(path) as opened:
        assert np.asarray(opened).tolist() == [[0xFFF, 0x7F8]]
    pixels = decode(path, 1)  # its central square is the left one
    assert pixels.tolist() == [[[255]]]


@pytest.mark.parametrize(
    "pixels",
    [
        np.full((4, 4), 0.5, np.float32),
        np.full((4, 4), 70_000, np.int32),
        np.full((4, 4), 200, np.int32),
    ],
)
def test_pixels_of_unknown_range_are_refused(pixels: np.ndarray, tmp_path: Path) -> None:
    path = tmp_path / "deep.tif"
    Image.fromarray(pixels).save(path)
    with pytest.raises(ValueError, match=r"its pixels are .*: convert it to 8 or 16 bits"):
        decode(path, 4)


def test_an_image_in_strips_is_the_image_as_a_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (50, 40, 4), dtype=np.uint8)
    path = tmp_path / "noise.png"
    Image.fromarray(pixels).save(path)
    whole = decode(path, 40)
    monkeypatch.setattr("fewlabel.data.images._STRIP_PIXELS", 7 * 40)
    np.testing.assert_array_equal(decode(path, 40), whole)
    white = 255 + (pixels[..., :3].astype(float) - 255) * pixels[..., 3:] / 255
    np.testing.assert_allclose(whole, white[5:45], atol=1)


@pytest.mark.parametrize("suffix", ["jpg", "tif"])
def test_cmyk_gives_the_colours_back(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"print.{suffix}"
    image = Image.fromarray(quadrants().repeat(8, 0).repeat(8, 1)).convert("CMYK")
    image.save(path, quality=98)  # heeded by JPEG alone
    np.testing.assert_allclose(decode(path, 64)[4::32, 4::32], quadrants()[::4, ::4], atol=4)


@pytest.mark.parametrize("mode", ["1", "L", "RGB", "RGBA", "P"])
def test_grey_pixels_have_one_channel_in_every_mode(mode: str, tmp_path: Path) -> None:
    pixels = np.array([[0, 255], [255, 0]], np.uint8)
    path = tmp_path / "grey.png"
    Image.fromarray(pixels).convert(mode).save(path)
    np.testing.assert_array_equal(decode(path, 2), pixels[..., None])


@pytest.mark.parametrize("turn", [lambda a: a, lambda a: a.transpose(1, 0, 2)])
def test_only_the_central_square_is_left(
    turn: Callable[[np.ndarray], np.ndarray], tmp_path: Path
) -> None:
    pixels = np.zeros((10, 30, 3), np.uint8)
    for third, colour in enumerate([(255, 0, 0), (0, 200, 0), (0, 0, 255)]):
        pixels[:, 10 * third : 10 * third + 10] = colour
    path = tmp_path / "wide.png"
    Image.fromarray(turn(pixels)).save(path)
    assert min(size_of(path)) == 10
    for size in (4, 10, 16):  # smaller, as it is, larger
        np.testing.assert_array_equal(
            decode(path, size), np.broadcast_to([0, 200, 0], (size, size, 3))
        )


def test_resizing_down_averages_what_it_leaves_out(tmp_path: Path) -> None:
    checkerboard = (np.indices((64, 64)).sum(0) % 2 * 255).astype(np.uint8)
    path = tmp_path / "fine.png"
    Image.fromarray(checkerboard).save(path)
    np.testing.assert_allclose(decode(path, 8)[..., 0], 127.5, atol=4)


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_a_large_photograph_is_read_smaller_and_looks_the_same(tmp_path: Path, mode: str) -> None:
    """As its own pixels do, made square and small; also if it lies on its side."""
    y, x = np.mgrid[:900, :1300] / 900
    waves = [
        np.sin(7 * x + k) * np.cos(5 * y * (k + 1)) + 0.3 * np.sin(90 * x * y) for k in range(3)
    ]
    pixels = np.stack([(100 * wave + 128).clip(0, 255) for wave in waves], -1).astype(np.uint8)
    image = Image.fromarray(pixels).convert(mode)
    turned = Image.Exif()
    turned[0x0112] = 6
    image.save(tmp_path / "photo.jpg", quality=95, exif=turned)
    found = decode(tmp_path / "photo.jpg", 32).astype(float)
    with Image.open(tmp_path / "photo.jpg") as whole:
        whole.load()  # at its own size
        upright = ImageOps.exif_transpose(whole).convert("L" if mode == "L" else "RGB")
    square = upright.crop((0, 200, 900, 1100)).resize((32, 32), Image.Resampling.LANCZOS)
    expected = np.asarray(square, dtype=float).reshape(found.shape)
    assert np.abs(found - expected).mean() < 1
    assert np.abs(np.rot90(found) - expected).mean() > 10
