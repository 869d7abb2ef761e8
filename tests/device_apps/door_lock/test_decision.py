"""The state machine over frames: each rule with frames that keep it and frames that break it."""

import dataclasses

import pytest

from device_apps.door_lock.decision import Decision, Evidence, Rules, step
from device_apps.door_lock.finding import Finding
from tests.device_apps.door_lock.findings import finding

RULES = Rules()
FRAME_S = 0.1


def play(findings: list[Finding], rules: Rules = RULES, lag_s: float = 0.05) -> list[Decision]:
    """The decision on each finding, made `lag_s` after it came."""
    evidence, decisions = Evidence(), []
    for one in findings:
        evidence, decision = step(evidence, one, one.captured_s + lag_s, rules)
        decisions.append(decision)
    return decisions


def frames(people: list[str | None], start: float = 100.0) -> list[Finding]:
    return [finding(start + number * FRAME_S, person) for number, person in enumerate(people)]


def outcomes(decisions: list[Decision]) -> list[str]:
    return [decision.outcome for decision in decisions]


def test_three_agreeing_frames_are_needed_and_enough() -> None:
    decisions = play(frames(["ann"] * 4))
    assert outcomes(decisions) == ["wait", "wait", "accept", "wait"]
    assert decisions[2].person == "ann"
    assert decisions[2].agreeing == 3
    assert "similarity 0.800" in decisions[2].reasons[1]


def test_frames_that_disagree_start_over() -> None:
    assert outcomes(play(frames(["ann", "ann", "ben", "ann", "ann", "ann"]))) == ["wait"] * 5 + ["accept"]
    assert outcomes(play(frames(["ann", "ann", None, "ann", "ann"]))) == ["wait"] * 5


@pytest.mark.parametrize("live", [0.0, 0.49, float("nan")])
def test_liveness_vetoes_whatever_the_similarity(live: float) -> None:
    bad = [dataclasses.replace(one, live=live) for one in frames(["ann"] * 5)]
    assert "accept" not in outcomes(play(bad))
    spoof_between = frames(["ann"] * 5)
    spoof_between[2] = dataclasses.replace(spoof_between[2], live=live)
    assert "accept" not in outcomes(play(spoof_between))


def test_a_face_whose_liveness_was_not_asked_is_not_live() -> None:
    assert "accept" not in outcomes(play([dataclasses.replace(one, live=None) for one in frames(["ann"] * 5)]))


def test_quality_vetoes_a_frame_and_is_the_advice() -> None:
    found = frames(["ann"] * 4)
    found[1] = finding(found[1].captured_s, wrong="hold still")
    decisions = play(found)
    assert decisions[1].reasons == ("hold still",)
    assert outcomes(decisions) == ["wait", "wait", "wait", "accept"]


def test_two_faces_start_over() -> None:
    found = frames(["ann"] * 5)
    found[2] = finding(found[2].captured_s, faces=2)
    assert outcomes(play(found)) == ["wait"] * 5
    assert play(found)[2].reasons == ("2 faces; one is needed",)


def test_an_old_frame_never_counts() -> None:
    assert outcomes(play(frames(["ann"] * 6), lag_s=0.451)) == ["wait"] * 6
    assert outcomes(play(frames(["ann"] * 3), lag_s=0.449))[-1] == "accept"
    assert outcomes(play(frames(["ann"] * 6), lag_s=-0.01)) == ["wait"] * 6


def test_one_frame_seen_thrice_is_one_frame() -> None:
    assert outcomes(play([finding(100.0)] * 5)) == ["wait"] * 5
    assert outcomes(play([finding(100.0 + number * 0.01) for number in range(5)])) == ["wait"] * 5  # 40 ms in all


def test_frames_far_apart_do_not_add_up() -> None:
    assert outcomes(play([finding(100.0 + number * 0.9) for number in range(5)])) == [
        "wait",
        "wait",
        "accept",
        "wait",
        "wait",
    ]
    assert outcomes(play([finding(100.0 + number * 1.1) for number in range(5)])) == ["wait"] * 5


def test_a_stranger_is_refused_once_and_again_after_a_while() -> None:
    decisions = play(frames([None] * 60))
    refused = [number for number, decision in enumerate(decisions) if decision.outcome == "refuse"]
    assert refused[0] == RULES.refuse_frames - 1
    assert len(refused) == 2
    assert refused[1] - refused[0] >= RULES.retry_s / FRAME_S


def test_a_spoof_is_refused_with_its_reason() -> None:
    decisions = play([finding(100 + number * FRAME_S, live=0.1) for number in range(10)])
    assert decisions[7].outcome == "refuse"
    assert decisions[7].reasons == ("not live (0.10)",)


def test_leaving_early_is_a_failed_try_too() -> None:
    found = [*frames([None] * 4), *(finding(100.4 + number * FRAME_S, faces=0) for number in range(15))]
    assert outcomes(play(found)).count("refuse") == 1
    passing = [*frames([None] * 2), *(finding(100.2 + number * FRAME_S, faces=0) for number in range(15))]
    assert "refuse" not in outcomes(play(passing))


def test_after_acceptance_a_face_that_stays_does_not_open_again() -> None:
    decisions = play(frames(["ann"] * 100))
    assert outcomes(decisions).count("accept") == 1
    gone = [finding(100.4 + number * FRAME_S, faces=0) for number in range(13)]
    back = frames(["ann"] * 3, start=101.8)
    assert outcomes(play([*frames(["ann"] * 4), *gone, *back]))[-1] == "accept"


@pytest.mark.parametrize(
    "change",
    [
        {"min_frames": 2}, {"max_frame_age_ms": 501}, {"min_live": 0}, {"min_live": 1.0}, {"refuse_frames": 2},
        {"window_s": 11}, {"min_span_ms": 2000.0}, {"retry_s": 0.5}, {"again_s": 1.0},
    ],
)  # fmt: skip
def test_rules_that_are_too_weak_are_refused(change: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"is|<="):
        dataclasses.replace(RULES, **change)
