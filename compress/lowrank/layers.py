"""The layers of a Keras 3 model that can be factorized, what a rank of each costs, and the thin layers for it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np

from compress.lowrank.factors import Floats, product, rank_for, singular_values, svd, tucker2
from compress.prune.channels.keras_trace import nodes
from edge.report import Skipped

CONVOLUTIONS = ("Conv1D", "Conv2D", "Conv3D")


@dataclass(eq=False)
class Target:
    """One layer with its kernel [..., in, out] and, summed over its uses, the places it reads and writes."""

    layer: Any
    kernel: Floats
    inside: int
    outside: int
    spectra: tuple[Floats, Floats] = field(init=False)

    def __post_init__(self) -> None:
        self.spectra = singular_values(self.kernel, -2), singular_values(self.kernel, -1)

    @property
    def is_matrix(self) -> bool:
        """Whether two factors do: a dense layer, or a convolution over one place."""
        return prod(self.kernel.shape[:-2]) == 1

    @property
    def macs(self) -> int:
        """What the layer costs as it is."""
        return self.outside * int(self.kernel.size)

    def ranks(self, energy: float, multiple: int) -> tuple[int, int]:
        """The ranks towards inputs and outputs that keep that much of the energy, rounded up to a multiple."""
        into, out = (min(-(-rank_for(values, energy) // multiple) * multiple, len(values)) for values in self.spectra)
        places = prod(self.kernel.shape[:-2])
        # what is unfolded after the other side was cut has no more than this many independent rows
        into = min(into, places * out)
        return into, min(out, places * into)

    def cost(self, ranks: tuple[int, int]) -> int:
        """The multiply-accumulates of the thin layers; a factor of full rank is left out."""
        *places, n_in, n_out = self.kernel.shape
        into, out = ranks
        if self.is_matrix:
            return int(self.inside * n_in * into + self.outside * out * n_out)
        first = self.inside * n_in * into if into < n_in else 0
        last = self.outside * out * n_out if out < n_out else 0
        return int(first + self.outside * prod(places) * into * out + last)


def targets(graph: Any) -> tuple[list[Target], list[Skipped]]:
    """What can be factorized in a functional graph, and every other layer with a kernel and why it cannot."""
    found: dict[int, Target] = {}
    skipped: dict[int, Skipped] = {}
    for node in nodes(graph):
        layer = node.operation
        if not any(len(weight.shape) > 1 for weight in getattr(layer, "weights", ())):
            continue
        reason = _refused(layer) or _not_fixed(node)
        if reason:
            skipped[id(layer)] = Skipped(layer.name, reason)
            continue
        inside, outside = (prod(tensor.shape[1:-1]) for tensor in (node.input_tensors[0], node.outputs[0]))
        if _strided_matrix(layer):
            inside = outside  # the first of two 1x1 convolutions takes the stride
        known = found.get(id(layer))
        if known is None:
            found[id(layer)] = Target(layer, layer.kernel.numpy().astype(np.float64), inside, outside)
        else:
            known.inside += inside
            known.outside += outside
    return list(found.values()), list(skipped.values())


def thin(target: Target, ranks: tuple[int, int]) -> tuple[list[Any], list[Floats], Floats]:
    """Layers in the order they run, their kernels, and the kernel that they stand for together."""
    layer, kernel = target.layer, target.kernel
    if target.is_matrix:
        places = kernel.shape[:-2]
        left, right = svd(kernel.reshape(kernel.shape[-2:]), ranks[0])
        factors = [left.reshape(*places, *left.shape), right.reshape(*places, *right.shape)]
        together = (left @ right).reshape(kernel.shape)
        made = [_like(layer, "in", left.shape[-1], last=False), _like(layer, "out", kernel.shape[-1], last=True)]
        return made, factors, together
    into, core, out = tucker2(kernel, ranks)
    together = product(into, core, out)
    ones = (1,) * (kernel.ndim - 2)
    made, factors = [], []
    n_in, n_out = kernel.shape[-2:]
    rank_in, rank_out = core.shape[-2:]
    if rank_in < n_in:
        made.append(_like(layer, "in", rank_in, last=False, places=ones))
        factors.append(into.reshape(*ones, *into.shape))
    else:
        core = into @ core
    whole = rank_out == n_out
    made.append(_like(layer, "core", rank_out, last=whole, places=kernel.shape[:-2]))
    factors.append(core @ out if whole else core)
    if not whole:
        made.append(_like(layer, "out", n_out, last=True, places=ones))
        factors.append(out.reshape(*ones, *out.shape))
    return made, factors, together


def _like(layer: Any, part: str, size: int, *, last: bool, places: Sequence[int] | None = None) -> Any:
    """A layer with the settings of `layer`, `size` outputs, and its bias and activation only where it is the last.

    `places` is the kernel's extent: over one place a convolution of stride 1 needs no padding. None keeps the extent,
    and the first of the two takes the stride.
    """
    config = layer.get_config()
    config.pop("build_config", None)
    if not last:
        config |= {"name": f"{layer.name}_{part}", "use_bias": False, "activation": "linear"}
    if type(layer).__name__ == "Dense":
        return type(layer).from_config(config | {"units": size})
    config["filters"] = size
    alone = places is not None and prod(places) == 1
    if places is not None:
        config["kernel_size"] = tuple(places)
    if alone or (places is None and last):
        config |= {"strides": (1,) * len(config["strides"]), "dilation_rate": (1,) * len(config["strides"])}
    if alone:
        config["padding"] = "valid"
    return type(layer).from_config(config)


def _strided_matrix(layer: Any) -> bool:
    return type(layer).__name__ in CONVOLUTIONS and prod(layer.kernel_size) == 1


def _refused(layer: Any) -> str | None:
    kind = type(layer)
    if not kind.__module__.startswith("keras.") or kind.__name__ not in ("Dense", *CONVOLUTIONS):
        return f"{kind.__name__}: lowrank.svd covers dense and convolution layers that stand in the model's own graph"
    if kind.__name__ == "Dense":
        return None
    if layer.data_format != "channels_last":
        return "it has its channels first"
    if layer.padding not in ("same", "valid"):
        return f"its padding is {layer.padding}"
    return f"it has {layer.groups} groups of channels" if layer.groups != 1 else None


def _not_fixed(node: Any) -> str | None:
    shapes = node.input_tensors[0].shape[1:], node.outputs[0].shape[1:]
    return "its shape is not fixed" if any(size is None for shape in shapes for size in shape) else None
