"""`edgetool channel`: a signed release channel that devices update from (docs/trust.md)."""

from pathlib import Path
from typing import Annotated

import typer

channel = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="A signed release channel for devices (TUF).")

Folder = Annotated[Path, typer.Argument(metavar="CHANNEL", help="The channel's folder; any web server can serve it.")]
Keys = Annotated[
    list[Path],
    typer.Option(
        "--keys", metavar="DIR", help="A folder of keys; the first one has root.json too (may be given again)."
    ),
]


@channel.command("init")
def init(
    folder: Folder,
    keys: Annotated[Path, typer.Option(metavar="DIR", help="Where the new keys go: keep it off the web server.")],
    root: Annotated[str, typer.Option(metavar="M/N", help="How many of how many keys change keys.")] = "2/3",
    targets: Annotated[str, typer.Option(metavar="M/N", help="How many of how many keys publish a bundle.")] = "1/1",
) -> None:
    """Begin a channel: its keys, its first root metadata (DIR/root.json, for devices), no bundle yet.

    \b
    Examples:
      edgetool channel init channel/ --keys keys/ --targets 2/3
    """
    from edgetool.channel.repository import begin, quorum

    begin(folder, keys, quorum(root), quorum(targets))
    typer.echo(f"{folder}: ready to publish; devices begin with {keys / 'root.json'}")


@channel.command("publish")
def publish(
    folder: Folder,
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="A bundle (*.edge).")],
    keys: Keys,
    name: Annotated[str | None, typer.Option(help="What devices ask for. [default: from the bundle]")] = None,
    device_class: Annotated[
        str | None, typer.Option(metavar="NAME", help="The devices it is for. [default: the bundle's target]")
    ] = None,
) -> None:
    """Offer a bundle as the newest release of its name for its kind of device.

    \b
    Examples:
      edgetool channel publish channel/ out/door.edge --keys keys/
    """
    from edgetool.channel.repository import publish as publish_bundle

    done = publish_bundle(folder, bundle, keys, name=name, device_class=device_class)
    typer.echo(f"{done.path}: release {done.release}, sha256 {done.sha256}")


@channel.command("refresh")
def refresh(folder: Folder, keys: Keys) -> None:
    """Sign the timestamp anew (it expires after 7 days), and what else is in the second half of its time.

    \b
    Examples:
      edgetool channel refresh channel/ --keys keys/     once a day, from cron or CI
    """
    from edgetool.channel.repository import refresh as sign_anew

    done = sign_anew(folder, keys)
    typer.echo(f"{folder}: signed anew: {', '.join(done.signed)}")
    for role, expires in done.waiting:
        typer.echo(f"{role} expires on {expires:%Y-%m-%d}, and its keys are not here", err=True)


@channel.command("rotate")
def rotate(
    folder: Folder,
    role: Annotated[str, typer.Argument(metavar="ROLE", help="root, targets, snapshot or timestamp.")],
    keys: Keys,
    revoke: Annotated[
        str | None, typer.Option(metavar="ID", help="The beginning of the id of the one key to replace. [default: all]")
    ] = None,
) -> None:
    """Replace a role's keys: what the old ones sign counts no more on a device that has looked once.

    \b
    Examples:
      edgetool channel rotate channel/ targets --keys keys/ --revoke 3f9c
    """
    from edgetool.channel.repository import rotate as change_keys

    for keyid in change_keys(folder, role, keys, revoke):
        typer.echo(f"{role}: {keyid} counts no more")


@channel.command("show")
def show(folder: Folder, keys: Keys) -> None:
    """The roles, their keys and when they expire, and what is on offer; every signature is checked.

    \b
    Examples:
      edgetool channel show channel/ --keys keys/
    """
    from edgetool.channel.repository import describe

    for row in describe(folder, keys):
        typer.echo("\t".join(row))
