"""`edgetool deploy`, `rollback`, `devices`, `doctor`: bundles on devices."""

import asyncio
import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

from edge.errors import BadRecipe, CheckFailed, EnvironmentFailed

DeviceArgument = Annotated[str, typer.Argument(metavar="DEVICE", help="ssh://USER@HOST[:PORT][/FOLDER].")]
Identity = Annotated[Path | None, typer.Option(help="The private key to log in with (the agent's, the usual ones).")]
KnownHosts = Annotated[Path | None, typer.Option(help="The host keys that are trusted (~/.ssh/known_hosts).")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Seconds = Annotated[float, typer.Option(min=1, help="Seconds in which the service has to be healthy.")]
MaxMs = Annotated[float | None, typer.Option(min=0, help="Go back where its answer takes longer (milliseconds).")]


def deploy(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="The bundle, *.edge.")],
    device: DeviceArgument,
    identity: Identity = None,
    known_hosts: KnownHosts = None,
    wheels: Annotated[Path | None, typer.Option(help="A folder of wheels to take from too.")] = None,
    offline: Annotated[bool, typer.Option("--offline", help="Take wheels only from --wheels and the cache.")] = False,
    health_limit: Seconds = 120.0,
    max_ms: MaxMs = None,
    key: Annotated[
        list[Path] | None,
        typer.Option(metavar="PEM", help="Take it only from this key or certificate (instead of the trusted ones)."),
    ] = None,
    unsigned: Annotated[
        bool, typer.Option("--unsigned", help="Take it whoever made it, though keys are trusted here.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done; change nothing.")] = False,
    as_json: AsJson = False,
) -> None:
    """Bring a bundle to a device, prove it there, and confirm it or go back.

    The device's Python runs a probe; what does not fit is refused before anything is changed. Only what the device
    lacks is sent. The golden vectors are replayed there before the new release is switched to, and its service has to
    be healthy afterwards: else the release before runs again. Nothing stays of a deploy that was cut. Where keys are
    trusted (`edgetool keys trust`), one of them has to have signed the bundle: that is checked here, and on the device
    before it is parsed.

    \b
    Examples:
      edgetool deploy model.edge ssh://pi@raspberrypi.local --dry-run
      edgetool deploy model.edge ssh://pi@raspberrypi.local
      edgetool deploy model.edge ssh://pi@10.0.0.7:2222 --identity key --known-hosts hosts
    """
    from edgetool.cli.progress import progress_display
    from edgetool.deploy.install import Settings
    from edgetool.deploy.install import deploy as bring
    from edgetool.deploy.transport import Login, parse_address
    from edgetool.deploy.trust import user_trust

    if unsigned and key:
        raise BadRecipe("--unsigned and --key contradict each other", "give one of them")
    address = parse_address(device)
    trust = user_trust(tuple(key or ()), unsigned=unsigned)
    settings = Settings(health_limit, max_ms, wheels, offline, dry_run, trust)
    if unsigned:
        typer.echo("warning: --unsigned: nobody vouches for this bundle", err=True)
    with progress_display() as progress:
        done = asyncio.run(bring(bundle, address, Login(identity, known_hosts), settings, progress))
    typer.echo(done.as_json() if as_json else done.as_text())


def rollback(
    device: DeviceArgument,
    identity: Identity = None,
    known_hosts: KnownHosts = None,
    health_limit: Seconds = 120.0,
    max_ms: MaxMs = None,
) -> None:
    """Let a device run the release before, after the same proof as a deploy.

    \b
    Example:
      edgetool rollback ssh://pi@raspberrypi.local
    """
    from edgetool.cli.progress import progress_display
    from edgetool.deploy.install import Settings
    from edgetool.deploy.install import rollback as bring_back
    from edgetool.deploy.transport import Login, parse_address

    address = parse_address(device)
    with progress_display() as progress:
        login = Login(identity, known_hosts)
        name = asyncio.run(bring_back(address, login, Settings(health_limit, max_ms), progress))
    typer.echo(f"release {name} is confirmed on {address}")


def devices(as_json: AsJson = False) -> None:
    """List the devices that were deployed to from here, and what runs on each.

    \b
    Example:
      edgetool devices
    """
    from edgetool.deploy.inventory import entries, inventory_file

    known = entries(inventory_file())
    if as_json:
        typer.echo(json.dumps([dataclasses.asdict(entry) for entry in known], indent=2))
        return
    if not known:
        typer.echo("no device was deployed to from here")
    for entry in known:
        typer.echo(f"{entry.device:<32}{entry.bundle:<20}{entry.release}  {entry.when}  {entry.description}")


def doctor(
    device: Annotated[str | None, typer.Argument(metavar="DEVICE", help="ssh://...; this machine without it.")] = None,
    identity: Identity = None,
    known_hosts: KnownHosts = None,
    as_json: AsJson = False,
) -> None:
    """Say what a device is, whether a bundle can be deployed to it, and what is odd about it. Nothing is changed.

    \b
    Examples:
      edgetool doctor
      edgetool doctor ssh://pi@raspberrypi.local
    """
    from edgetool.deploy.examine import examine
    from edgetool.deploy.facts import SCRIPT, Facts, parse
    from edgetool.deploy.transport import Login, connect, parse_address

    async def ask(text: str) -> Facts:
        async with connect(parse_address(text), Login(identity, known_hosts)) as connection:
            return await connection.facts()

    if device is None:
        done = subprocess.run([sys.executable, "-I", str(SCRIPT)], capture_output=True, text=True, check=False)
        if done.returncode:
            raise EnvironmentFailed(f"the probe does not run here: {done.stderr.strip()[-200:]}")
        facts = parse(done.stdout)
    else:
        facts = asyncio.run(ask(device))
    found = examine(device or "this machine", facts)
    typer.echo(found.as_json() if as_json else found.as_text())
    if not found.fit:
        raise CheckFailed(f"{found.device} cannot be deployed to", "see the lines that begin with no")
