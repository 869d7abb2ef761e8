"""`edgetool models`: weights that others published, by pinned hash."""

import json
from pathlib import Path
from typing import Annotated

import typer

models = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="Bring weights that others published, by pinned hash."
)


@models.command("list")
def list_models(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """List the models: what each is for, its licence and origin, and whether it is here.

    \b
    Example:
      edgetool models list
    """
    import dataclasses

    from edgetool.weights import KNOWN, Package, kept

    here = {name: kept(one.file) for name, one in KNOWN.items()}
    if as_json:
        rows = [
            {**dataclasses.asdict(one), "here": str(here[name]) if here[name] else None} for name, one in KNOWN.items()
        ]
        typer.echo(json.dumps(rows, indent=2))
        return
    for name, one in KNOWN.items():
        source = one.source
        place = f"npm {source.name} {source.version}" if isinstance(source, Package) else source
        typer.echo(f"{name:<15}{one.does}; {one.size_bytes / 1e6:.1f} MB, sha256 {one.sha256[:12]}")
        for what, said in (("licence", one.licence), ("origin", one.origin), ("from", place)):
            typer.echo(f"{'':<15}{what}: {said}")
        typer.echo(f"{'':<15}{here[name] or 'not here: edgetool models get ' + name}")


@models.command("get")
def get_model(
    names: Annotated[list[str], typer.Argument(metavar="NAME...", help="Which: see `edgetool models list`.")],
    given: Annotated[
        Path | None, typer.Option("--from", metavar="FILE", help="Take this file, if it is the one.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Where to put them. [default: the cache, where recipes look]")
    ] = None,
) -> None:
    """Bring models from this machine, a package or their public address; another hash is refused.

    \b
    Examples:
      edgetool models get yunet mobilefacenet minifas
      edgetool models get minifas --from downloads/best_model.onnx
    """
    from edge.errors import BadRecipe
    from edgetool.cli.progress import progress_display
    from edgetool.weights import get, known, weights_folder

    wanted = [known(name) for name in names]
    if given is not None and len(wanted) != 1:
        raise BadRecipe(f"--from FILE is for one model, and these are {len(wanted)}")
    for one in wanted:
        with progress_display() as progress:
            progress.begin([one.name])
            progress.stage(one.name)
            path = get(one, out or weights_folder(), given, lambda done, one=one: progress.at(done, one.name))  # type: ignore[misc]  # mypy cannot type a default of a lambda
        typer.echo(path)
        typer.echo(f"{one.name}: licence: {one.licence}; origin: {one.origin}", err=True)
