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
    """
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
