"""`edgetool passes` and `edgetool targets`: what there is."""

import dataclasses
import json
from typing import Annotated

import typer


def passes(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """List the passes: what each does, the formats it takes, its settings.

    \b
    Example:
      edgetool passes --json
    """
    from edgetool.passes import PASSES

    settings = {name: {f.name: f.default for f in dataclasses.fields(kind)} for name, kind in PASSES.items()}
    does = {name: (kind.__doc__ or "").split("\n")[0] for name, kind in PASSES.items()}
    if as_json:
        rows = [
            {"name": name, "accepts": sorted(kind.accepts), "settings": settings[name], "does": does[name]}
            for name, kind in PASSES.items()
        ]
        typer.echo(json.dumps(rows, indent=2))
        return
    for name, kind in PASSES.items():
        said = ", ".join(f"{key}={value}" for key, value in settings[name].items())
        typer.echo(f"{name:<20}{does[name]}")
        typer.echo(f"{'':<20}takes {', '.join(sorted(kind.accepts))}" + (f"; settings {said}" if said else ""))


def targets(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """List the device profiles.

    \b
    Example:
      edgetool targets
    """
    from edge.target import TARGETS

    if as_json:
        typer.echo(json.dumps([dataclasses.asdict(target) for target in TARGETS.values()], indent=2))
        return
    for target in TARGETS.values():
        memory = "memory not stated" if target.memory_bytes is None else f"{target.memory_bytes / 1e9:g} GB"
        cores = "" if target.cores is None else f"{target.cores} cores, "
        typer.echo(f"{target.name:<20}{target.arch}, {cores}{memory}, {' and '.join(target.engines)}")
