"""`edgetool export`: a bundle in the form that another updater takes."""

from pathlib import Path
from typing import Annotated

import typer

from edge.errors import BadRecipe


def export(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="The bundle, *.edge.")],
    compatible: Annotated[str, typer.Option(help="The device's `compatible`, as its system.conf has it.")],
    certificate: Annotated[Path, typer.Option(metavar="PEM", help="What RAUC signs with.")],
    key: Annotated[Path, typer.Option(metavar="PEM", help="The certificate's private key.")],
    to: Annotated[str, typer.Option(metavar="FORMAT", help="rauc.")] = "rauc",
    version: Annotated[str, typer.Option(help="What `rauc status` shows of it.")] = "1",
    intermediate: Annotated[Path | None, typer.Option(metavar="PEM", help="Certificates up to the root.")] = None,
    keyring: Annotated[Path | None, typer.Option(metavar="PEM", help="The root: the result is checked by it.")] = None,
    slot: Annotated[str, typer.Option(metavar="CLASS", help="The slot class that the image is for.")] = "appfs",
    layout: Annotated[str, typer.Option(metavar="verity|plain", help="RAUC's bundle format.")] = "verity",
    python: Annotated[str, typer.Option(metavar="3.N", help="The device's Python.")] = "3.11",
    glibc: Annotated[str, typer.Option(metavar="2.N", help="The device's C library.")] = "2.36",
    wheels: Annotated[Path | None, typer.Option(help="A folder of wheels to take from too.")] = None,
    offline: Annotated[bool, typer.Option("--offline", help="Take wheels only from --wheels and the cache.")] = False,
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="[default: beside the bundle]")] = None,
) -> None:
    """Write a bundle as a signed RAUC artifact: the release with its packages, as the image of a slot.

    \b
    Example:
      edgetool export model.edge --compatible shop-pi4 --certificate cert.pem --key key.pem --keyring ca.pem
    """
    from edgetool.cli.progress import progress_display
    from edgetool.fleet.rauc import Signing
    from edgetool.fleet.rauc import export as write

    if to != "rauc":
        raise BadRecipe(f"cannot export to {to!r}", "rauc is the one format; docs/fleet.md says how to use Mender")
    numbers = []
    for word, first in ((python, "3"), (glibc, "2")):
        major, _, minor = word.partition(".")
        if major != first or not minor.isdecimal():
            raise BadRecipe(
                f"cannot read the version {word!r}", f"for example {first}.{'11' if first == '3' else '36'}"
            )
        numbers.append(int(minor))
    with progress_display() as progress:
        done = write(
            bundle,
            out if out is not None else bundle.with_suffix(".raucb"),
            Signing(certificate, key, intermediate, keyring),
            progress,
            compatible=compatible,
            version=version,
            python=(3, numbers[0]),
            glibc=numbers[1],
            slot=slot,
            layout=layout,
            wheels=wheels,
            offline=offline,
        )
    if done.description is not None:
        typer.echo(done.description.rstrip())
    typer.echo(f"{done.path}: release {done.release}, {done.size_bytes} bytes, for {done.compatible}")
