"""`edgetool passes`, `targets` and `delegates`: what there is."""

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
    """List the device profiles: processor, memory, engines, delegates, system, Python, wheels, power modes, probes.

    What cannot be deployed to is listed as unsupported, with the reason.

    \b
    Example:
      edgetool targets
    """
    from edge.target import REFUSED, TARGETS

    if as_json:
        rows = [{**dataclasses.asdict(target), "unsupported": target.unsupported} for target in TARGETS.values()]
        rows += [{"name": name, "unsupported": reason} for name, (reason, _) in REFUSED.items()]
        typer.echo(json.dumps(rows, indent=2))
        return
    for target in TARGETS.values():
        memory = "memory not stated" if target.memory_bytes is None else f"{target.memory_bytes / 1e9:g} GB"
        cores = "" if target.cores is None else f"{target.cores} cores, "
        typer.echo(f"{target.name:<22}{target.arch}, {cores}{memory}, {' and '.join(target.engines)}")
        typer.echo(f"{'':<22}runs on {', '.join(target.delegates)}")
        if target.system is not None:
            python = ".".join(map(str, target.system.python))
            typer.echo(f"{'':<22}{target.system.name}, Python {python}, wheels from {target.system.wheels}")
        for what, named in (("power modes", target.power_modes), ("reads", target.probes)):
            if named:
                typer.echo(f"{'':<22}{what}: {', '.join(named)}")
        if target.unsupported is not None:
            typer.echo(f"{'':<22}unsupported: {target.unsupported}")
    for name, (reason, instead) in REFUSED.items():
        typer.echo(f"{name:<22}unsupported: {reason}; use {instead}")


def delegates(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    limit: Annotated[float, typer.Option(min=1, help="Seconds that one delegate may take.")] = 120.0,
) -> None:
    """List what may run a model, and what of it really works on this machine.

    Each delegate runs a small network in a process of its own: "native" is the real unit, "emulated" is software that
    stands for it, "estimated" is a compiler's word, and "unavailable" has the reason and what to do.

    \b
    Examples:
      edgetool delegates
      edgetool delegates --json
    """
    from edge.delegates import DELEGATES
    from edge.proof import Proof, prove_all
    from edgetool.cli.progress import progress_display

    with progress_display() as progress:
        progress.stage("proving")
        known: list[Proof] = []

        def done(proof: Proof) -> None:
            known.append(proof)
            progress.at(len(known) / len(DELEGATES), f"{proof.name}: {proof.status}")

        proofs = prove_all(limit_s=limit, done=done)
    if as_json:
        typer.echo(json.dumps([dataclasses.asdict(proof) for proof in proofs], indent=2))
        return
    for proof in proofs:
        typer.echo(f"{proof.name:<14}{proof.status:<13}{proof.engine:<17}{DELEGATES[proof.name].does}")
        for said in (proof.proof, proof.reason):
            if said:
                typer.echo(f"{'':<14}{said}")
