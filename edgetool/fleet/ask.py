"""Questions to a whole fleet at once: pyinfra connects and runs them, each device's answer is heard as it comes."""

import asyncio
import contextlib
import json
import shlex
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from edge.errors import EdgetoolError, EnvironmentFailed, RuntimeMissing
from edgetool.deploy import facts as device_facts
from edgetool.deploy.facts import Facts
from edgetool.fleet.inventory import Fleet, Member

PARALLEL = 32
LIMIT_S = 120.0
HEALTH_SCRIPT = Path(__file__).with_name("health_script.py")

Told = Callable[[int, str], None]
"""Hears how many devices have answered, and the last one's name."""


@dataclass(frozen=True)
class Answer:
    """What came back from a device; `error` is None where the command ended well."""

    name: str
    reached: bool
    output: str
    error: str | None


@dataclass(frozen=True)
class Health:
    """What a device's service says of itself. `starts` counts its starts, `problem` is None where it is healthy."""

    release: str | None
    bundle: str | None
    ms: float | None
    starts: int | None
    temperature_c: float | None
    problem: str | None


async def ask(
    fleet: Fleet, commands: Mapping[str, str], told_to_each: str, heard: Told, limit_s: float = LIMIT_S
) -> dict[str, Answer]:
    """Run a command of its own on each device that `commands` names, with `told_to_each` on its standard input.

    Raises:
        RuntimeMissing: the extra `fleet` is not installed.
        EnvironmentFailed: pyinfra's process died.

    """
    known = fleet.login.known_hosts or Path.home() / ".ssh" / "known_hosts"
    hosts = [
        {
            "name": member.name,
            "host": member.address.host,
            "port": member.address.port,
            "user": member.address.user,
            "command": commands[member.name],
        }
        for member in fleet.members
        if member.name in commands
    ]
    if not hosts:
        return {}
    question = {
        "hosts": hosts,
        "identity": None if fleet.login.identity is None else str(fleet.login.identity),
        "known_hosts": str(known),
        "told": told_to_each,
        "parallel": min(PARALLEL, len(hosts)),
        "limit_s": limit_s,
    }
    words = (sys.executable, "-m", "edgetool.fleet.pyinfra_worker")
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*words, stdin=pipe, stdout=pipe, stderr=pipe, limit=1 << 24)
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        with contextlib.suppress(OSError):
            process.stdin.write(json.dumps(question).encode())
            await process.stdin.drain()
            process.stdin.close()
        answers: dict[str, Answer] = {}
        while line := await process.stdout.readline():
            answer = Answer(**json.loads(line))
            answers[answer.name] = answer
            heard(len(answers), answer.name)
        said = (await process.stderr.read()).decode(errors="replace").strip()
        code = await process.wait()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if "No module named 'gevent'" in said or "No module named 'pyinfra'" in said:
        raise RuntimeMissing("pyinfra is not installed", "pip install 'edgetool[fleet]'")
    if code or len(answers) < len(hosts):
        raise EnvironmentFailed(f"pyinfra ended early: {(said.splitlines() or [f'exit code {code}'])[-1]}")
    return answers


async def facts(fleet: Fleet, heard: Told) -> dict[str, Facts | str]:
    """What each device is, or why it does not say."""
    script = device_facts.SCRIPT.read_text(encoding="utf-8")
    commands = {
        member.name: f"python3 -I - {member.address.folder or ''}".rstrip() for member in fleet.members
    }  # fmt: skip
    answers = await ask(fleet, commands, script, heard)
    return {name: _facts(answer) for name, answer in answers.items()}


def _facts(answer: Answer) -> Facts | str:
    if answer.error is not None:
        return answer.error
    try:
        return device_facts.parse(answer.output)
    except EdgetoolError as error:
        return str(error)


async def health(fleet: Fleet, known: Mapping[str, Facts], heard: Told) -> dict[str, Health]:
    """What the service of each device in `known` answers, three times in a row."""
    script = HEALTH_SCRIPT.read_text(encoding="utf-8")
    commands = {name: f"{as_root(of)}python3 -I - {shlex.quote(of.base)} {of.service}" for name, of in known.items()}
    answers = await ask(fleet, commands, script, heard)
    return {name: _health(answer) for name, answer in answers.items()}


def _health(answer: Answer) -> Health:
    if answer.error is None:
        with contextlib.suppress(ValueError, TypeError, IndexError):
            return Health(**json.loads(answer.output.strip().splitlines()[-1]))
    return Health(None, None, None, None, None, answer.error or "it answers something else")


def as_root(facts_there: Facts) -> str:
    """What makes a command root's where the releases are root's."""
    return "sudo -n " if facts_there.systemd and facts_there.uid != 0 else ""


def named(fleet: Fleet) -> dict[str, Member]:
    """The devices by name."""
    return {member.name: member for member in fleet.members}
