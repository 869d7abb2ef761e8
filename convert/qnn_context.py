"""Qualcomm context binaries: an .onnx model compiled for one system on chip, which a device loads without compiling.

The compiler is the QNN plugin's. Given a SoC that it does not know, or a model that the HTP cannot take, it opens a
session on the CPU and writes nothing, without a word: so what was made is looked for, read, loaded again and run.
"""

import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edge.delegates import difference
from edge.engines.feeds import fixed
from edge.engines.onnx_file import compiled_for
from edge.engines.providers.qnn import CONTEXT
from edge.errors import BadModel, CheckFailed, UnknownName
from edge.onnxruntime_settings import SOCS, QNNSettings
from edge.report import Placement
from edge.runtime_process import Loaded, RuntimeProcess
from edge.tensors import Array

# Compiled ahead or at load, it is the same code: the outputs may differ by one of 255 steps of their range
STEP = 1 / 255


@dataclass(frozen=True)
class ContextBinary:
    """One compiled model: `model` is what a device opens; the binary lies beside it.

    `difference` is the largest one from a session that compiled the model itself, as a fraction of the outputs' range.
    """

    soc: str
    model: Path
    size_bytes: int
    placement: Placement
    difference: float

    def line(self) -> str:
        """One line for people."""
        where = self.placement
        return (
            f"{self.soc}: {self.model} ({self.size_bytes} bytes), "
            f"{where.ops_offloaded} of {where.ops_total} operations on the HTP, "
            f"within {self.difference:.2g} of the range when it was loaded again (on {where.emulated_by})"
        )


def build_context(model: Path, soc: str, folder: Path) -> ContextBinary:
    """Compile `model` for `soc` into `folder`/SOC, load it again on the simulator, and compare.

    Raises:
        UnknownName: no such SoC.
        BadModel: the HTP of this SoC takes no part of the model, or the file is none that can be compiled.
        CheckFailed: what was loaded again computes otherwise.
        RuntimeMissing: the QNN plugin is not installed.

    """
    name = soc.upper()
    if name not in SOCS:
        raise UnknownName("SoC", soc, SOCS)
    if compiled_for(model.read_bytes()) is not None:
        raise BadModel(f"{model.name} is compiled already", "convert the model that it was compiled from")
    settings = {"soc_model": name}
    target = folder / name
    with tempfile.TemporaryDirectory(prefix="edgetool-qnn-") as scratch:
        try:
            loaded, feeds, expected = _run(model, {**settings, "cache": "true", "cache_folder": scratch})
        except BadModel as error:
            raise BadModel(error.message, error.hint or _hint(name)) from None
        made = next(Path(scratch).glob(f"*/{CONTEXT}"), None)
        made_for = None if made is None else compiled_for(made.read_bytes())
        if made is None or made_for is None:
            raise BadModel(
                f"no context binary came of {model.name} for {name}: {_reason(loaded.placement)}",
                _hint(name),
            )
        if made_for.soc != QNNSettings(soc_model=name).soc_id:
            raise CheckFailed(f"the compiler made a binary for another SoC than {name}: {made_for}")
        part = folder / f".{name}.part"  # under its name only when it is whole and proven
        try:
            shutil.copytree(made.parent, part, ignore=shutil.ignore_patterns("manifest.json"))
            _, _, got = _run(part / CONTEXT, settings, feeds)
            worst = max(difference(got[output], expected[output]) for output in expected)
            if not worst <= STEP:
                raise CheckFailed(
                    f"the context binary of {model.name} for {name} computes otherwise: outputs differ by {worst:.3g} "
                    f"of their range, {STEP:.3g} is allowed"
                )
            shutil.rmtree(target, ignore_errors=True)
            part.replace(target)
        finally:
            shutil.rmtree(part, ignore_errors=True)
    size = sum(file.stat().st_size for file in target.iterdir())
    return ContextBinary(name, target / CONTEXT, size, loaded.placement, worst)


def _run(
    model: Path, settings: Mapping[str, str], feeds: Mapping[str, Array] | None = None
) -> tuple[Loaded, Mapping[str, Array], Mapping[str, Array]]:
    """In a process of its own: native compilers may end it."""
    with RuntimeProcess() as process:
        loaded = process.load(model, "onnx", delegate="qnn", settings=settings)
        stacked = feeds or {
            name: np.concatenate([array, *(fixed(loaded.inputs, seed)[name] for seed in range(1, 8))])
            for name, array in fixed(loaded.inputs).items()
        }
        return loaded, stacked, process.predict(stacked)


def _hint(soc: str) -> str | None:
    return "the HTP of a SM7325 takes quantized models only" if soc == "SM7325" else None


def _reason(placement: Placement) -> str:
    if placement.ops_offloaded == 0:
        return f"the HTP takes none of its {placement.ops_total} operations"
    return placement.compiled or "the compiler wrote no file"
