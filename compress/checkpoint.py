"""The end of an epoch on disk, so that an interrupted fit goes on as if nothing had happened.

All variables (weights, moments of the optimizer, states of random layers) and what the transforms know are in one
.npz, read without pickle and written whole or not at all.
"""

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt

from edge.durable import write_whole

Array = npt.NDArray[Any]
State = Mapping[str, Array]
NAME = "epoch.npz"


@dataclass(frozen=True)
class Checkpoint:
    """A fit after some whole epochs: their mean losses, every variable in order, the state of each transform."""

    epoch_losses: list[float]
    variables: list[Array]
    transforms: list[dict[str, Array]]


def write(
    folder: Path,
    fit: Mapping[str, Any],
    epoch_losses: Sequence[float],
    variables: Sequence[Array],
    transforms: Sequence[State],
) -> None:
    """Keep the end of an epoch; `fit` are plain values that say which fit it is of."""
    said = {"fit": fit, "epoch_losses": list(epoch_losses), "transforms": len(transforms), "variables": len(variables)}
    arrays = {f"variable/{index}": value for index, value in enumerate(variables)}
    for index, state in enumerate(transforms):
        arrays |= {f"transform/{index}/{name}": np.asarray(value) for name, value in state.items()}
    stream = io.BytesIO()
    np.savez(stream, said=np.frombuffer(json.dumps(said).encode(), np.uint8), **arrays)  # type: ignore[arg-type]  # numpy's stub takes no mapping of arrays
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / NAME, stream.getvalue())


def read(folder: Path, fit: Mapping[str, Any]) -> Checkpoint | None:
    """What `write` kept of this very fit; None where there is nothing, or it is of another one, or damaged."""
    path = folder / NAME
    if not path.is_file():
        return None
    try:
        with np.load(path, allow_pickle=False) as kept:
            said = json.loads(bytes(kept["said"]))
            if said["fit"] != fit:
                return None
            variables = [kept[f"variable/{index}"] for index in range(said["variables"])]
            transforms: list[dict[str, Array]] = []
            for index in range(said["transforms"]):
                start = f"transform/{index}/"
                transforms.append({n.removeprefix(start): kept[n] for n in kept.files if n.startswith(start)})
    except (OSError, ValueError, KeyError, BadZipFile):
        return None
    return Checkpoint(said["epoch_losses"], variables, transforms)
