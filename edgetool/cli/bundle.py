"""`edgetool bundle`: a model as it is, with all that a device needs."""

from pathlib import Path
from typing import Annotated

import typer


def bundle(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="A .tflite or .onnx.")],
    data: Annotated[
        str, typer.Option(help="A folder of classes, .npz, .csv, task.py (runs its code) or a built-in task.")
    ],
    target: Annotated[str, typer.Option(help="The device: see edgetool targets.")] = "generic-x86_64",
    threshold: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="From which score on a label or output counts (may be given again)."),
    ] = None,
    target_column: Annotated[str | None, typer.Option(help="The column of a .csv that is predicted.")] = None,
    pixels: Annotated[
        str | None, typer.Option(help="What the model expects: 0..1, -1..1 or 0..255. [default: 0..1]")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="The file to write. [default: beside the model]")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the splits and the golden vectors.")] = 0,
) -> None:
    """Bundle a finished model with preprocessing, labels, golden vectors, thresholds and its papers.

    \b
    Examples:
      edgetool bundle model.tflite --data photos/ --target raspberrypi5
      edgetool bundle door.onnx --data door.npz --threshold known=0.62 --out door.edge
    """
    from edge.errors import BadRecipe
    from edgetool.bundling.make import make_bundle
    from edgetool.cli.progress import progress_display
    from edgetool.recipe import TaskSource

    thresholds = {}
    for text in threshold or ():
        name, _, value = text.rpartition("=")
        try:
            thresholds[name] = float(value)
        except ValueError:
            name = ""
        if not name:
            raise BadRecipe(f"--threshold {text} is not NAME=VALUE", "for example --threshold known=0.62")
    source = TaskSource(data, target_column=target_column, pixels=pixels, seed=seed)
    with progress_display() as progress:
        written = out if out is not None else model.with_suffix(".edge")
        done = make_bundle(model, source, written, target=target, thresholds=thresholds, progress=progress)
    typer.echo(done)
