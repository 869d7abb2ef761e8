"""The time of a trial's file on this machine, with the machine to itself and beside its float32 file."""

from collections.abc import Callable, Mapping

from edge.artifact import Artifact
from edge.report import Measurement
from edgetool.candidates import ENGINE_OF_FORMAT
from edgetool.verify.race import Entry, Settings, race

# Short: it ranks trials; what ships is raced in full.
SETTINGS = Settings(blocks=2, max_warmup_seconds=0.1)
BEFORE, AFTER = "float32", "trial"


def milliseconds(
    artifact: Artifact, baselines: Mapping[str, Artifact], known: dict[str, float], said: Callable[[str], None]
) -> float | None:
    """The p50 of one thread, as a ratio to the float32 file of its format times that file's first p50.

    Trials are hours apart; the ratio is of one moment. `known` keeps the first p50 by format; `said` is told what goes
    on. None: it does not run.
    """
    before = baselines[artifact.format]
    engine = ENGINE_OF_FORMAT[artifact.format]
    entries = [
        Entry(BEFORE, before.path, before.format, engine),
        Entry(AFTER, artifact.path, artifact.format, engine, baseline=BEFORE),
    ]
    rows = race(entries, SETTINGS, progress=lambda what, _: said(what)).rows
    first, second = rows[BEFORE], rows[AFTER]
    if not isinstance(first, Measurement) or not isinstance(second, Measurement) or second.ratio is None:
        return None
    return second.ratio * known.setdefault(artifact.format, first.p50_ms)
