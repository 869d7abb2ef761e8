"""Device profiles: names, what is refused by name, and what a profile may not contradict."""

import pytest

from edge.errors import BadInput, UnknownName
from edge.target import REFUSED, TARGETS, target, this_machine


def test_every_profile_is_found_by_its_name() -> None:
    for name, profile in TARGETS.items():
        assert target(name) is profile
        assert profile.name == name
        assert profile.engines
        assert profile.delegates
        assert profile.memory_bytes is None or profile.memory_bytes > 0


def test_a_profile_that_is_compiled_for_names_the_compiler_s_configuration() -> None:
    for profile in TARGETS.values():
        compiled = bool({"ethos-u", "qnn"} & set(profile.delegates))
        assert compiled == (profile.compiler is not None), profile.name


def test_names_that_are_wrong_or_refused() -> None:
    with pytest.raises(UnknownName, match="unknown target") as error:
        target("jetson-nano-orin")
    assert "jetson-orin-nano" in str(error.value.hint)
    for name, (reason, instead) in REFUSED.items():
        with pytest.raises(BadInput, match=reason[:20]) as refused:
            target(name)
        assert instead in str(refused.value.hint)


def test_this_machine_has_a_profile() -> None:
    assert this_machine().name.startswith("generic-")


def test_a_board_whose_python_is_too_old_says_so() -> None:
    unsupported = {name for name, one in TARGETS.items() if one.kind == "board" and one.unsupported}
    assert unsupported == {"coral-dev-board", "jetson-xavier"}
    assert "JetPack 5 (Ubuntu 20.04) has Python 3.8" in str(TARGETS["jetson-xavier"].unsupported)
    for name in ("cortex-m7", "snapdragon-8-gen3"):
        assert "compiled for, not deployed to" in str(TARGETS[name].unsupported)


def test_every_board_with_a_known_system_says_what_is_read_of_it() -> None:
    for profile in TARGETS.values():
        assert bool(profile.probes) == (profile.kind == "board"), profile.name
        if profile.power_modes:
            assert "nvpmodel's power mode" in profile.probes
