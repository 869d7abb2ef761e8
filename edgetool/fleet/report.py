"""The fleet report: which device runs what, and what the newest release did to each class."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from edge.errors import BadInput
from edgetool.fleet.benches import Bench, benches
from edgetool.fleet.compare import Comparison, compare
from edgetool.fleet.inventory import Fleet, state_folder
from edgetool.fleet.rollout import Rollout, read
from edgetool.fleet.status import FleetStatus


@dataclass(frozen=True)
class FleetReport:
    """`before` and `after` name the releases that are compared, None where fewer than two were measured. `void` are
    benchmarks that are not compared, by device.
    """

    fleet: str
    when: str
    status: FleetStatus
    rollout: Rollout | None
    before: str | None
    after: str | None
    comparisons: tuple[Comparison, ...]
    void: tuple[tuple[str, str], ...]
    benches: tuple[Bench, ...]
    schema: str = field(default="edgetool.fleet-report/1")

    @property
    def regressions(self) -> tuple[Comparison, ...]:
        """The classes that a metric is worse on. That one class differs from another is none by itself."""
        return tuple(one for one in self.comparisons if one.verdict == "slower" and one.against is None)

    def as_text(self) -> str:
        """The table of devices, the comparisons, the verdict in the last line."""
        lines = [self.status.as_text(), ""]
        if self.before is None or self.after is None:
            return "\n".join([*lines, "no two releases were measured on the same devices: edgetool fleet bench"])
        lines.append(f"{self.after} against {self.before} (intervals hold together with 95 %):")
        lines += [f"  {one.as_text()}" for one in self.comparisons]
        lines += [f"  not compared: {device}: {reason}" for device, reason in self.void]
        classes = sorted({one.device_class for one in self.regressions})
        if classes:
            return "\n".join([*lines, f"REGRESSION on {', '.join(classes)}"])
        open_ones = sum(one.verdict == "inconclusive" for one in self.comparisons)
        rest = f"; {open_ones} of {len(self.comparisons)} comparisons are inconclusive" if open_ones else ""
        return "\n".join([*lines, f"no regression was found{rest}"])


def make(fleet: Fleet, status: FleetStatus, *, before: str | None = None, after: str | None = None) -> FleetReport:
    """The report from what devices run and what came back from them.

    Args:
        fleet: whose state is read.
        status: what its devices run now.
        before: the release to compare with, by name or the start of its sha256; the last but one that was measured.
        after: the release to judge; the last that was measured.

    Raises:
        BadInput: no benchmark is of such a release.

    """
    folder = state_folder(fleet)
    members = {member.name for member in fleet.members}
    found = [one for one in benches(folder) if one.device in members]
    order = list(dict.fromkeys(one.sha256 for one in found))
    new = _pick(found, after) if after is not None else (order[-1] if order else None)
    older = [sha256 for sha256 in order if sha256 != new]
    old = _pick(found, before) if before is not None else (older[-1] if older else None)
    sides = [[one for one in found if one.sha256 == sha256] for sha256 in (old, new)]
    both = old is not None and new is not None
    return FleetReport(
        fleet=fleet.name,
        when=status.when,
        status=status,
        rollout=read(folder),
        before=_named(sides[0]) if both else None,
        after=_named(sides[1]) if both else None,
        comparisons=compare(*sides) if both else (),
        void=tuple((one.device, one.void) for side in sides for one in side if one.void is not None),
        benches=tuple(found),
    )


def _pick(found: Sequence[Bench], wanted: str) -> str:
    fitting = {
        one.sha256 for one in found if one.bundle == wanted or (len(wanted) > 3 and one.sha256.startswith(wanted))
    }
    if len(fitting) != 1:
        known = sorted({f"{one.bundle} ({one.sha256[:8]})" for one in found})
        what = "no release" if not fitting else f"{len(fitting)} releases"
        raise BadInput(f"{what} with benchmarks can be called {wanted!r}", f"there are: {', '.join(known) or 'none'}")
    return fitting.pop()


def _named(side: Sequence[Bench]) -> str:
    return f"{side[0].bundle} ({side[0].sha256[:8]})"
