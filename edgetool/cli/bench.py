"""`edgetool bench`: benchmarks that can be believed."""

from pathlib import Path
from typing import Annotated

import typer


def bench(
    models: Annotated[list[Path], typer.Argument(metavar="MODEL|BUNDLE...", help=".tflite, .onnx or .edge files.")],
    delegate: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME|all", help="Run on it (again for more): see `edgetool delegates`. [default: cpu]"),
    ] = None,
    told: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Tell the delegate something.")
    ] = None,
    threads: Annotated[
        list[int] | None, typer.Option(min=1, max=256, help="Threads of the runtime (again for more). [default: 1]")
    ] = None,
    against: Annotated[
        Path | None, typer.Option(help="Compare every model with this one. [default: the first of its format]")
    ] = None,
    allow_fallback: Annotated[
        str | None, typer.Option(metavar="OP,...", help="Operations that may run elsewhere.")
    ] = None,
    seconds: Annotated[float, typer.Option(min=0.01, max=3600, help="Timed for each row, over all launches.")] = 2.0,
    single_stream: Annotated[
        bool, typer.Option("--single-stream", help="MLPerf's form too: at least 1,024 queries and 60 s, p90.")
    ] = False,
    streams: Annotated[
        list[int] | None, typer.Option(min=1, max=64, help="Engines at the same time. [default: 1 and every core]")
    ] = None,
    sustained: Annotated[
        str | None, typer.Option(metavar="5m", help="Run so long without a pause, and look for throttling.")
    ] = None,
    profile: Annotated[bool, typer.Option("--profile", help="Time by operation.")] = False,
    data: Annotated[
        str | None, typer.Option(help="Compare outputs on its test examples. [default: a bundle's golden vectors]")
    ] = None,
    time_limit: Annotated[float, typer.Option(min=1, help="Seconds a delegate has to load or to answer.")] = 120.0,
    device: Annotated[
        str | None, typer.Option(metavar="ssh://...", help="Time them there, by `python -m edge bench`.")
    ] = None,
    identity: Annotated[Path | None, typer.Option(help="The private key to log in to --device with.")] = None,
    known_hosts: Annotated[Path | None, typer.Option(help="The host keys that --device is checked by.")] = None,
    wheels: Annotated[Path | None, typer.Option(help="A folder of wheels for --device to take from too.")] = None,
    out: Annotated[Path | None, typer.Option(help="A folder for bench.json, bench.html and samples.npz.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of random inputs and of the order in the race.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print bench.json instead of the table.")] = False,
) -> None:
    """Time models on delegates side by side, and show that each delegate computes what the CPU computes.

    Every row runs in fresh processes of its own, in interleaved blocks; every figure has its 95 % interval. What is
    emulated or estimated stands apart. Exit code 0: done. 1: an operation fell back or a result is wrong. 2: bad
    input. 3: a delegate that was named is missing, crashed or hung (the CPU's rows are still there).

    \b
    Examples:
      edgetool bench model.tflite
      edgetool bench model.onnx --delegate webgpu --allow-fallback QuantizeLinear
      edgetool bench model.onnx --delegate all --out out/bench
      edgetool bench int8.tflite --against float32.tflite --threads 1 --threads 4
      edgetool bench kws.edge --single-stream --sustained 5m --profile
      edgetool bench kws.edge --device ssh://pi@raspberrypi.local
    """
    if device is not None:
        here: dict[str, object] = {
            "--against": against,
            "--data": data,
            "--streams": streams,
            "--sustained": sustained,
            "--out": out,
        }
        here |= {"--single-stream": single_stream, "--profile": profile}
        _refuse(tuple(name for name, value in here.items() if value), delegate or [], threads or [])
        words = [
            "--seconds",
            f"{seconds:g}",
            "--delegate",
            (delegate or ["cpu"])[0],
            "--threads",
            str((threads or [1])[0]),
        ]
        words += [word for one in told or [] for word in ("--set", one)]
        words += ["--allow-fallback", allow_fallback] if allow_fallback else []
        _on_device(models, device, (identity, known_hosts), words, wheels, as_json=as_json)
        return
    from edgetool.bench.extras import MIN_SECONDS, Wanted
    from edgetool.bench.run import Options
    from edgetool.bench.run import bench as run_bench
    from edgetool.cli.progress import progress_display
    from edgetool.units import parse_duration

    wanted = Wanted(
        streams=tuple(streams or _every_core()),
        profile=profile,
        single_stream_seconds=MIN_SECONDS if single_stream else 0.0,
        sustained_seconds=0.0 if sustained is None else parse_duration(sustained, "--sustained"),
        time_limit_s=time_limit,
    )
    options = Options(
        models=tuple(models),
        delegates=tuple(delegate or ()),
        settings=delegate_settings(told or []),
        threads=tuple(dict.fromkeys(threads or [1])),
        against=against,
        allow_fallback=tuple(one.strip() for one in (allow_fallback or "").split(",") if one.strip()),
        data=data,
        seconds=seconds,
        wanted=wanted,
        seed=seed,
    )
    if out is not None:
        _require_folder(out)
    with progress_display() as progress:
        finished = run_bench(options, progress)
    report = finished.report
    if finished.failure is not None and not report.rows:
        raise finished.failure
    if out is not None:
        from edgetool.render.bench_page import write_bench

        report = write_bench(report, finished.samples, out)
    if as_json:
        from edge.report import to_json

        typer.echo(to_json(report), nl=False)
    else:
        from edgetool.render.bench_table import print_bench

        print_bench(report, out)
    if finished.failure is not None:
        raise finished.failure


def _refuse(here: tuple[str, ...], delegates: list[str], threads: list[int]) -> None:
    """What `python -m edge bench` on a device does not do is refused, not forgotten."""
    from edge.errors import BadRecipe

    if here:
        raise BadRecipe(
            f"{here[0]} does not go with --device", "run it without, or log in there and use python -m edge"
        )
    if len(delegates) > 1 or "all" in delegates or len(threads) > 1:
        raise BadRecipe("--device takes one --delegate and one --threads", "run it again for the others")


def _on_device(
    models: list[Path],
    device: str,
    login: tuple[Path | None, Path | None],
    words: list[str],
    wheels: Path | None,
    *,
    as_json: bool,
) -> None:
    import asyncio

    from edgetool.cli.progress import progress_display
    from edgetool.deploy.bench import bench_on, require_valid
    from edgetool.deploy.transport import Login, parse_address

    address = parse_address(device)
    with progress_display() as progress:
        progress.begin(("timing on the device",))
        progress.stage("timing on the device")
        found = asyncio.run(bench_on(models, address, Login(*login), words, wheels, progress.at))
    typer.echo(found.as_json() if as_json else found.as_text())
    require_valid(found)


def _every_core() -> tuple[int, ...]:
    import os

    return tuple(sorted({1, len(os.sched_getaffinity(0))}))


def delegate_settings(told: list[str]) -> dict[str, str]:
    """`["fp16=true"]` -> `{"fp16": "true"}`. Raises BadRecipe: there is no = in one."""
    from edge.errors import BadRecipe

    settings = {}
    for one in told:
        key, equals, value = one.partition("=")
        if not equals or not key:
            raise BadRecipe(f"--set {one} is not KEY=VALUE", "for example --set fp16=true")
        settings[key] = value
    return settings


def _require_folder(out: Path) -> None:
    from edge.errors import BadInput
    from edgetool.workspace import require_writable

    if out.exists() and not out.is_dir():
        raise BadInput(f"the output {out} is a file", "give a folder with --out")
    require_writable(out)
