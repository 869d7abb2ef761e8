"""`edgetool fleet`: many devices at once (docs/fleet.md)."""

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edge.errors import BadRecipe, CheckFailed, EnvironmentFailed
from edge.report import to_json
from edgetool.cli.deploy import AsJson, MaxMs, Seconds

if TYPE_CHECKING:
    from edgetool.fleet.deploy import Preview, Waves
    from edgetool.fleet.inventory import Fleet
    from edgetool.fleet.rollout import Rollout

fleet = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Many devices: status, canary waves, a report.")

FleetFile = Annotated[Path, typer.Argument(metavar="FLEET", help="fleet.toml: the devices by class.")]
Classes = Annotated[
    list[str] | None, typer.Option("--class", metavar="NAME", help="Only these classes (may be given again).")
]

Keys = Annotated[
    list[Path] | None,
    typer.Option("--key", metavar="PEM", help="Take it only from this key or certificate (not the trusted ones)."),
]
Unsigned = Annotated[bool, typer.Option("--unsigned", help="Take it whoever made it, though keys are trusted here.")]


@fleet.command("status")
def status(file: FleetFile, classes: Classes = None, as_json: AsJson = False) -> None:
    """Say what each device runs and whether its service is healthy. Nothing is changed.

    \b
    Example:
      edgetool fleet status fleet.toml
    """
    from edgetool.cli.fleet_display import fleet_display
    from edgetool.fleet.inventory import read_fleet
    from edgetool.fleet.status import look

    devices = read_fleet(file).only(classes or [])
    with fleet_display() as watcher:
        found = asyncio.run(look(devices, watcher))
    typer.echo(to_json(found).rstrip() if as_json else found.as_text())
    lost = [one for one in found.devices if not one.reached]
    ill = [one for one in found.devices if one.reached and one.problem is not None]
    if ill:
        raise CheckFailed(f"{len(ill)} of {len(found.devices)} devices are not healthy: {ill[0].name}")
    if lost:
        raise EnvironmentFailed(f"{len(lost)} of {len(found.devices)} devices do not answer: {lost[0].name}")


@fleet.command("deploy")
def deploy(
    file: FleetFile,
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="The bundle, *.edge.")],
    classes: Classes = None,
    waves: Annotated[
        str, typer.Option(metavar="N,N%,all", help="Devices that are updated after each wave, in all.")
    ] = "1,10%,all",
    parallel: Annotated[int, typer.Option(min=1, help="How many devices are updated at a time.")] = 8,
    max_failed: Annotated[int, typer.Option(min=0, help="How many devices may fail before all halts.")] = 0,
    soak: Annotated[float, typer.Option(min=0, help="Seconds that a wave runs before its health is looked at.")] = 10.0,
    wheels: Annotated[Path | None, typer.Option(help="A folder of wheels to take from too.")] = None,
    offline: Annotated[bool, typer.Option("--offline", help="Take wheels only from --wheels and the cache.")] = False,
    health_limit: Seconds = 120.0,
    max_ms: MaxMs = None,
    key: Keys = None,
    unsigned: Unsigned = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a rollout that halted or was cut off.")] = False,
    anew: Annotated[bool, typer.Option("--anew", help="Forget such a rollout and begin another.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done; change nothing.")] = False,
    as_json: AsJson = False,
) -> None:
    """Update a fleet in canary waves, and halt where a device fails.

    All devices are asked first; where the bundle does not fit one, nothing is changed anywhere. Each device proves the
    release as `edgetool deploy` does, and goes back by itself where it is not healthy. After each wave its devices
    are looked at again. The state of the rollout is kept: Ctrl-C loses nothing, --resume goes on.

    \b
    Examples:
      edgetool fleet deploy fleet.toml model.edge --dry-run
      edgetool fleet deploy fleet.toml model.edge --waves 1,5,25%,all --soak 300
      edgetool fleet deploy fleet.toml model.edge --resume
    """
    from edgetool.cli.fleet_display import fleet_display
    from edgetool.deploy.install import Settings
    from edgetool.deploy.trust import user_trust
    from edgetool.fleet.deploy import Waves, prepare
    from edgetool.fleet.inventory import read_fleet

    devices = read_fleet(file).only(classes or [])
    how = Waves(waves, parallel, max_failed, soak)
    if unsigned and key:
        raise BadRecipe("--unsigned and --key contradict each other", "give one of them")
    settings = Settings(health_limit, max_ms, wheels, offline, trust=user_trust(tuple(key or ()), unsigned=unsigned))
    if unsigned:
        typer.echo("warning: --unsigned: nobody vouches for this bundle", err=True)
    before = _unfinished(devices, resume=resume, anew=anew or dry_run)

    async def work() -> "Rollout | Preview":
        from edgetool.fleet.deploy import go_on, roll_out

        with fleet_display() as watcher:
            preview = await prepare(bundle, devices, how, settings, watcher)
            begun = preview.rollout if before is None else go_on(preview, before)
            return preview if dry_run else await roll_out(begun, devices, how, settings, watcher)

    _report(asyncio.run(work()), how, as_json=as_json)


def _unfinished(devices: "Fleet", *, resume: bool, anew: bool) -> "Rollout | None":
    """The rollout to go on with, None where a new one begins."""
    from edgetool.fleet.inventory import state_folder
    from edgetool.fleet.rollout import read

    before = None if anew else read(state_folder(devices))
    if before is None or before.status == "complete":
        return None
    if not resume:
        raise CheckFailed(
            f"the rollout of {before.bundle_name} to {before.fleet} is {before.status}",
            "--resume goes on with it, --anew forgets it (devices keep what they run)",
        )
    return before


def _report(done: "Rollout | Preview", how: "Waves", *, as_json: bool) -> None:
    from edgetool.fleet.deploy import Preview
    from edgetool.fleet.words import preview_words, summary

    if isinstance(done, Preview):
        typer.echo(to_json(done).rstrip() if as_json else preview_words(done, how))
        return
    typer.echo(to_json(done).rstrip() if as_json else summary(done))
    failed, unreached = done.having("failed"), done.having("unreached")
    if failed:
        raise CheckFailed(
            f"{len(failed)} of {len(done.devices)} devices failed: {failed[0].name}: {failed[0].reason}",
            "mend it, then --resume" if done.status == "halted" else None,
        )
    if unreached:
        raise EnvironmentFailed(
            f"{len(unreached)} of {len(done.devices)} devices were not reached: {unreached[0].name}",
            "run the same command again when they are: the others are left alone",
        )


@fleet.command("bench")
def bench(
    file: FleetFile,
    classes: Classes = None,
    seconds: Annotated[float, typer.Option(min=0.1, help="How long each device measures.")] = 10.0,
    as_json: AsJson = False,
) -> None:
    """Let each device time the release that it runs, and keep what comes back for `report`.

    \b
    Example:
      edgetool fleet bench fleet.toml --seconds 20
    """
    from edgetool.cli.fleet_display import fleet_display
    from edgetool.fleet.benches import measure
    from edgetool.fleet.inventory import read_fleet

    devices = read_fleet(file).only(classes or [])
    with fleet_display() as watcher:
        found = asyncio.run(measure(devices, seconds, watcher))
    typer.echo(to_json(found).rstrip() if as_json else found.as_text())
    if found.failed:
        name, reason = next(iter(found.failed.items()))
        raise EnvironmentFailed(f"{len(found.failed)} devices did not measure: {name}: {reason}")


@fleet.command("report")
def report(
    file: FleetFile,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where fleet.json and fleet.html go.")] = Path("out/fleet"),
    before: Annotated[
        str | None, typer.Option(metavar="BUNDLE", help="The release to compare with: name or start of its sha256.")
    ] = None,
    after: Annotated[str | None, typer.Option(metavar="BUNDLE", help="The release to judge. [default: newest]")] = None,
    as_json: AsJson = False,
) -> None:
    """Write which device runs what, and what a release did to the times of each device class.

    Compares the benchmarks of two releases on the same devices, class by class, with intervals that hold together.

    \b
    Example:
      edgetool fleet report fleet.toml --out out/fleet
    """
    from edgetool.cli.fleet_display import fleet_display
    from edgetool.fleet.inventory import read_fleet
    from edgetool.fleet.report import make
    from edgetool.fleet.status import look
    from edgetool.render.fleet_page import write_fleet

    devices = read_fleet(file)
    with fleet_display() as watcher:
        now = asyncio.run(look(devices, watcher))
    found = make(devices, now, before=before, after=after)
    write_fleet(found, out)
    typer.echo(to_json(found).rstrip() if as_json else found.as_text())
    typer.echo(f"written: {out / 'fleet.html'}", err=True)
    if found.regressions:
        raise CheckFailed(
            f"{found.after} is a regression: {found.regressions[0].as_text()}", f"see {out / 'fleet.html'}"
        )
