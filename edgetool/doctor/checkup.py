"""What the doctor found, as text and as JSON."""

import io
from dataclasses import dataclass, field
from typing import Literal

from edge.report import to_json
from edgetool.units import format_bytes

KINDS_SHOWN = 3
Evidence = Literal["proven here", "proven here, emulated", "by table", "unknown"]


@dataclass(frozen=True)
class Blocked:
    """Operations of one kind that will not be accelerated, and what to change. `macs_share` is their fraction of the
    model's MACs, None where that is not known.
    """

    operation: str
    count: int
    macs_share: float | None
    reason: str
    change: str


@dataclass(frozen=True)
class Finding:
    """What one delegate of a device takes of the model. `evidence` says how it is known: from the runtime's or the
    compiler's own record on this machine, or from a public table (`source`); "unknown" with the `reason`.

    `conditions` are constraints of the table that the file does not show to be met; `tried` says what came of
    running or compiling it here, where the table stands in for that.
    """

    delegate: str
    format: str
    evidence: Evidence
    source: str
    ops_total: int
    ops_accelerated: int
    macs_accelerated: float | None
    blocked: tuple[Blocked, ...] = ()
    conditions: tuple[str, ...] = ()
    reason: str | None = None
    tried: str | None = None


@dataclass(frozen=True)
class Memory:
    """The model and what its activations need at least (an estimate), against the device's; None is not stated."""

    model_bytes: int
    activation_bytes: int
    device_bytes: int | None

    @property
    def fits(self) -> bool | None:
        """Whether both fit, with nothing else running; None where the device's memory is not stated."""
        return None if self.device_bytes is None else self.model_bytes + self.activation_bytes <= self.device_bytes


@dataclass(frozen=True)
class Checkup:
    """The advice on one model and one device. `findings` are in the device's own order of delegates."""

    model: str
    format: str
    target: str
    made_for: str | None
    memory: Memory | None
    findings: tuple[Finding, ...]
    notes: tuple[str, ...]
    verdict: str
    schema: str = field(default="edgetool.checkup/1")

    def as_json(self) -> str:
        """The same as JSON."""
        return to_json(self).rstrip()

    def as_text(self) -> str:
        """The table, worst first, what stands beside it, and the verdict in the last line."""
        from rich.console import Console
        from rich.table import Table

        stream = io.StringIO()
        console = Console(file=stream, highlight=False, width=200)
        rows = _rows(self.findings)
        if rows:
            table = Table(box=None, pad_edge=False, title=f"{self.model} on {self.target}", title_justify="left")
            for heading in ("delegate", "not accelerated", "MACs", "why", "what to change", "evidence"):
                table.add_column(heading, justify="right" if heading == "MACs" else "left")
            for row in rows:
                table.add_row(*row)
            console.print(table)
            console.print()
        for finding in self.findings:
            console.print(finding_words(finding), markup=False, soft_wrap=True)
        if self.made_for is not None:
            console.print(f"the file is made for {self.made_for}", markup=False, soft_wrap=True)
        if self.memory is not None:
            console.print(memory_words(self.memory), markup=False, soft_wrap=True)
        for note in self.notes:
            console.print(f"note: {note}", markup=False, soft_wrap=True)
        console.print(f"\n{self.verdict}", markup=False, soft_wrap=True)
        return "\n".join(line.rstrip() for line in stream.getvalue().splitlines())


def _rows(findings: tuple[Finding, ...]) -> list[tuple[str, ...]]:
    """One row for a delegate's operations that share reason and remedy, the most MACs first."""
    groups: dict[tuple[str, str, str, str], list[Blocked]] = {}
    for finding in findings:
        for row in finding.blocked:
            groups.setdefault((finding.delegate, row.reason, row.change, finding.evidence), []).append(row)
    weights = {key: _weight(group) for key, group in groups.items()}
    rows: list[tuple[str, ...]] = []
    for key in sorted(groups, key=lambda key: (-(weights[key] or 0.0), -sum(row.count for row in groups[key]))):
        delegate, reason, change, evidence = key
        kinds = [f"{row.count} {row.operation}" for row in sorted(groups[key], key=lambda row: -row.count)]
        named = ", ".join(kinds[:KINDS_SHOWN]) + (
            f" and {len(kinds) - KINDS_SHOWN} more kinds" if len(kinds) > KINDS_SHOWN else ""
        )
        share = weights[key]
        rows.append((delegate, named, "?" if share is None else f"{share:.0%}", reason, change, evidence))
    return rows


def _weight(rows: list[Blocked]) -> float | None:
    shares = [row.macs_share for row in rows]
    return None if None in shares else sum(share for share in shares if share is not None)


def finding_words(finding: Finding) -> str:
    """`xnnpack: 12 of 13 operations (.tflite; proven here: LiteRT's record)`, and its conditions."""
    if finding.reason is not None:
        return f"{finding.delegate}: {finding.reason}"
    share = "" if finding.macs_accelerated is None else f", {finding.macs_accelerated:.0%} of the MACs"
    text = (
        f"{finding.delegate}: {finding.ops_accelerated} of {finding.ops_total} operations{share} "
        f"(.{finding.format}; {finding.evidence}: {finding.source})"
    )
    lines = [text]
    if finding.conditions:
        lines.append(f"  if {'; '.join(finding.conditions)}")
    if finding.tried is not None:
        lines.append(f"  {finding.tried}")
    return "\n".join(lines)


def memory_words(memory: Memory) -> str:
    """`memory: 0.3 MB of model and at least 0.1 MB of activations, of 1000.0 MB`."""
    needs = (
        f"memory: {format_bytes(memory.model_bytes)} of model and at least {format_bytes(memory.activation_bytes)} "
        "of activations (estimated)"
    )
    if memory.device_bytes is None:
        return f"{needs}; the device's is not stated"
    return f"{needs}, of {format_bytes(memory.device_bytes)}: {'fits' if memory.fits else 'DOES NOT FIT'}"
