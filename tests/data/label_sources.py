"""Every source of data, written with the labels that a test asks for."""

import struct
from collections.abc import Callable, Sequence
from pathlib import Path

import datasets
import numpy as np
from PIL import Image

from fewlabel.data import Dataset, open_dataset

Writer = Callable[[Path, Sequence[str], Sequence[str]], Dataset]
SIDE = 32


def pixels(n: int) -> np.ndarray:
    """(n, 32, 32, 3): image i is grey, of level 5 · i, with a white corner: it is not dark."""
    levels = np.arange(n, dtype=np.uint8) * 5
    images = np.broadcast_to(levels[:, None, None, None], (n, SIDE, SIDE, 3)).copy()
    images[:, -1, -1] = 255
    return images


def classes_of(dataset: Dataset) -> list[str | None]:
    """The class of example 0, 1, …, which their values tell; None for no label."""
    levels = dataset.values.reshape(len(dataset), -1)[:, 0].astype(int) // 5
    found: dict[int, str | None] = {
        int(level): dataset.class_names[label] if label >= 0 else None
        for level, label in zip(levels, dataset.labels.tolist(), strict=True)
    }
    return [found[i] for i in sorted(found)]


def _codes(said: Sequence[str], names: Sequence[str]) -> np.ndarray:
    return np.array([names.index(text) for text in said])


def _distinct(said: Sequence[str], more: Sequence[str]) -> list[str]:
    return [*dict.fromkeys((*said, *more))]


def class_folders(folder: Path, said: Sequence[str], more: Sequence[str]) -> Dataset:
    for i, (image, name) in enumerate(zip(pixels(len(said)), said, strict=True)):
        (folder / "data" / name).mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / "data" / name / f"{i}.png")
    return open_dataset(folder / "data")


def labels_csv(folder: Path, said: Sequence[str], more: Sequence[str]) -> Dataset:
    (folder / "data").mkdir()
    for i, image in enumerate(pixels(len(said))):
        Image.fromarray(image).save(folder / "data" / f"{i}.png")
    rows = ["file,label", *(f'{i}.png,"{text}"' for i, text in enumerate(said))]
    (folder / "data" / "labels.csv").write_text("\n".join(rows), encoding="utf-8", newline="")
    return open_dataset(folder / "data")


def npz_images(folder: Path, said: Sequence[str], more: Sequence[str]) -> Dataset:
    names = _distinct(said, more)
    arrays = {"labels": _codes(said, names), "class_names": np.array(names)}
    np.savez(folder / "data.npz", images=pixels(len(said)), **arrays)
    return open_dataset(folder / "data.npz")


def npz_vectors(folder: Path, said: Sequence[str], more: Sequence[str]) -> Dataset:
    names = _distinct(said, more)
    arrays = {"labels": _codes(said, names), "class_names": np.array(names)}
    np.savez(folder / "data.npz", vectors=5.0 * np.arange(len(said))[:, None], **arrays)
    return open_dataset(folder / "data.npz")


def mnist(folder: Path, said: Sequence[str], more: Sequence[str]) -> Dataset:
    names = _distinct(said, more)
    (folder / "class_names.txt").write_text("\n".join(names), encoding="utf-8")
    write_idx(folder, pixels(len(said))[..., 0], _codes(said, names).astype(np.uint8))
    return open_dataset(f"mnist:{folder}")


def write_idx(folder: Path, images: np.ndarray, labels: np.ndarray, stem: str = "train") -> None:
    for kind, array in (("images-idx3", images), ("labels-idx1", labels)):
        head = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
        (folder / f"{stem}-{kind}-ubyte").write_bytes(head + array.tobytes())


def cifar10(folder: Path, said: Sequence[str], more: Sequence[str]) -> Dataset:
    names = _distinct(said, more)
    names += [f"no {i}" for i in range(10 - len(names))]
    (folder / "batches.meta.txt").write_text("\n".join(names), encoding="utf-8")
    write_cifar10(folder, _codes(said, names).astype(np.uint8))
    return open_dataset(f"cifar10:{folder}")


def write_cifar10(folder: Path, labels: np.ndarray) -> None:
    planes = pixels(len(labels)).transpose(0, 3, 1, 2).reshape(len(labels), -1)
    rows = np.concatenate([labels[:, None], planes], axis=1)
    rows = np.concatenate([rows, *[rows[-1:]] * (5 - len(rows))])  # no file may be empty
    for i, part in enumerate(np.array_split(rows, 5), 1):
        (folder / f"data_batch_{i}.bin").write_bytes(part.tobytes())


def cifar100(folder: Path, said: Sequence[str], more: Sequence[str]) -> Dataset:
    names = _distinct(said, more)
    names += [f"no {i}" for i in range(100 - len(names))]
    (folder / "fine_label_names.txt").write_text("\n".join(names), encoding="utf-8")
    planes = pixels(len(said)).transpose(0, 3, 1, 2).reshape(len(said), -1)
    labels = np.stack([np.zeros(len(said)), _codes(said, names)], 1).astype(np.uint8)
    (folder / "train.bin").write_bytes(np.concatenate([labels, planes], 1).tobytes())
    return open_dataset(f"cifar100:{folder}")


def _saved(folder: Path, labels: Sequence[object], feature: object) -> Dataset:
    images = [Image.fromarray(image) for image in pixels(len(labels))]
    features = datasets.Features({"image": datasets.Image(), "label": feature})
    columns = {"image": images, "label": list(labels)}
    datasets.Dataset.from_dict(columns, features=features).save_to_disk(folder / "saved")
    return open_dataset(f"hf:{folder / 'saved'}")


def hf_saved(folder: Path, said: Sequence[str], more: Sequence[str]) -> Dataset:
    names = _distinct(said, more)
    return _saved(folder, _codes(said, names).tolist(), datasets.ClassLabel(names=names))


def hf_texts(folder: Path, said: Sequence[str | None], more: Sequence[str] = ()) -> Dataset:
    return _saved(folder, said, datasets.Value("string"))


def hf_floats(folder: Path, said: Sequence[float | None]) -> Dataset:
    return _saved(folder, said, datasets.Value("float64"))


def hf_integers(folder: Path, said: Sequence[int | None], kind: str) -> Dataset:
    return _saved(folder, said, datasets.Value(kind))


def hf_imagefolder(folder: Path, said: Sequence[str], more: Sequence[str]) -> Dataset:
    for i, (image, name) in enumerate(zip(pixels(len(said)), said, strict=True)):
        (folder / "data" / name).mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / "data" / name / f"{i}.png")
    return open_dataset(f"hf:{folder / 'data'}")


LISTS: dict[str, Writer] = {
    f.__name__: f for f in (npz_images, npz_vectors, mnist, cifar10, cifar100, hf_saved)
}
"""Sources with a list of the classes, in an order of their own."""

SOURCES: dict[str, Writer] = {
    **{f.__name__: f for f in (class_folders, labels_csv, hf_texts, hf_imagefolder)},
    **LISTS,
}
"""Every form in docs/your-own-folder.md."""
