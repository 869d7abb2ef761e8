"""The tables of figures in README.md and docs, made from benchmarks/results/*.json.

python -m benchmarks.pages           write them anew
python -m benchmarks.pages --check   exit 1 where a page says something else than the results
"""

import argparse
import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.figures import RESULTS, Figure, read
from benchmarks.peers.page import page_tables

ROOT = Path(__file__).parent.parent
# What each page shows: the programs by name, None for all of them.
PAGES: dict[str, tuple[str, ...] | None] = {
    "README.md": ("main_job", "startup"),
    "docs/figures.md": None,
    "docs/apps/door-lock.md": (
        "door_lock_faces",
        "door_lock_spoof",
        "door_lock_pipeline",
        "door_lock_rtsp",
        "door_lock_soak",
        "door_lock_kills",
        "door_lock_fuzz",
        "door_lock_circle",
    ),
    "docs/peers.md": ("peers",),
}
_PEERS = re.compile(r"(<!-- peers (\w+) -->\n).*?(<!-- /peers -->)", re.DOTALL)
_MACHINES = re.compile(r"(<!-- machines -->\n).*?(<!-- /machines -->)", re.DOTALL)
_WEAK = re.compile(r"(<!-- weaknesses -->\n).*?(<!-- /weaknesses -->)", re.DOTALL)
_BLOCK = re.compile(r"(<!-- figures -->\n).*?(<!-- /figures -->)", re.DOTALL)


def markdown(figures: Sequence[tuple[str, Figure]]) -> str:
    """A Markdown table, one row a figure."""
    rows = ["| figure | measured | 95 % interval | goal | met |", "|---|---|---|---|---|"]
    for program, figure in figures:
        value = "not measured" if figure.value is None else f"{_number(figure.value)} {figure.unit}".rstrip()
        interval = "" if figure.ci95 is None else f"{figure.ci95[0]:.4g} to {figure.ci95[1]:.4g}"
        met = ("yes" if figure.met else "**no**") if figure.goal[0] in "<>=" else ""
        rows.append(f"| `{program}`: {figure.name} | {value} | {interval} | {figure.goal} | {met} |")
    return "\n".join(rows) + "\n"


def machines(results: Path = RESULTS) -> str:
    """A Markdown table: when and on which processor each program measured."""
    rows = ["| program | measured | processor |", "|---|---|---|"]
    for path in sorted(results.glob("*.json")):
        content = json.loads(path.read_text(encoding="utf-8"))
        where = content["environment"]
        rows.append(f"| `{path.stem}` | {content['date'][:10]} | {where['cores']} x {where['cpu']} |")
    return "\n".join(rows) + "\n"


def weaknesses(results: Path = RESULTS) -> str:
    """Which rendered attacks the door lock's vetoes let pass more often than they may, worst first."""
    apcer = [
        (figure, name.removeprefix("apcer."))
        for program, figure in read(results)
        if program == "door_lock_spoof" and (name := figure.name).startswith("apcer.") and not figure.met
    ]
    if not (results / "door_lock_spoof.json").exists():
        return "- not measured yet\n"
    weak = sorted(apcer, key=lambda entry: -(entry[0].value or 0.0))
    rows = [
        f"- {name.replace('_', '-')}: {_number(figure.value)} % pass ({figure.ci95[0]:.3g} to {figure.ci95[1]:.3g})\n"
        for figure, name in weak
        if figure.value is not None and figure.ci95 is not None
    ]
    return "".join(rows) or "- none of the rendered ones\n"


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1e4 else f"{value:.4g}"


def made(page: str, results: Path = RESULTS) -> str:
    """The text of a page with its table as the results have it."""
    programs = PAGES[page]
    figures = [(program, figure) for program, figure in read(results) if programs is None or program in programs]
    table = markdown(figures)
    text = _BLOCK.sub(lambda match: match[1] + table + match[2], (ROOT / page).read_text(encoding="utf-8"))
    text = _WEAK.sub(lambda match: match[1] + weaknesses(results) + match[2], text)
    text = _MACHINES.sub(lambda match: match[1] + machines(results) + match[2], text)
    peers = [figure for program, figure in figures if program == "peers"]
    return _PEERS.sub(lambda match: f"{match[1]}\n{page_tables(match[2], peers)}\n{match[3]}", text)


def main() -> int:
    """Write the pages, or with --check compare them; 1 where one differs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args().check
    stale = [page for page in PAGES if made(page) != (ROOT / page).read_text(encoding="utf-8")]
    for page in stale:
        if not check:
            (ROOT / page).write_text(made(page), encoding="utf-8")
        print(f"{page}: {'differs from the results' if check else 'written'}")
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
