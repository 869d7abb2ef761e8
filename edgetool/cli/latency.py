"""`edgetool latency`: a model of a target's times, for searches on another machine."""

from pathlib import Path
from typing import Annotated

import typer

latency = typer.Typer(no_args_is_help=True, help="A model of a target's times, for searches on another machine.")


@latency.command()
def fit(
    models: Annotated[list[Path], typer.Argument(metavar="MODEL...", help=".tflite files: five networks or more.")],
    out: Annotated[Path, typer.Option(help="The file that is written.")],
    rounds: Annotated[int, typer.Option(min=1, max=100, help="Rounds of timing; the least of them counts.")] = 4,
) -> None:
    """Time every operation of some LiteRT models on this machine, and fit a model of its times to them.

    To be run on the target. NAME.int8.tflite and NAME.float32.tflite are forms of one network. The error that is
    printed is the median over networks, each left out of the fit.

    \b
    Example:
      edgetool latency fit models/*.tflite --out pi5.json
    """
    from edgetool.cli.progress import progress_display
    from edgetool.search import latency_model
    from edgetool.search.op_times import time_models
    from edgetool.workspace import require_writable

    require_writable(out)
    latency_model.enough({path.name.split(".")[0] for path in models})
    with progress_display() as progress:
        progress.begin(["time the operations", "fit"])
        progress.stage("time the operations")
        timed = time_models([(path.stem, path.name.split(".")[0], path) for path in models], rounds, progress.at)
        progress.stage("fit")
        fitted = latency_model.fit(timed)
    latency_model.write(fitted, out)
    typer.echo(latency_model.summary(fitted))


@latency.command()
def show(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What `edgetool latency fit` wrote.")],
    model: Annotated[Path | None, typer.Argument(metavar="[MODEL]", help="A .tflite file to estimate.")] = None,
) -> None:
    """Say what a latency model was fitted on and how far it is off, or estimate a model's time on its target.

    \b
    Example:
      edgetool latency show pi5.json model.tflite
    """
    from edgetool.search import latency_model
    from edgetool.search.op_times import works

    found = latency_model.read(file)
    if model is None:
        typer.echo(latency_model.summary(found))
        return
    typer.echo(f"{found.estimator().us(works(model)) / 1e3:.3g} ms (estimated, median error {found.error:.0%})")
