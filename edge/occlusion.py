"""Which parts of an input counted, by occlusion: the drop of a score when a patch is replaced by a baseline.

Zeiler & Fergus, "Visualizing and Understanding Convolutional Networks", ECCV 2014, section 4.2: no gradients, so
any model that can be run can be explained. Large patches come first, smaller ones where these moved the score most.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edge.errors import BadData
from edge.image import resize
from edge.tensors import Array

Score = Callable[[Array], npt.NDArray[Any]]
Boxes = npt.NDArray[np.int64]

BUDGET = 400
CHUNK = 32  # examples handed to the score at once
DELETED = 0.2  # of the cells, in the check of the map
# An axis is cut into so many patches, level by level; signals have one axis and many more cells on it.
PARTS = {1: (8, 16, 32, 64), 2: (4, 8, 16, 32)}
BLUR = 8  # the picture is reduced this many times and enlarged again: a face keeps its place, not its features


@dataclass(frozen=True)
class Region:
    """A patch, half open along each occluded axis, and by how much replacing it lowered the score."""

    start: tuple[int, ...]
    stop: tuple[int, ...]
    drop: float


@dataclass(frozen=True)
class Deletion:
    """The check of a map: what happens to the score when the cells that counted most, or least, are replaced.

    Petsiuk et al., "RISE: Randomized Input Sampling for Explanation of Black-box Models", BMVC 2018, section 4.1
    (deletion), at one `fraction`. Effects are drops of the score; for a value, which has no good direction, they are
    the sizes of its changes. `faithful` is None where there is only one cell.
    """

    fraction: float
    top_effect: float
    bottom_effect: float
    faithful: bool | None


@dataclass(frozen=True, eq=False)
class Occlusion:
    """What `occlude` found. `heat` has the shape of the occluded axes: the drop of the score per cell, averaged over
    all patches that cover the cell, the smaller ones counting more. `noise` is the largest drop that means nothing.
    """

    score: float
    heat: npt.NDArray[np.float64]
    regions: tuple[Region, ...]
    deletion: Deletion
    noise: float
    runs: int

    @property
    def explains(self) -> bool:
        """Whether any patch moved the score."""
        return any(abs(region.drop) > self.noise for region in self.regions)


def occlude(
    example: Array,
    baseline: Array,
    axes: Sequence[int],
    score: Score,
    *,
    two_sided: bool = False,
    parts: Sequence[int] | None = None,
    budget: int = BUDGET,
    tick: float = 0.0,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Occlusion:
    """Replace patches of `example` along `axes` by `baseline` (of the same shape) and see what the score does.

    `score` takes examples [n, ...] and gives [n]. A class's score is explained by what lowers it; a value is
    `two_sided`: what raises it counts as much. `parts` are the patches along an axis, level by level. `tick` is the
    step of a quantized score. At most `budget` examples are scored; `progress` is told how many have been.

    Raises:
        BadData: a budget too small for a single patch, or a score that is not finite.

    """
    levels = tuple(parts) if parts is not None else PARTS[len(axes)]
    reserved = 1 + (4 if two_sided else 2)
    if budget <= reserved:
        raise BadData(f"a budget of {budget} runs", f"an explanation needs at least {reserved + 1}")
    runner = _Runner(example, baseline, tuple(axes), score, budget, progress)
    original = float(runner.scores([np.zeros(runner.grid, bool)])[0])
    boxes, drops = _search(runner, original, levels, reserved)
    heat = _heat(runner.grid, boxes, drops)
    noise = max(1.01 * tick, 1e-5 * abs(original), 1e-7)  # float kernels add in another order for another batch
    deletion = _deletion(runner, original, heat, noise, two_sided=two_sided)
    order = np.argsort(-np.abs(drops), kind="stable")
    regions = tuple(
        Region(tuple(boxes[i, 0].tolist()), tuple(boxes[i, 1].tolist()), float(drops[i])) for i in order.tolist()
    )
    return Occlusion(original, heat, regions, deletion, noise, runner.done)


def blurred(picture: Array, axes: Sequence[int]) -> Array:
    """The picture without its details: reduced `BLUR` times along `axes` (rows, columns) and enlarged again."""
    front = np.moveaxis(picture, tuple(axes), (0, 1))
    height, width = front.shape[:2]
    flat = front.reshape(height, width, -1)
    small = resize(flat, math.ceil(height / BLUR), math.ceil(width / BLUR))
    back = resize(small, height, width).reshape(front.shape)
    return _as(np.moveaxis(back, (0, 1), tuple(axes)), picture.dtype)


def averaged(example: Array, axes: Sequence[int]) -> Array:
    """The mean along `axes` in every cell: of a picture its mean colour, of features the mean of each bin."""
    mean = example.mean(axis=tuple(axes), keepdims=True, dtype=np.float64)
    return _as(np.broadcast_to(mean, example.shape), example.dtype)


def _as(values: npt.NDArray[Any], dtype: np.dtype[Any]) -> Array:
    return (values if dtype.kind == "f" else np.rint(values)).astype(dtype)


class _Runner:
    """Scores the example with cells replaced, counts the runs and tells the progress."""

    def __init__(
        self,
        example: Array,
        baseline: Array,
        axes: tuple[int, ...],
        score: Score,
        budget: int,
        progress: Callable[[int, int], None],
    ) -> None:
        self.grid = tuple(example.shape[axis] for axis in axes)
        self.budget = budget
        self.done = 0
        self._example, self._baseline, self._score, self._progress = example, baseline, score, progress
        self._shape = tuple(length if axis in axes else 1 for axis, length in enumerate(example.shape))
        # a mask over the grid has its axes in the order of the example's
        self._order = tuple(int(i) for i in np.argsort(axes))

    def scores(self, masks: Sequence[npt.NDArray[np.bool_]]) -> npt.NDArray[np.float64]:
        """The score with the cells of each mask replaced: [masks]."""
        found = []
        for start in range(0, len(masks), CHUNK):
            chunk = masks[start : start + CHUNK]
            shaped = [mask.transpose(self._order).reshape(self._shape) for mask in chunk]
            stacked = np.stack([np.where(mask, self._baseline, self._example) for mask in shaped])
            found.append(np.asarray(self._score(stacked), np.float64).reshape(len(chunk)))
            self.done += len(chunk)
            self._progress(self.done, self.budget)
        scores = np.concatenate(found)
        if not np.isfinite(scores).all():
            raise BadData("the model's score is NaN or infinite", "such an output cannot be explained")
        return scores


def _search(
    runner: _Runner, original: float, levels: Sequence[int], reserved: int
) -> tuple[Boxes, npt.NDArray[np.float64]]:
    """Patches [n, 2 (start, stop), axes] and the drop of each, from coarse to fine within the budget."""
    boxes: Boxes = np.zeros((0, 2, len(runner.grid)), np.int64)
    drops = np.zeros(0)
    before: tuple[int, ...] = ()
    for number, count in enumerate(levels):
        left = runner.budget - reserved - runner.done + 1  # the first run is among the reserved ones
        patch = _patch(runner.grid, count)
        if patch == before or left < 1:
            break
        candidates = _boxes(runner.grid, patch)
        if not before:
            while len(candidates) > left and count > 1:
                count -= 1  # noqa: PLW2901  # larger patches, where the budget does not reach for all of these
                patch = _patch(runner.grid, count)
                candidates = _boxes(runner.grid, patch)
        last = number == len(levels) - 1 or max(patch) == 1
        share = left if last or not before else max(1, left // 2)
        if len(candidates) > share:
            warmth = np.abs(_heat(runner.grid, boxes, drops)) if len(boxes) else np.ones(runner.grid)
            means = np.array([warmth[_slices(box)].mean() for box in candidates])
            candidates = candidates[np.argsort(-means, kind="stable")[:share]]
        scores = runner.scores([_mask(runner.grid, box) for box in candidates])
        boxes, drops = np.concatenate([boxes, candidates]), np.concatenate([drops, original - scores])
        before = patch
    return boxes, drops


def _patch(grid: tuple[int, ...], count: int) -> tuple[int, ...]:
    return tuple(math.ceil(length / count) for length in grid)


def _boxes(grid: tuple[int, ...], patch: tuple[int, ...]) -> Boxes:
    """All patches that overlap by half, the last one ending with the axis: [n, 2, axes]."""
    starts = [
        sorted({*range(0, length - size, max(1, size // 2)), length - size})
        for length, size in zip(grid, patch, strict=True)
    ]
    corners = np.stack(np.meshgrid(*starts, indexing="ij"), axis=-1).reshape(-1, len(grid))
    return np.stack([corners, corners + np.array(patch)], axis=1)


def _slices(box: npt.NDArray[np.int64]) -> tuple[slice, ...]:
    return tuple(slice(start, stop) for start, stop in zip(box[0].tolist(), box[1].tolist(), strict=True))


def _mask(grid: tuple[int, ...], box: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    mask = np.zeros(grid, bool)
    mask[_slices(box)] = True
    return mask


def _heat(grid: tuple[int, ...], boxes: Boxes, drops: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Each cell's drop: the mean of drop / cells over the patches that cover it; half the side, twice the weight."""
    total, weight = np.zeros(grid), np.zeros(grid)
    for box, drop in zip(boxes, drops.tolist(), strict=True):
        cells = float(np.prod(box[1] - box[0]))
        vote = cells ** (-1 / len(grid))
        total[_slices(box)] += vote * drop / cells
        weight[_slices(box)] += vote
    return np.asarray(np.divide(total, weight, out=total, where=weight > 0))


def _deletion(
    runner: _Runner, original: float, heat: npt.NDArray[np.float64], noise: float, *, two_sided: bool
) -> Deletion:
    count = max(1, round(DELETED * heat.size))
    order = np.argsort(-(np.abs(heat) if two_sided else heat), axis=None, kind="stable")
    top, bottom = _chosen(heat.shape, order[:count]), _chosen(heat.shape, order[-count:])
    if two_sided:  # what raises and what lowers the value would cancel in one run
        masks = [top & (heat > 0), top & (heat < 0), bottom & (heat > 0), bottom & (heat < 0)]
        sizes = np.abs(original - runner.scores(masks))
        top_effect, bottom_effect = float(sizes[0] + sizes[1]), float(sizes[2] + sizes[3])
    else:
        top_effect, bottom_effect = (original - runner.scores([top, bottom])).tolist()
    faithful = None if heat.size == 1 else bool(top_effect > noise and top_effect > bottom_effect + noise)
    return Deletion(DELETED, top_effect, bottom_effect, faithful)


def _chosen(grid: tuple[int, ...], flat: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    mask = np.zeros(math.prod(grid), bool)
    mask[flat] = True
    return mask.reshape(grid)
