"""Figures: what every benchmark program writes, and one table of all of them (`make figures`).

python -m benchmarks.figures      prints the figures of benchmarks/results/*.json, those not met first;
                                  exit 1 where one is not met
"""

import dataclasses
import datetime as dt
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge.report import Interval, from_plain, to_json

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True)
class Figure:
    """One number with its goal. A figure that has no goal says "reported" and counts as met."""

    name: str
    goal: str
    value: float | None
    unit: str
    ci95: Interval | None
    met: bool

    def __post_init__(self) -> None:
        if self.value is None and self.met:
            raise ValueError(f"figure {self.name} was not measured and cannot be met")


def write(program: str, command: str, figures: Sequence[Figure], results: Path = RESULTS) -> Path:
    """Write benchmarks/results/<program>.json (design section 8) with the machine it was measured on."""
    from edge.probe import environment

    names = [figure.name for figure in figures]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"{program} has two figures named {twice[0]}")
    content = {
        "program": f"benchmarks/{program}.py",
        "command": command,
        "date": dt.datetime.now(dt.timezone.utc).isoformat(timespec="seconds"),
        "environment": dataclasses.asdict(environment()),
        "figures": [dataclasses.asdict(figure) for figure in figures],
    }
    results.mkdir(parents=True, exist_ok=True)
    path = results / f"{program}.json"
    path.write_text(to_json(content), encoding="utf-8")
    return path


def read(results: Path = RESULTS) -> list[tuple[str, Figure]]:
    """All figures with the name of their program, those not met first, else in the order of the files."""
    found = []
    for path in sorted(results.glob("*.json")):
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        found += [(path.stem, from_plain(Figure, figure)) for figure in content["figures"]]
    return sorted(found, key=lambda entry: entry[1].met)


def table(figures: Sequence[tuple[str, Figure]]) -> str:
    """One line a figure: met or not, program, name, value with its interval, goal."""
    header = ("met", "program", "figure", "value", "95 % interval", "goal")
    rows = [header]
    for program, figure in figures:
        value = "not measured" if figure.value is None else f"{figure.value:.4g} {figure.unit}".rstrip()
        interval = "" if figure.ci95 is None else f"{figure.ci95[0]:.4g} … {figure.ci95[1]:.4g}"
        rows.append(("yes" if figure.met else "NO", program, figure.name, value, interval, figure.goal))
    widths = [max(len(row[column]) for row in rows) for column in range(len(header))]
    return "\n".join(
        "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def main(results: Path = RESULTS) -> int:
    """Print the table; 1 where a figure is not met or there is none at all."""
    figures = read(results)
    print(table(figures))
    missed = sum(not figure.met for _, figure in figures)
    print(f"\n{len(figures) - missed} of {len(figures)} figures met")
    return 1 if missed or not figures else 0


if __name__ == "__main__":
    sys.exit(main())
