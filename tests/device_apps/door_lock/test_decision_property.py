"""Whatever frames come in whatever order: what is accepted stands on frames that allow it."""

import pytest

pytest.importorskip("hypothesis")  # the device's environments have none

from hypothesis import given
from hypothesis import strategies as st

from device_apps.door_lock.decision import Evidence, Rules, step
from tests.device_apps.door_lock.findings import finding

RULES = Rules()
KINDS = st.sampled_from(["ann", "ben", "stranger", "spoof", "blurred", "nobody", "two"])


@given(st.lists(st.tuples(KINDS, st.floats(0.001, 1.5), st.floats(-0.1, 0.9)), max_size=60))
def test_acceptance_always_stands_on_three_fresh_live_frames_of_that_person(
    steps: list[tuple[str, float, float]],
) -> None:
    """Whatever comes in whatever order: what was accepted had its frames, and nothing spoke against it in between."""
    at, evidence = 1000.0, Evidence()
    seen: list[tuple[float, str, bool]] = []
    for kind, gap, lag in steps:
        at += gap
        found = {
            "ann": finding,
            "ben": lambda t: finding(t, "ben"),
            "stranger": lambda t: finding(t, None),
            "spoof": lambda t: finding(t, live=0.2),
            "blurred": lambda t: finding(t, wrong="hold still"),
            "nobody": lambda t: finding(t, faces=0),
            "two": lambda t: finding(t, faces=2),
        }[kind](at)
        evidence, decision = step(evidence, found, at + lag, RULES)
        seen.append((at, kind, 0 <= (at + lag - at) * 1000 <= RULES.max_frame_age_ms))
        if decision.outcome != "accept":
            continue
        counted = []
        for when, what, fresh in reversed(seen):
            if not fresh:
                continue
            if what in {"ann", "ben", "stranger", "spoof", "two"} and what != decision.person:
                break
            if what == decision.person and at - when <= RULES.window_s:
                counted.append(when)
        assert len(counted) >= RULES.min_frames
        assert max(counted) - min(counted) >= RULES.min_span_ms / 1000
