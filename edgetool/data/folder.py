"""A folder with a sub-folder per class, of pictures or of wav files; maybe train/, val/ and test/ above them."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edge.audio import AudioInput
from edge.errors import BadData
from edge.image import SUFFIXES, ImageInput, read_image
from edge.tensors import TensorSpec
from edgetool.data.examples import FileExamples
from edgetool.data.fits import audio_input, check_names, image_input, only_input
from edgetool.data.split import three_splits, validation_split

SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class FolderTask:
    """The three splits of a folder, the step that all of them use, and the names of its classes."""

    splits: dict[str, FileExamples]
    step: ImageInput | AudioInput
    input_name: str
    labels: tuple[str, ...]


@dataclass(frozen=True)
class _Files:
    paths: tuple[Path, ...]
    labels: npt.NDArray[np.int64]


def read_folder(
    root: Path, inputs: Sequence[TensorSpec], output: TensorSpec, seed: int, pixels: str | None = None
) -> FolderTask:
    """The task in a folder; classes are numbered in the order of their sorted names.

    Every file is hashed and decoded once, here, so that a damaged one is found before any work is done;
    none is kept in memory. Names that begin with a dot, and files beside the class folders, are not read.

    Raises:
        BadData: an empty class, mixed kinds of files, one that cannot be decoded, too few examples, or classes
            or files that do not fit the model.

    """
    spec = only_input(inputs, f"the folder {root}")
    below = {folder.name for folder in _folders(root)}
    given = {"train", "test"} <= below <= set(SPLITS)
    if not given and below and below <= set(SPLITS):
        raise BadData(f"{root} has {' and '.join(sorted(below))}, but train and test belong together")
    roots = {name: root / name for name in SPLITS if name in below} if given else {"": root}
    names = tuple(sorted(folder.name for folder in _folders(roots["train" if given else ""])))
    if len(names) < 2:
        raise BadData(f"{root} has {len(names)} class folders, at least 2 are needed", "one sub-folder per class")
    check_names(names, output, str(root))
    found = {split: _files(place, names) for split, place in roots.items()}
    step, read = _step([path for files in found.values() for path in files.paths], spec, pixels)

    def examples(files: _Files, indices: npt.NDArray[np.int64] | None = None) -> FileExamples:
        chosen = np.arange(len(files.paths)) if indices is None else indices
        paths = tuple(files.paths[index] for index in chosen)
        digests = tuple(_checked(path, read) for path in paths)
        return FileExamples(paths, digests, files.labels[chosen], spec.name, read, step)

    if not given:
        drawn = three_splits(found[""].labels, seed, where=str(root), names=names)
        splits = {name: examples(found[""], indices) for name, indices in zip(SPLITS, drawn, strict=True)}
    elif "val" in found:
        splits = {name: examples(found[name]) for name in SPLITS}
    else:
        train, val = validation_split(found["train"].labels, seed, where=str(root / "train"), names=names)
        splits = {"train": examples(found["train"], train), "val": examples(found["train"], val)}
        splits["test"] = examples(found["test"])
    return FolderTask(splits, step, spec.name, names)


def _folders(root: Path) -> list[Path]:
    return sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))


def _files(root: Path, names: Sequence[str]) -> _Files:
    paths: list[Path] = []
    labels: list[int] = []
    for folder in _folders(root):
        if folder.name not in names:
            raise BadData(f"{folder}: there is no class {folder.name!r} in train", f"its classes: {', '.join(names)}")
        inside = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
        if not inside:
            raise BadData(f"class folder {folder} is empty", "fill it, or remove it")
        paths += inside
        labels += [names.index(folder.name)] * len(inside)
    if not paths:
        raise BadData(f"{root} has no class folders")
    return _Files(tuple(paths), np.array(labels, np.int64))


def _step(
    paths: Sequence[Path], spec: TensorSpec, pixels: str | None
) -> tuple[ImageInput | AudioInput, Callable[[Path], npt.NDArray[Any]]]:
    wavs = [path for path in paths if path.suffix.lower() == ".wav"]
    pictures = [path for path in paths if path.suffix.lower() in SUFFIXES]
    if len(wavs) + len(pictures) < len(paths):
        other = min(set(paths) - set(wavs) - set(pictures))
        raise BadData(f"{other} is neither a wav file nor a picture ({' '.join(SUFFIXES)})", "remove or convert it")
    if wavs and pictures:
        raise BadData(f"wav files and pictures are mixed: {wavs[0]} and {pictures[0]}", "keep one kind")
    if wavs:
        if pixels is not None:
            raise BadData(f"{wavs[0]} has no pixels to bring to {pixels}", "leave the range of pixels out")
        sound = audio_input(spec)
        return sound, sound.read
    return image_input(spec, pixels), read_image


def _checked(path: Path, read: Callable[[Path], npt.NDArray[Any]]) -> str:
    read(path)
    return hashlib.sha256(path.read_bytes()).hexdigest()
