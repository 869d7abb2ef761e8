"""`edgetool compress`: the main job."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from edgetool.deploy.race import DeviceRace
    from edgetool.deploy.transport import Login


def compress(
    model: Annotated[Path, typer.Argument(metavar="MODEL|RECIPE.toml", help="A model, or a recipe that names one.")],
    data: Annotated[
        str | None, typer.Option(help="A folder of classes, .npz, .csv, task.py (runs its code) or a built-in task.")
    ] = None,
    target: Annotated[str | None, typer.Option(help="The device: see `edgetool targets`.")] = None,
    max_drop: Annotated[
        str | None, typer.Option(help="What the metric may lose: 1pp, 2%, 0.5dB. [default: 1pp]")
    ] = None,
    max_size: Annotated[str | None, typer.Option(help="The model file at most: 300kB.")] = None,
    max_p95: Annotated[str | None, typer.Option(help="The 95th percentile of latency at most: 20ms.")] = None,
    max_rss: Annotated[str | None, typer.Option(help="Peak memory of the process at most: 64MB.")] = None,
    metric: Annotated[str | None, typer.Option(help="The metric. [default: accuracy, or mae for real targets]")] = None,
    target_column: Annotated[str | None, typer.Option(help="The column of a .csv that is predicted.")] = None,
    pixels: Annotated[
        str | None, typer.Option(help="What the model expects: 0..1, -1..1 or 0..255. [default: 0..1]")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="The output folder. [default: out/NAME]")] = None,
    seed: Annotated[int | None, typer.Option(help="Of splits, calibration and training. [default: 0]")] = None,
    time_budget: Annotated[
        str | None, typer.Option(help="Search passes and settings for that long: 10m. [default: the usual ones]")
    ] = None,
    trials: Annotated[
        int | None, typer.Option(min=1, help="Search with at most that many trials. [default: 24, or by the time]")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, max=64, help="Trials side by side. [default: 1; what a cluster holds]")
    ] = None,
    storage: Annotated[
        str | None, typer.Option(help="A database for the trials: postgresql+psycopg://… [default: a file in --out]")
    ] = None,
    store: Annotated[
        str | None, typer.Option(help="Results shared between searches: a folder or s3://… [default: in --out]")
    ] = None,
    cluster: Annotated[
        str | None, typer.Option(help="Run trials on a Ray cluster: HOST:PORT, ray://HOST:PORT or auto; needs --store.")
    ] = None,
    per_trial: Annotated[
        str, typer.Option(help="What a trial takes of a cluster's node: cores=2,gpus=1,NAME=1.")
    ] = "cores=1",
    device: Annotated[
        str | None, typer.Option(metavar="ssh://...", help="Time the candidates on this device, not here.")
    ] = None,
    identity: Annotated[Path | None, typer.Option(help="The private key to log in to --device with.")] = None,
    known_hosts: Annotated[Path | None, typer.Option(help="The host keys that --device is checked by.")] = None,
    wheels: Annotated[Path | None, typer.Option(help="A folder of wheels for --device to take from too.")] = None,
    latency_model: Annotated[
        Path | None, typer.Option(help="Estimate the trials' times by this file of `edgetool latency fit`.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the finished work in the output folder.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check everything, say what would be done, do nothing.")
    ] = False,
    trust: Annotated[
        bool, typer.Option("--trust", help="Allow code inside the model (Lambda layers, pickles).")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print report.json instead of the table.")] = False,
) -> None:
    """Make a model small and fast, prove what it lost, and bundle the winner.

    Exit code 0: shipped, every limit met. 1: a limit or a check failed. 2: bad input. 3: the environment failed.

    \b
    Examples:
      edgetool compress recipes/fashion_mnist.toml
      edgetool compress model.keras --data photos/ --max-drop 1pp --max-size 300kB
      edgetool compress model.onnx --data test.npz --target raspberrypi5 --out out/pi
      edgetool compress model.keras --data photos/ --max-drop 1pp --max-p95 5ms --time-budget 30m --workers 2
      edgetool compress model.keras --data photos/ --target raspberrypi5 --device ssh://pi@raspberrypi.local
    """
    from edge.errors import BadRecipe
    from edgetool.cli.progress import progress_display
    from edgetool.deploy.transport import Login
    from edgetool.pipeline import plan, run
    from edgetool.recipe import recipe_from_options
    from edgetool.render.table import print_report
    from edgetool.search.cluster import parse_needs
    from edgetool.search.start import Machines

    if dry_run and as_json:
        raise BadRecipe("--dry-run prints a plan for people", "leave out --json")
    there = None if device is None else _race_there(device, target, Login(identity, known_hosts), wheels)
    if there is not None and target is None and model.suffix != ".toml":
        target = f"generic-{there.facts.machine}"
    recipe = recipe_from_options(
        model,
        data=data,
        target_name=target,
        limits={"max_drop": max_drop, "max_size": max_size, "max_p95": max_p95, "max_rss": max_rss},
        metric=metric,
        target_column=target_column,
        pixels=pixels,
        seed=seed,
        trust=trust,
        trials=trials,
        time_budget=time_budget,
        latency_model=latency_model,
    )
    machines = Machines(workers, storage, store, cluster, parse_needs(per_trial))
    folder = out if out is not None else Path("out") / model.stem
    with progress_display() as progress:
        if dry_run:
            typer.echo(plan(recipe, folder, progress))
            return
        finished = run(recipe, folder, resume=resume, progress=progress, machines=machines, device=there)
    if as_json:
        from edge.report import to_json

        typer.echo(to_json(finished.report), nl=False)
    else:
        print_report(finished.report, folder)
    if finished.failure is not None:
        raise finished.failure


def _race_there(device: str, target: str | None, login: "Login", wheels: Path | None) -> "DeviceRace":
    """The device is looked at before anything is done: what does not fit is refused at once."""
    import asyncio

    from edge.target import target as target_named
    from edgetool.deploy.race import DeviceRace, seen
    from edgetool.deploy.transport import parse_address

    address = parse_address(device)
    arch = None if target is None else target_named(target).arch
    return DeviceRace(address, login, asyncio.run(seen(address, login, arch)), wheels)
