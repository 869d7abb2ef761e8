"""The main job on real data: `edgetool compress recipes/fashion_mnist.toml`, its figures against their goals.

    python -m benchmarks.main_job [--out DIR]     a few minutes on 2 cores; writes results/main_job.json

Sizes are ratios of bytes of files, times are ratios from the interleaved race of the same run.
"""

import argparse
import tempfile
from pathlib import Path

from benchmarks.figures import Figure, write
from edge.report import Candidate
from edgetool.choose import deciding
from edgetool.cli.progress import progress_display
from edgetool.pipeline import run
from edgetool.recipe import read_recipe

RECIPE = Path(__file__).parent.parent / "recipes" / "fashion_mnist.toml"


def figures(out: Path) -> list[Figure]:
    """Run the recipe into `out` and hold what it reports against the goals.

    Raises RuntimeError: nothing shipped, so there is nothing to compare.
    """
    with progress_display() as progress:
        finished = run(read_recipe(RECIPE), out, resume=False, progress=progress)
    report = finished.report
    if finished.failure is not None:
        raise RuntimeError(finished.failure.message)
    base = report.baseline
    shipped = next(row for row in (base, *report.candidates) if row.id == report.chosen)
    speed = deciding(shipped)
    assert base.accuracy is not None
    assert base.params is not None
    accuracy, size = base.accuracy, base.size_bytes
    found = [
        _at_least("baseline.accuracy", 92.0, 100 * accuracy.value, "%", tuple(100 * b for b in accuracy.ci95)),
        Figure("baseline.parameters", "<= 120000", base.params, "", None, base.params <= 120_000),
        _drop("shipped.drop_upper95", shipped),
        _at_least("shipped.size_ratio", 2.9, size / shipped.size_bytes, "x"),
        _at_least("shipped.gzip_ratio", 6.0, size / shipped.gzip_bytes, "x"),
    ]
    if speed is None or speed.ratio is None or speed.ratio_ci95 is None:
        return [*found, Figure("shipped.speed_up", ">= 1.3", None, "x", None, False)]
    low, high = (1 / bound for bound in reversed(speed.ratio_ci95))
    return [*found, _at_least("shipped.speed_up", 1.3, 1 / speed.ratio, "x", (low, high))]


def _at_least(name: str, goal: float, value: float, unit: str, ci95: tuple[float, ...] | None = None) -> Figure:
    interval = None if ci95 is None else (ci95[0], ci95[1])
    return Figure(name, f">= {goal:g}", value, unit, interval, value >= goal)


def _drop(name: str, row: Candidate) -> Figure:
    if row.drop is None:
        return Figure(name, "<= 1", 0.0, "points", None, True)
    return Figure(name, "<= 1", row.drop.upper95, "points", row.drop.ci95, row.drop.upper95 <= 1.0)


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, help="keep the run here (default: a temporary folder)")
    out = parser.parse_args().out
    with tempfile.TemporaryDirectory() as scratch:
        write("main_job", "python -m benchmarks.main_job", figures(out or Path(scratch) / "out"))


if __name__ == "__main__":
    main()
