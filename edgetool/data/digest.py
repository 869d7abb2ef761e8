"""The hash that names a task: of every split and of the preprocessing."""

import dataclasses
import hashlib
import json
from collections.abc import Iterator, Mapping

import numpy as np

from edge.preprocess import Preprocess
from edgetool.data.examples import ArrayExamples, FileExamples
from edgetool.task import Examples, batches


def task_sha256(splits: Mapping[str, Examples], steps: Mapping[str, Preprocess], labels: tuple[str, ...]) -> str:
    """SHA-256 (hex) over the splits by name, the steps and the labels, streamed.

    Arrays are hashed as they are and folders by the hashes of their files; of any other kind of `Examples`
    the preprocessed inputs are hashed.
    """
    digest = hashlib.sha256()
    plain = {name: dataclasses.asdict(step) for name, step in steps.items()}  # type: ignore[call-overload]  # every Preprocess is a dataclass, which a Protocol cannot say
    digest.update(json.dumps([plain, labels], sort_keys=True).encode())
    for name, examples in sorted(splits.items()):
        digest.update(f"\n{name} {examples.n}\n".encode())
        for part in _content(examples):
            digest.update(part)
    return digest.hexdigest()


def _content(examples: Examples) -> Iterator[bytes]:
    if isinstance(examples, (ArrayExamples, FileExamples)):
        yield from examples.content()
        return
    for inputs, targets in batches(examples, 64):
        for name, values in sorted({**inputs, "": targets}.items()):
            yield f"{name} {values.dtype.str} {values.shape}\n".encode()
            yield np.ascontiguousarray(values).tobytes()
    if examples.groups is not None:
        yield np.ascontiguousarray(examples.groups).tobytes()
