"""From frames to a decision on a face: a pure state machine on a clock that is handed in.

A face counts when at least `min_frames` fresh frames agree, each with exactly one face that is good enough, live and
of the same person. Quality and liveness each veto: they are never added up with the similarity.
"""

from dataclasses import dataclass, replace
from typing import Literal

from device_apps.door_lock.finding import Finding

Outcome = Literal["wait", "accept", "refuse"]


@dataclass(frozen=True)
class Rules:
    """When frames are a decision.

    A frame is fresh up to `max_frame_age_ms` after it came. The agreeing frames lie within `window_s` and span at least
    `min_span_ms`, so that one moment is not counted thrice. `refuse_frames` frames in a row that speak against are a
    failed try; so are `min_frames` of them before the face leaves. After a decision nothing counts until no face was
    seen for `gap_s`, or until `retry_s` after a refusal, `again_s` after an acceptance. `min_live` is the least
    probability of liveness.
    """

    min_frames: int = 3
    window_s: float = 2.0
    min_span_ms: float = 100.0
    max_frame_age_ms: float = 450.0  # 50 ms are left for the way from the camera to here, which nobody sees
    refuse_frames: int = 8
    gap_s: float = 1.0
    retry_s: float = 4.0
    again_s: float = 20.0
    min_live: float = 0.5

    def __post_init__(self) -> None:
        if not 3 <= self.min_frames <= 30 or not self.min_frames <= self.refuse_frames <= 100:
            raise ValueError("min_frames is 3 to 30, and refuse_frames at least as many and at most 100")
        if not 0 < self.max_frame_age_ms <= 500 or not 0 < self.min_live < 1:
            raise ValueError("max_frame_age_ms is above 0 and at most 500, min_live between 0 and 1")
        if not 0 <= self.min_span_ms < self.window_s * 1000 <= 10_000 or not 0 < self.gap_s <= 10:
            raise ValueError("min_span_ms is below window_s, which is at most 10 s, as is gap_s")
        if not self.gap_s <= self.retry_s <= self.again_s <= 300:
            raise ValueError("gap_s <= retry_s <= again_s <= 300")


@dataclass(frozen=True)
class Evidence:
    """What the frames so far amount to. `agreeing` are the times of frames that agree on `person`, `against` counts
    those in a row that speak against, `resume_s` is until when a decision holds.
    """

    person: str | None = None
    agreeing: tuple[float, ...] = ()
    against: int = 0
    newest_s: float = float("-inf")
    face_seen_s: float = float("-inf")
    resume_s: float | None = None


@dataclass(frozen=True)
class Decision:
    """What a frame came to. `reasons` are words for people; the first is the one to show."""

    outcome: Outcome
    person: str | None
    reasons: tuple[str, ...]
    agreeing: int = 0


def step(evidence: Evidence, finding: Finding, now_s: float, rules: Rules) -> tuple[Evidence, Decision]:
    """One more frame: the evidence after it, and the decision."""
    age_ms = (now_s - finding.captured_s) * 1000
    if not 0 <= age_ms <= rules.max_frame_age_ms:
        return evidence, _wait(f"the frame is {age_ms:.0f} ms old")
    if finding.captured_s <= evidence.newest_s:
        return evidence, _wait("the frame was seen before")
    return _weigh(replace(evidence, newest_s=finding.captured_s), finding, rules)


def _weigh(evidence: Evidence, finding: Finding, rules: Rules) -> tuple[Evidence, Decision]:
    """A frame that is fresh and new."""
    gone = finding.captured_s - evidence.face_seen_s > rules.gap_s
    if not finding.faces:
        nobody = _wait(*(finding.shortcomings or ("no face",)))
        if not gone:
            return evidence, nobody
        after = Evidence(newest_s=finding.captured_s, face_seen_s=evidence.face_seen_s)
        tried = evidence.resume_s is None and evidence.against >= rules.min_frames
        return after, Decision("refuse", None, ("left before it was recognised",)) if tried else nobody
    if evidence.resume_s is not None:
        if not gone and finding.captured_s < evidence.resume_s:
            return replace(evidence, face_seen_s=finding.captured_s), _wait("already decided; step back and come again")
        evidence = Evidence(newest_s=finding.captured_s)
    evidence = replace(evidence, face_seen_s=finding.captured_s)
    if len(finding.faces) > 1:
        return replace(evidence, person=None, agreeing=()), _wait(f"{len(finding.faces)} faces; one is needed")
    if finding.shortcomings:
        return evidence, Decision("wait", None, finding.shortcomings)
    return _judge(evidence, finding, rules)


def _judge(evidence: Evidence, finding: Finding, rules: Rules) -> tuple[Evidence, Decision]:
    """One face, good enough: for a person, or against everybody."""
    live = finding.is_live and finding.live is not None and finding.live >= rules.min_live
    match = finding.match
    if not live or match is None or match.person is None:
        reason = "not compared" if match is None else match.reason
        if not live:
            reason = "not live" if finding.live is None else f"not live ({finding.live:.2f})"
        return _against(evidence, finding, reason, rules)
    if evidence.person is not None and evidence.person != match.person:
        return _against(evidence, finding, "the frames do not agree on one person", rules)
    recent = tuple(at for at in evidence.agreeing if finding.captured_s - at <= rules.window_s)
    agreeing = (*recent, finding.captured_s)
    after = replace(evidence, person=match.person, agreeing=agreeing, against=0)
    enough = len(agreeing) >= rules.min_frames
    if not enough or (agreeing[-1] - agreeing[0]) * 1000 < rules.min_span_ms:
        reason = f"{len(agreeing)} of {rules.min_frames} frames agree"
        return after, Decision("wait", match.person, (reason,), len(agreeing))
    reasons = (
        f"{len(agreeing)} frames agree",
        f"similarity {match.similarity:.3f}, next person {match.runner_up:.3f}",
        f"live {finding.live:.2f}",
    )
    after = replace(after, resume_s=finding.captured_s + rules.again_s)
    return after, Decision("accept", match.person, reasons, len(agreeing))


def _against(evidence: Evidence, finding: Finding, reason: str, rules: Rules) -> tuple[Evidence, Decision]:
    against = evidence.against + 1
    after = replace(evidence, person=None, agreeing=(), against=against)
    if against < rules.refuse_frames:
        return after, _wait(reason)
    return replace(after, resume_s=finding.captured_s + rules.retry_s), Decision("refuse", None, (reason,))


def _wait(*reasons: str) -> Decision:
    return Decision("wait", None, reasons)
