"""Files in CIFAR's binary format made of real images: scikit-learn's digits, larger and tinted."""

from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits

SIDE = 32


def write_cifar(folder: Path, classes: int, train: int, test: int) -> str:
    """Write CIFAR-10 or CIFAR-100, with so many images of each class; its DATA.

    A class of CIFAR-10 is a digit; one of CIFAR-100 is a digit in one of ten tints.
    """
    folder.mkdir(parents=True, exist_ok=True)
    digits = load_digits()
    grey = np.kron(digits.images / 16, np.ones((SIDE // 8, SIDE // 8)))
    tints = np.random.default_rng(0).uniform(0.4, 1.0, (10, 3))
    parts = {}
    for part, first, n in (("train", 0, train), ("test", train, test)):
        rows = []
        for i in range(first, first + n):
            for label in range(classes):
                digit, tint = (label, i % 10) if classes == 10 else divmod(label, 10)
                members = np.flatnonzero(digits.target == digit)
                image = grey[members[i % len(members)]]
                planes = np.round(255 * image[None] * tints[tint][:, None, None])
                heading = [label] if classes == 10 else [digit, label]
                rows.append(np.concatenate([heading, planes.ravel()]).astype(np.uint8))
        parts[part] = np.stack(rows)
    if classes == 100:
        for part, rows in parts.items():
            (folder / f"{part}.bin").write_bytes(rows.tobytes())
        return f"cifar100:{folder}"
    for i, rows in enumerate(np.array_split(parts["train"], 5), 1):
        (folder / f"data_batch_{i}.bin").write_bytes(rows.tobytes())
    (folder / "test_batch.bin").write_bytes(parts["test"].tobytes())
    return f"cifar10:{folder}"
