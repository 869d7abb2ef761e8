"""`edgetool convert --to ethos-u` and `--to rknn`: files that only one kind of NPU runs, with what is known of them."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from edge.durable import write_whole
from edge.errors import BadInput, BadModel, BadRecipe
from edgetool.units import format_bytes
from edgetool.workspace import require_writable

ETHOS_U = "ethos-u"
RKNN = "rknn"
FORMATS = {ETHOS_U: ".tflite", RKNN: ".onnx"}  # what each is compiled from
CALIBRATION = 100  # examples, as the other calibrated conversions take


def compile_for(
    model: Path,
    to: str,
    socs: Sequence[str],
    *,
    precision: str,
    data: str | None,
    pixels: str | None,
    out: Path | None,
    seed: int,
) -> str:
    """Compile a model for one NPU, write it, and say in a few lines what is known of it.

    Raises:
        BadInput: the model, the NPU's name or the data cannot be used.
        EnvironmentFailed: the compiler is missing or failed.

    """
    suffix = FORMATS[to]
    if model.suffix != suffix or not model.is_file():
        raise BadModel(
            f"--to {to} compiles a {suffix} file, and this is {model}", f"convert it first: --to {suffix.strip('.')}"
        )
    if len(socs) != 1:
        raise BadRecipe(f"--to {to} needs the one NPU to compile for", f"--soc NAME, such as {_names(to)[0]}")
    if precision != "float32":
        raise BadRecipe(f"--to {to} knows no --precision: {_precision(to)}")
    written = out if out is not None else model.with_name(f"{model.stem}-{socs[0]}{'.rknn' if to == RKNN else suffix}")
    if written.is_dir() or written == model:
        raise BadInput(f"the output {written} is {'the model' if written == model else 'a folder'}", "give --out FILE")
    require_writable(written)
    content, said = _ethos_u(model, socs[0], data) if to == ETHOS_U else _rknn(model, socs[0], data, pixels, seed)
    written.parent.mkdir(parents=True, exist_ok=True)
    write_whole(written, content)
    return f"{written}: {format_bytes(len(content))}\n{said}"


def _ethos_u(model: Path, accelerator: str, data: str | None) -> tuple[bytes, str]:
    from convert.ethos_u import compile_for_ethos_u

    if data is not None:
        raise BadRecipe("--to ethos-u compiles a quantized model as it is: it needs no --data")
    content, estimate = compile_for_ethos_u(model, accelerator)
    return content, estimate.as_text()


def _rknn(model: Path, soc: str, data: str | None, pixels: str | None, seed: int) -> tuple[bytes, str]:
    from convert.rockchip import compile_for_rockchip, toolkit
    from edgetool.conversion_worker import ConversionWorker, describe_model, load_source
    from edgetool.data.load import require_data
    from edgetool.judge import golden_inputs
    from edgetool.passes.step import calibration_samples
    from edgetool.recipe import TaskSource

    toolkit()
    if data is None:
        raise BadRecipe("--to rknn quantizes to int8: it needs data to calibrate on", "add --data")
    require_data(data)
    with ConversionWorker() as worker:
        artifact, _, _ = worker.call(describe_model, model, False)
    task = load_source(TaskSource(data, pixels=pixels, seed=seed), artifact)
    drawn = list(calibration_samples(task, CALIBRATION, seed)())
    calibration = {name: np.concatenate([one[name] for one in drawn]) for name in drawn[0]}
    content, check = compile_for_rockchip(model, soc, calibration, golden_inputs(task.val, seed))
    return content, check.as_text()


def _names(to: str) -> Sequence[str]:
    if to == ETHOS_U:
        return ("ethos-u55-128", "ethos-u65-256", "ethos-u85-256")
    from convert.rockchip import SOCS

    return SOCS[::-1]


def _precision(to: str) -> str:
    if to == RKNN:
        return "it quantizes to int8 itself, with --data"
    return "quantize the model first: --to tflite --precision int8"
