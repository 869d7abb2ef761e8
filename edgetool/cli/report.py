"""`edgetool report`: one self-contained page from a report.json."""

from pathlib import Path
from typing import Annotated

import typer


def report(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The folder of a run: it holds report.json.")],
) -> None:
    """Write report.html anew from the report.json of a run. It works offline.

    \b
    Example:
      edgetool report out/fashion_mnist
    """
    from edgetool.render.page import read_report, write_page

    typer.echo(write_page(read_report(folder), folder))
