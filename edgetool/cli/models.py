"""`edgetool convert` and `evaluate`: single steps of the main job, on one model."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

Trust = Annotated[bool, typer.Option("--trust", help="Allow code inside the model (Lambda layers, pickles).")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Data = "A folder of classes, .npz, .csv, task.py (runs its code) or a built-in task."


def convert(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="A .keras, .h5, SavedModel, .onnx or .tflite.")],
    to: Annotated[
        str, typer.Option(help="tflite or onnx; for one NPU: qnn (Qualcomm), ethos-u (Arm), rknn (Rockchip).")
    ],
    precision: Annotated[str, typer.Option(help="float32, float16, dynamic, int8 or int16x8.")] = "float32",
    data: Annotated[str | None, typer.Option(help=f"For int8 and int16x8, to calibrate on. {Data}")] = None,
    pixels: Annotated[
        str | None, typer.Option(help="What the model expects: 0..1, -1..1 or 0..255. [default: 0..1]")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="The file to write. [default: beside the model]")] = None,
    soc: Annotated[
        list[str] | None, typer.Option(help="The NPU: SM8650 (for qnn; may be given again), ethos-u55-128, rk3588.")
    ] = None,
    batch_1: Annotated[
        bool, typer.Option("--batch-1", help="From .tflite to onnx: make a batch that is fixed at another size 1.")
    ] = False,
    seed: Annotated[int, typer.Option(min=0, help="Of the calibration sample.")] = 0,
    trust: Trust = False,
) -> None:
    """Convert a model and prove that it still says the same in the runtime that will run it.

    \b
    Examples:
      edgetool convert model.keras --to tflite
      edgetool convert model.keras --to onnx --precision int8 --data photos/
      edgetool convert embedder.tflite --to onnx --batch-1
      edgetool convert model-int8.onnx --to qnn --soc SM8650 --soc SM7325 --out compiled/
      edgetool convert model-int8.tflite --to ethos-u --soc ethos-u55-128
      edgetool convert model.onnx --to rknn --soc rk3588 --data photos/
    """
    if to in ("ethos-u", "rknn"):
        from edgetool.compile_for import compile_for

        typer.echo(compile_for(model, to, soc or (), precision=precision, data=data, pixels=pixels, out=out, seed=seed))
        return
    if to == "qnn" or soc:
        _compile_for_qualcomm(model, to=to, precision=precision, data=data, socs=soc or (), out=out)
        return
    from edgetool.cli.progress import progress_display
    from edgetool.single import convert_model

    with progress_display() as progress:
        done = convert_model(
            model,
            to=to,
            precision=precision,
            data=data,
            pixels=pixels,
            out=out,
            batch_1=batch_1,
            seed=seed,
            trust=trust,
            progress=progress,
        )
    typer.echo(done)


def evaluate(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="A .keras, .h5, SavedModel, .onnx or .tflite.")],
    data: Annotated[str, typer.Option(help=Data)],
    metric: Annotated[str | None, typer.Option(help="The metric. [default: accuracy, or mae for real targets]")] = None,
    split: Annotated[str, typer.Option(help="val or test.")] = "test",
    target_column: Annotated[str | None, typer.Option(help="The column of a .csv that is predicted.")] = None,
    pixels: Annotated[
        str | None, typer.Option(help="What the model expects: 0..1, -1..1 or 0..255. [default: 0..1]")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the splits and the bootstrap.")] = 0,
    trust: Trust = False,
    as_json: Json = False,
) -> None:
    """The metric of a model on a data set, with its 95 % interval.

    \b
    Examples:
      edgetool evaluate model.tflite --data fashion_mnist
      edgetool evaluate model.onnx --data table.csv --target-column price --metric rmse
    """
    from edgetool.cli.progress import progress_display
    from edgetool.recipe import TaskSource
    from edgetool.single import evaluate_model

    source = TaskSource(data, metric, target_column, pixels, seed)
    with progress_display() as progress:
        found = evaluate_model(model, source, split=split, trust=trust, progress=progress)
    typer.echo(found.as_json() if as_json else found.as_text())


def _compile_for_qualcomm(
    model: Path, *, to: str, precision: str, data: str | None, socs: Sequence[str], out: Path | None
) -> None:
    """Each SoC's context binary, in a folder of its name."""
    from convert.qnn_context import build_context
    from edge.errors import BadInput, BadModel, BadRecipe
    from edge.onnxruntime_settings import SOCS
    from edgetool.workspace import require_writable

    if to != "qnn":
        raise BadRecipe(f"--soc is for --to qnn, and this is --to {to}")
    if not socs:
        raise BadRecipe("--to qnn needs the system on chip", f"--soc NAME, one of {', '.join(SOCS)}")
    if precision != "float32" or data is not None:
        raise BadRecipe("--to qnn compiles a model as it is", "quantize it first: --to onnx --precision int8 --data …")
    if model.suffix != ".onnx" or not model.is_file():
        raise BadModel(f"--to qnn compiles an .onnx file, and this is {model}", "convert it first: --to onnx")
    folder = out if out is not None else model.with_suffix("")
    if folder.exists() and not folder.is_dir():
        raise BadInput(f"the output {folder} is a file", "give a folder with --out: each SoC has one in it")
    require_writable(folder)
    for soc in socs:
        typer.echo(build_context(model, soc, folder).line())
