"""Which channels go: all groups ranked together, the least important first, until the cost is within its budget.

Molchanov et al., "Importance Estimation for Neural Network Pruning", CVPR 2019 (arXiv:1906.10771), section 3: channels
of all layers are ranked together by the estimated loss of removing each. Here they go in blocks, so that every layer
keeps a multiple that its kernels like.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from compress.prune.channels.structure import Alive, Group
from edge.errors import CheckFailed
from edge.report import Skipped

Scores = npt.NDArray[np.float64]
Cost = Callable[[Alive], float]


@dataclass(frozen=True)
class Block:
    """Channels that go together: the classes, and what losing one of them costs on average."""

    classes: npt.NDArray[np.int64]
    score: float


def normalised(scores: Scores) -> Scores:
    """Scores [n] of a group over their mean, so that groups of different scale can be ranked together."""
    mean = float(scores.mean()) if scores.size else 0.0
    return scores / mean if mean > 0 else scores


def blocks(classes: npt.NDArray[np.int64], scores: Scores, multiple: int, keep: int) -> list[Block]:
    """The channels of one group that may go, in blocks [least important first].

    After each block a multiple of `multiple` channels is left, and at least `keep` of them.
    """
    order = np.argsort(scores, kind="stable")
    found: list[Block] = []
    gone = 0
    while True:
        left = len(classes) - gone
        size = left % multiple or multiple
        if left - size < max(keep, 1):
            return found
        chosen = order[gone : gone + size]
        found.append(Block(classes[chosen], float(scores[chosen].mean())))
        gone += size


def choose(
    groups: Sequence[Group],
    scores: Sequence[Scores],
    everything: Alive,
    cost: Cost,
    budget: float,
    *,
    multiple: int,
    keep: float,
) -> tuple[Alive, list[Skipped]]:
    """Alive [labels]: without as few blocks as bring `cost` within `budget`, and the groups too small to be pruned.

    `scores` are comparable between groups; `keep` is the fraction of a group that always stays. `cost` must not rise
    when channels go; it is called about log2(blocks) times, so it may be a measurement.

    Raises:
        CheckFailed: with all that may go gone, the cost is still above the budget, with the figure; or a score is NaN.

    """
    skipped, found = [], list[Block]()
    for group, values in zip(groups, scores, strict=True):
        if not np.isfinite(values).all():
            raise CheckFailed(
                f"prune.channel: the importance of {group.name} is not a number",
                "look for NaN or infinity in the weights and in the data",
            )
        step = 1 if group.single else multiple
        made = blocks(group.classes, values, step, int(np.ceil(keep * len(group.classes))))
        if not made:
            why = f"its {len(group.classes)} channels cannot be fewer: multiples of {step}, {keep:g} of them at least"
            skipped.append(Skipped(group.name, why))
        found += made
    found.sort(key=lambda block: block.score)

    def after(gone: int) -> Alive:
        alive = everything.copy()
        for block in found[:gone]:
            alive[block.classes] = False
        return alive

    if cost(everything) <= budget:
        return everything, skipped
    least = cost(after(len(found)))
    if least > budget:
        raise CheckFailed(
            f"prune.channel cannot reach the budget of {budget:.4g}: with all that may go gone it is {least:.4g}",
            "raise the budget, lower keep or multiple, or see which layers were skipped",
        )
    enough, short = len(found), 0
    while enough - short > 1:
        middle = (enough + short) // 2
        if cost(after(middle)) <= budget:
            enough = middle
        else:
            short = middle
    return after(enough), skipped
