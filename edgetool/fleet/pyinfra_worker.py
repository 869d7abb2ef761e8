"""One command on each of many devices at the same time, by pyinfra, in a process of its own.

pyinfra runs on gevent, which replaces the sockets and threads of the process that it is in; this process does nothing
else. It reads one JSON object from standard input (hosts, login, what is told to each command's standard input) and
writes one JSON line for each device as it answers: {"name", "reached", "output", "error"}.
"""
# ruff: noqa: E402 - gevent takes the place of the standard library's parts before anything else has them

from gevent import monkey

monkey.patch_all()

import json
import logging
import sys
from typing import Any

from pyinfra.api.command import StringCommand
from pyinfra.api.config import Config
from pyinfra.api.exceptions import PyinfraError
from pyinfra.api.host import Host
from pyinfra.api.inventory import Inventory
from pyinfra.api.state import State

CONNECT_LIMIT_S = 30


def ask(host: Host, command: str, told: str, limit_s: float) -> dict[str, Any]:
    """Connect, run one command, and put what comes back in one object."""
    try:
        host.connect(show_errors=False, raise_exceptions=True)
    except (PyinfraError, OSError, EOFError) as error:
        return {"name": host.name, "reached": False, "output": "", "error": str(error)}
    try:
        done, output = host.run_shell_command(StringCommand(command), _stdin=told, _timeout=limit_s)
    except Exception as error:  # noqa: BLE001 - pyinfra lets through what paramiko and gevent raise
        reason = str(error) or type(error).__name__
        return {"name": host.name, "reached": True, "output": "", "error": reason}
    finally:
        host.disconnect()
    said = [line.strip() for line in output.stderr_lines if line.strip()]
    failed = (said or ["it failed without a word"])[-1]
    return {"name": host.name, "reached": True, "output": output.stdout, "error": None if done else failed}


def main() -> int:
    """Ask all devices and print each answer as it comes."""
    logging.disable(logging.CRITICAL)  # paramiko's and pyinfra's own words go nowhere: the answers have them
    given = json.load(sys.stdin)
    names = []
    for wanted in given["hosts"]:
        data = {"ssh_hostname": wanted["host"], "ssh_port": wanted["port"], "ssh_user": wanted["user"]}
        names.append((wanted["name"], {key: value for key, value in data.items() if value is not None}))
    # pyinfra's own default accepts a host key that it has not seen before
    common = {
        "ssh_strict_host_key_checking": "yes",
        "ssh_known_hosts_file": given["known_hosts"],
        "ssh_key": given["identity"],
    }
    everywhere = {key: value for key, value in common.items() if value is not None}
    inventory = Inventory((names, everywhere))  # type: ignore[no-untyped-call]  # pyinfra's own is not typed
    config = Config(PARALLEL=given["parallel"], CONNECT_TIMEOUT=CONNECT_LIMIT_S)  # type: ignore[no-untyped-call]
    state = State(inventory, config)
    commands = {wanted["name"]: wanted["command"] for wanted in given["hosts"]}

    def one(host: Host) -> dict[str, Any]:
        return ask(host, commands[host.name], given["told"], given["limit_s"])

    for answer in state.pool.imap_unordered(one, list(state.inventory)):
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
