"""A walk over folders of images: each folder once, regular files only."""

import os
from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path

from fewlabel.data.images import SUFFIXES
from fewlabel.data.listing import Names

__all__ = ["NOT_REGULAR", "Walk", "is_image", "is_system"]

NOT_REGULAR = "not a regular file"
"""Pipes, sockets and devices are counted under this, as other files under their ending."""

_SYSTEM = frozenset(
    (
        *("__macosx", "@eadir", "@tmp", "#recycle", "@recycle", "#snapshot"),
        *("@recently-snapshot", "$recycle.bin", "system volume information", "lost+found"),
    )
)


def is_system(folder: str) -> bool:
    """Whether an operating system or a storage device makes folders of this name."""
    return folder.lower() in _SYSTEM


def is_image(name: str) -> bool:
    """Whether a file of this name is taken for an image."""
    return name[0] != "." and _ending(name) in SUFFIXES


class Walk:
    """One walk over the folders of a dataset, in which no folder is read twice.

    Folders are told apart by device and inode. Real folders are read first, then those that
    links lead to: so an image that can be reached twice belongs to its real folder. A link to a
    folder above it, or above the data, is never followed.

    Args:
        root: the folder of the data.
        tables: files of labels in `root`, which are not counted as unread.

    Attributes:
        unread: how many files there are that are no images, by their ending.
        system: the folders that a system made, which are left out.
        again: the links that were not followed, and folders that were read before.
    """

    def __init__(self, root: Path, tables: Collection[str] = ()) -> None:
        self._root, self._tables = root.resolve(), tables
        self._seen: set[tuple[int, int]] = set()
        self.unread: Counter[str] = Counter()
        self.system: list[str] = []
        self.again: list[str] = []

    def images(self, folders: Sequence[str]) -> list[Names]:
        """The images in some folders at any depth, relative to the root, sorted; none hidden.

        Args:
            folders: relative to the root, none inside another; "" is the root.
        """
        found: dict[str, list[str]] = {folder: [] for folder in folders}
        ahead: list[tuple[str, str]] = []
        linked: list[tuple[str, str]] = []
        for folder in folders:
            is_link = os.path.islink(self._path(folder))
            (linked if is_link else ahead).append((folder, folder))
        while ahead or linked:
            for folder, owner in ahead:
                linked += [(link, owner) for link in self._read(folder, found[owner])]
            ahead, linked = sorted(linked, key=_shallow_first), []
        return [Names(sorted(found.pop(folder))) for folder in folders]

    def _read(self, start: str, images: list[str]) -> list[str]:
        """Add the images in a folder; the links to folders that were met."""
        links: list[str] = []
        folders = [start]
        while folders:
            folder = folders.pop()
            if not self._is_new(folder):
                self.again.append(folder)
                continue
            with os.scandir(self._path(folder)) as entries:
                for entry in entries:
                    inner = f"{folder}/{entry.name}" if folder else entry.name
                    if entry.name[0] == ".":
                        continue
                    if not entry.is_dir():
                        self._file(entry, inner, images)
                    elif is_system(entry.name):
                        self.system.append(inner)
                    else:
                        (links if entry.is_symlink() else folders).append(inner)
        return links

    def _file(self, entry: os.DirEntry[str], name: str, images: list[str]) -> None:
        if not entry.is_file() and os.path.exists(entry.path):  # a dangling link is no such file
            self.unread[NOT_REGULAR] += 1
        elif is_image(entry.name):
            images.append(name)
        elif name not in self._tables:
            self.unread[_ending(entry.name)] += 1

    def _is_new(self, folder: str) -> bool:
        """Whether to read a folder; it counts as read from then on."""
        path = self._path(folder)
        if os.path.islink(path):
            target, place = os.path.realpath(path), Path(os.path.realpath(os.path.dirname(path)))
            if self._root.is_relative_to(target) or place.is_relative_to(target):
                return False
        facts = os.stat(path)
        key = facts.st_dev, facts.st_ino
        is_new = key not in self._seen
        self._seen.add(key)
        return is_new

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}" if name else str(self._root)


def _shallow_first(link: tuple[str, str]) -> tuple[int, str]:
    return link[0].count("/"), link[0]


def _ending(name: str) -> str:
    return os.path.splitext(name)[1].lower()
