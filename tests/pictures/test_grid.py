from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from fewlabel.errors import TrainingError, UserError
from fewlabel.pictures import grid


def colours(*rgb: tuple[int, int, int], side: int = 8) -> Tensor:
    """One image of a constant colour each."""
    levels = torch.tensor(rgb, dtype=torch.float32) / 127.5 - 1
    return levels[:, :, None, None].expand(-1, -1, side, side)


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB"))


def box(canvas: np.ndarray, rgb: tuple[int, int, int]) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of a colour, which fills that box and occurs nowhere else."""
    rows, columns = np.nonzero((canvas == rgb).all(-1))
    left, top, right, bottom = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
    assert len(rows) == (right - left) * (bottom - top)
    return int(left), int(top), int(right), int(bottom)


def test_class_grid_has_a_row_a_class_and_methods_side_by_side(tmp_path: Path) -> None:
    red, green, blue, pink, teal = (
        (250, 0, 0), (0, 250, 0), (0, 0, 250), (250, 0, 250), (0, 250, 250),
    )  # fmt: skip
    columns = {
        "real": {"cat": colours(red), "dog": colours(green)},
        "cg, scale 2": {"cat": colours(blue, pink), "dog": colours(teal)},
    }
    canvas = pixels(grid.class_grid(columns, tmp_path / "grid.png", title="Animals"))
    boxes = {rgb: box(canvas, rgb) for rgb in (red, green, blue, pink, teal)}
    assert all((r - x, b - y) == (48, 48) for x, y, r, b in boxes.values())
    assert boxes[red][1] == boxes[blue][1] == boxes[pink][1] < boxes[green][1]
    assert boxes[green][1] == boxes[teal][1]
    assert boxes[red][0] == boxes[green][0] < boxes[blue][0] == boxes[teal][0]
    assert boxes[pink][0] == boxes[blue][2] + grid.GAP
    left_of_images = canvas[boxes[red][1] : boxes[red][3], : boxes[red][0] - grid.GAP]
    assert left_of_images.min() < 100, "the class's name is written beside its row"


@pytest.mark.parametrize("channels", [1, 3])
def test_an_enlarged_image_shrinks_back_to_itself(tmp_path: Path, channels: int) -> None:
    levels = torch.randint(0, 256, (1, channels, 8, 8), generator=torch.Generator().manual_seed(0))
    smooth = torch.nn.functional.avg_pool2d(levels.float(), 3, stride=1, padding=1)
    path = grid.image_grid(smooth / 127.5 - 1, tmp_path / "grid.png")
    canvas = pixels(path)[grid.MARGIN :, grid.MARGIN :][:48, :48].astype(float)
    shrunk = canvas.reshape(8, 6, 8, 6, -1).mean((1, 3))
    expected = smooth[0].permute(1, 2, 0).numpy()
    assert np.abs(shrunk - expected).max() < 20
    assert np.abs(shrunk - np.roll(expected, 1, axis=0)).max() > 60, "the tolerance tells rows"


def test_image_grid_fills_rows_in_order(tmp_path: Path) -> None:
    shades = [(n, n, n) for n in (20, 60, 100, 140, 180)]
    canvas = pixels(
        grid.image_grid(colours(*shades, side=64)[:, :1], tmp_path / "grid.png", per_row=3)
    )
    step = 64 + grid.GAP
    for i, shade in enumerate(shades):
        left, top = grid.MARGIN + i % 3 * step, grid.MARGIN + i // 3 * step
        assert (canvas[top : top + 64, left : left + 64] == shade).all()


def test_a_class_that_a_method_lacks_is_blank(tmp_path: Path) -> None:
    red, blue, green = (250, 0, 0), (0, 0, 250), (0, 250, 0)
    columns = {"a": {"cat": colours(red), "dog": colours(blue)}, "b": {"dog": colours(green)}}
    canvas = pixels(grid.class_grid(columns, tmp_path / "grid.png"))
    _, top, _, bottom = box(canvas, red)
    left, _, right, _ = box(canvas, green)
    assert (canvas[top : bottom - grid.GAP, left:right] == grid.PAPER).all()


def test_long_names_and_titles_stay_on_the_canvas(tmp_path: Path) -> None:
    columns = {"cg-sc-labeled, scale 1.5": {"a name that never ends " * 9: colours((9, 9, 9))}}
    canvas = pixels(grid.class_grid(columns, tmp_path / "grid.png", title="A long title " * 9))
    edge = np.concatenate([canvas[:, :4], canvas[:, -4:]], axis=1)
    assert (edge == grid.PAPER).all()
    assert canvas.shape[1] < 1200


def test_a_method_without_images_keeps_its_title(tmp_path: Path) -> None:
    red = (250, 0, 0)
    columns: dict[str, dict[str, Tensor]] = {"cg": {}, "cg-dlsm": {"cat": colours(red)}}
    box(pixels(grid.class_grid(columns, tmp_path / "grid.png")), red)


@pytest.mark.parametrize("channels", [1, 3])
def test_saved_images_decode_to_the_same_levels(tmp_path: Path, channels: int) -> None:
    levels = torch.arange(2 * channels * 64).reshape(2, channels, 8, 8) % 256
    paths = [tmp_path / "out" / "a.png", tmp_path / "out" / "b.png"]
    grid.save_images(levels / 127.5 - 1, paths)
    assert sorted((tmp_path / "out").iterdir()) == paths
    for path, image in zip(paths, levels, strict=True):
        with Image.open(path) as picture:
            assert picture.mode == ("L" if channels == 1 else "RGB")
            decoded = np.asarray(picture).reshape(8, 8, channels)
        assert (decoded == image.permute(1, 2, 0).numpy()).all()


def test_values_beyond_the_range_are_clipped(tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    grid.save_images(torch.tensor([-3.0, 3.0]).reshape(1, 1, 1, 2), [path])
    assert pixels(path)[0, :, 0].tolist() == [0, 255]


def test_refuses(tmp_path: Path) -> None:
    path, x = tmp_path / "grid.png", torch.zeros(1, 1, 8, 8)
    with pytest.raises(UserError, match="one size and got 8×8 and 9×9"):
        grid.class_grid({"a": {"0": x}, "b": {"0": torch.zeros(1, 1, 9, 9)}}, path)
    with pytest.raises(UserError, match="got no images"):
        grid.class_grid({}, path)
    with pytest.raises(UserError, match="cg, class 3: pixels are NaN"):
        grid.class_grid({"cg": {"3": x * torch.nan}}, path)
    with pytest.raises(UserError, match=r"images: shape \(1, 8, 8\)"):
        grid.image_grid(x[0], path)
    with pytest.raises(UserError, match=r"shape \(0, 1, 8, 8\)"):
        grid.save_images(x[:0], [])
    assert list(tmp_path.iterdir()) == []


def test_a_failed_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: Image.Image, target: Path, **options: object) -> None:
        target.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", fail)
    with pytest.raises(TrainingError, match="No space left on device"):
        grid.image_grid(torch.zeros(1, 1, 8, 8), tmp_path / "grid.png")
    assert list(tmp_path.iterdir()) == []


def test_pairs_stand_above_each_other_closest_first(tmp_path: Path) -> None:
    red, green, blue, pink = (250, 0, 0), (0, 250, 0), (0, 0, 250), (250, 0, 250)
    path = grid.pairs_sheet(
        colours(red, green),
        colours(blue, pink),
        torch.tensor([2.0, 1.0]),
        tmp_path / "pairs.png",
        title="Nearest",
    )
    canvas = pixels(path)
    boxes = {rgb: box(canvas, rgb) for rgb in (red, green, blue, pink)}
    assert all((r - x, b - y) == (48, 48) for x, y, r, b in boxes.values())
    assert boxes[green][0] == boxes[pink][0] < boxes[red][0] == boxes[blue][0]
    assert boxes[green][1] == boxes[red][1] < boxes[pink][1] == boxes[blue][1]
    for left, _, right, bottom in (boxes[pink], boxes[blue]):
        below = canvas[bottom + grid.GAP + 1 :, left:right]
        assert below.min() < 100, "the distance is written below the pair"


def test_pairs_fill_rows(tmp_path: Path) -> None:
    shades = [(10 * i + 60, 0, 0) for i in range(5)]
    images = colours(*shades)
    distances = torch.arange(5.0)
    canvas = pixels(grid.pairs_sheet(images, -images, distances, tmp_path / "a.png", per_row=3))
    boxes = [box(canvas, shade) for shade in shades]
    assert boxes[0][1] == boxes[2][1] < boxes[3][1] == boxes[4][1]
    assert (boxes[0][0], boxes[1][0]) == (boxes[3][0], boxes[4][0])


def test_pairs_refuse_what_is_not_paired(tmp_path: Path) -> None:
    images = torch.zeros(3, 1, 8, 8)
    for nearest, distances in ((images[:2], torch.zeros(3)), (images, torch.zeros(2))):
        with pytest.raises(UserError, match="are no pairs: give n of each"):
            grid.pairs_sheet(images, nearest, distances, tmp_path / "a.png")
    assert list(tmp_path.iterdir()) == []


def test_of_an_endless_name_only_the_beginning_is_measured_again_and_again() -> None:
    class Font:
        size, letters = 10, 0

        def getlength(self, text: str) -> float:
            self.letters += len(text)
            return 5.0 * len(text)

    font = Font()
    short = grid._shortened("x" * 5000, font, 12)  # type: ignore[arg-type]
    assert short.endswith("…")
    assert font.getlength(short) <= 120
    assert font.letters < 121**2
