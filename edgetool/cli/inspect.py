"""`edgetool inspect`: what is in a model, what a device will make of it, and what it looks at."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgetool.cli.models import Data, Json, Trust

if TYPE_CHECKING:
    from edgetool.doctor.checkup import Checkup
    from edgetool.explanation import Explanation
    from edgetool.inspection import Inspection
    from edgetool.sensitivity import SensitivityReport


def inspect(
    model: Annotated[
        Path, typer.Argument(metavar="MODEL", help="A .keras, .h5, SavedModel, .onnx, .tflite or .edge bundle.")
    ],
    target: Annotated[
        str | None, typer.Option(help="A device: what will not be accelerated there, and what to change.")
    ] = None,
    explain: Annotated[
        str | None,
        typer.Option(metavar="INPUT", help="A picture, .wav, .csv, .npy or .npz, or test:17 of --data: what counted."),
    ] = None,
    sensitivity: Annotated[
        bool, typer.Option("--sensitivity", help="With --data: what int8 and int16x8 of each layer alone cost.")
    ] = False,
    data: Annotated[str | None, typer.Option(help=f"For --explain and --sensitivity. {Data}")] = None,
    target_column: Annotated[str | None, typer.Option(help="The column of a .csv that is predicted.")] = None,
    pixels: Annotated[str | None, typer.Option(help="What the model expects: 0..1, -1..1 or 0..255.")] = None,
    input_name: Annotated[
        str | None, typer.Option("--input", help="The input that is explained. [default: first]")
    ] = None,
    output_name: Annotated[
        str | None, typer.Option("--output", help="The output that is explained. [default: first]")
    ] = None,
    class_name: Annotated[
        str | None, typer.Option("--class", help="A class by name or number. [default: what the model says]")
    ] = None,
    kind: Annotated[
        str | None, typer.Option(help="image, sound, features or table. [default: by preprocessing and shape]")
    ] = None,
    baseline: Annotated[
        str | None, typer.Option(help="What a part is replaced by: blur, mean or zero. [default: by kind]")
    ] = None,
    example: Annotated[int, typer.Option(min=0, help="Which example of a file that holds several.")] = 0,
    budget: Annotated[int, typer.Option(min=8, help="Runs of the model, at most.")] = 400,
    out: Annotated[Path | None, typer.Option(help="The picture of the explanation, a .png.")] = None,
    trust: Trust = False,
    as_json: Json = False,
) -> None:
    """Say what is in a model; with --target what a device makes of it; with --explain what it looks at;
    with --sensitivity which layers bear to be quantized.

    \b
    Examples:
      edgetool inspect model.tflite
      edgetool inspect model.onnx --target jetson-orin-nano
      edgetool inspect model.keras --explain shoe.png --data photos/ --out why.png
      edgetool inspect model.edge --explain word.wav --json
      edgetool inspect model.keras --sensitivity --data photos/
    """
    from edge.errors import BadRecipe
    from edgetool.cli.progress import progress_display

    explains = {
        "--input": input_name, "--kind": kind, "--output": output_name, "--class": class_name, "--baseline": baseline,
        "--out": out,
    }  # fmt: skip
    of_data = {"--data": data, "--target-column": target_column, "--pixels": pixels}
    unused = [name for name, value in explains.items() if value is not None and explain is None]
    if unused:
        raise BadRecipe(f"{unused[0]} is for --explain, which is not there", "add --explain INPUT, or leave it out")
    unread = [name for name, value in of_data.items() if value is not None and explain is None and not sensitivity]
    if unread:
        raise BadRecipe(
            f"{unread[0]} is for --explain and --sensitivity, which are not there", "add one of them, or leave it out"
        )
    questions = [
        name
        for name, given in (("--target", target), ("--explain", explain), ("--sensitivity", sensitivity or None))
        if given is not None
    ]
    if len(questions) > 1:
        raise BadRecipe(f"{questions[0]} and {questions[1]} answer different questions", "ask one after the other")
    if sensitivity and data is None:
        raise BadRecipe("--sensitivity needs data", "add --data FOLDER, .npz, .csv, task.py or a built-in task")
    found: Inspection | Explanation | Checkup | SensitivityReport
    with progress_display() as progress:
        if explain is not None:
            from edgetool.explain import Question, explain_model
            from edgetool.recipe import TaskSource

            source = None if data is None else TaskSource(data, None, target_column, pixels)
            question = Question(
                explain, source, pixels, input_name, output_name, class_name, kind, baseline, example, budget
            )
            found = explain_model(model, question, out=out, trust=trust, progress=progress)
        elif sensitivity and data is not None:
            from edgetool.inspection import inspect_sensitivity
            from edgetool.recipe import TaskSource

            found = inspect_sensitivity(model, TaskSource(data, None, target_column, pixels), trust, progress)
        elif target is not None:
            from edgetool.doctor.examine import examine

            found = examine(model, target, trust=trust, progress=progress)
        else:
            from edgetool.inspection import inspect_model

            found = inspect_model(model, trust, progress)
    typer.echo(found.as_json() if as_json else found.as_text())
