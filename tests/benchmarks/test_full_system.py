"""What the program that cuts a full system's power plans, and how it judges what came up."""

from typing import Any

import pytest

from benchmarks.full_system import STEPS, judge, schedule


def state(**changes: Any) -> dict[str, Any]:
    healthy = {"ok": True, "bundle": "aa"}
    found = {"current": "0001-a", "last_good": "0001-a", "previous": None, "releases": {"0001-a": "x"}}
    return {**found, "packages": {"p": "y"}, "left": [], "active": "active", "health": healthy, **changes}


OLD = state()
NEW = state(
    current="0002-b",
    last_good="0002-b",
    previous="0001-a",
    releases={"0001-a": "x", "0002-b": "z"},
    health={"ok": True, "bundle": "bb"},
)


def test_every_step_gets_its_share_and_is_seen_early() -> None:
    seconds = {"switching": 10.0, "placing": 1.0}
    planned = schedule(20, seconds)
    assert len(planned) == sum(STEPS.values()) == 20
    assert {step for step, _, _ in planned[: len(STEPS)]} == set(STEPS)
    assert sorted(delay for step, _, delay in planned if step == "switching") == [1.25, 3.75, 6.25, 8.75]
    assert len(set(planned)) == 20


def test_exactly_old_and_exactly_new() -> None:
    assert judge(state(), OLD, NEW) == "old"
    assert judge(dict(NEW), OLD, NEW) == "new"


@pytest.mark.parametrize(
    ("found", "says"),
    [
        (state(health=None), "does not answer"),
        (state(health={"ok": False, "bundle": "aa"}), "does not answer"),
        (state(left=["trial.json"]), "half old: left"),
        (state(packages={"p": "other"}), "half old: packages"),
        (state(last_good="0002-b"), "half old: last_good"),
        ({**NEW, "previous": None}, "half new: previous"),
        ({**NEW, "releases": {"0002-b": "z"}}, "half new: releases"),
        (state(health={"ok": True, "bundle": "cc"}), "another release"),
    ],
)
def test_anything_else_is_wrong(found: dict[str, Any], says: str) -> None:
    assert judge(found, OLD, NEW).startswith(says)
