"""The door lock's command line: `python -m device_apps.door_lock --camera SOURCE`, and its other commands.

What needs OpenCV or a runtime is imported by the command, so that `--help` is there at once.
"""

import argparse
import importlib.util
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from device_apps.leaving import leave
from edge.console import exit_code, printable_streams
from edge.errors import RuntimeMissing

if TYPE_CHECKING:
    from device_apps.door_lock.policy import Policy
    from device_apps.door_lock.state import State
    from device_apps.events import Event, Listener

EXAMPLES = """examples:
  python -m device_apps.door_lock init --detector yunet.onnx --liveness minifas.onnx --embedder mobilefacenet.onnx
  python -m device_apps.door_lock calibrate faces/            a folder of pictures for each person
  python -m device_apps.door_lock enrol Ann --camera 0
  python -m device_apps.door_lock pin Ann
  python -m device_apps.door_lock --camera rtsp://camera/stream --keypad
  python -m device_apps.door_lock audit verify
  python -m device_apps.door_lock label                       what was called wrong; `label CASE spoof` says what it was
  python -m device_apps.door_lock export-feedback out/cases   for calibrating and training anew"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse, run one command, and return its exit code: 0 done, 1 a check failed, 2 bad input, 3 the environment."""
    printable_streams()
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given and given[0].startswith("-") and given[0] not in {"-h", "--help"}:
        given.insert(0, "run")
    options = _parser().parse_args(given)

    def command() -> None:
        if importlib.util.find_spec("cv2") is None:
            raise RuntimeMissing("OpenCV is not installed", "pip install 'edgetool[apps]'")
        options.command(options)

    return exit_code(command)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="door-lock",
        description="The door-lock camera. Without a command it runs: --camera SOURCE.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    run = commands.add_parser("run", help="watch a camera and decide")
    run.add_argument("--camera", required=True, metavar="SOURCE", help="a number, picamera2, rtsp://…, a file, …")
    run.add_argument("--config", type=Path, metavar="FILE", help="the settings (door-lock.toml of the state)")
    run.add_argument("--keypad", action="store_true", help="lines of the standard input are PINs, or `egress`")
    run.add_argument("--anchor", type=Path, metavar="FILE", help="keep the audit record's head here too")
    run.add_argument("--page", type=int, metavar="PORT", help="show the page on this port, for this machine")
    run.add_argument("--seconds", type=float, metavar="S", help="stop after so long")
    run.add_argument("--json", action="store_true", help="print every event as a line of JSON")
    run.set_defaults(command=_run)

    init = commands.add_parser("init", help="take three models and write the settings")
    for part in ("detector", "liveness", "embedder"):
        init.add_argument(f"--{part}", type=Path, required=True, metavar="MODEL", help="an .onnx, .tflite or .edge")
    init.add_argument("--replace", action="store_true", help="write settings that are there anew")
    init.add_argument("--anchor", type=Path, metavar="FILE", help="keep the audit record's head here too, from now on")
    init.set_defaults(command=_init)

    calibrate = commands.add_parser("calibrate", help="find the threshold on pictures of people")
    calibrate.add_argument("faces", type=Path, metavar="FACES", help="a folder of folders of pictures, one a person")
    calibrate.add_argument("--feedback", type=Path, metavar="FOLDER", help="and on the people of an export of feedback")
    calibrate.add_argument("--fmr", type=float, default=1e-3, help="the false match rate to allow (0.001)")
    calibrate.set_defaults(command=_calibrate)

    enrol = commands.add_parser("enrol", help="enrol a person, guided")
    enrol.add_argument("name", metavar="NAME")
    enrol.add_argument("--camera", required=True, metavar="SOURCE", help="as for run")
    enrol.set_defaults(command=_enrol)

    people = commands.add_parser("people", help="who is enrolled; `people remove NAME` revokes")
    people.add_argument("action", nargs="?", choices=["list", "remove"], default="list")
    people.add_argument("name", nargs="?", metavar="NAME")
    people.add_argument("--json", action="store_true", help="print JSON")
    people.set_defaults(command=_people)

    pin = commands.add_parser("pin", help="give a person a PIN, which is asked for")
    pin.add_argument("name", metavar="NAME")
    pin.set_defaults(command=_pin)

    audit = commands.add_parser("audit", help="show or verify the record of what happened")
    audit.add_argument("action", choices=["show", "verify"])
    audit.add_argument("--anchor", type=Path, metavar="FILE", help="the second place where the head was kept")
    audit.set_defaults(command=_audit)

    label, export = _feedback_parsers(commands)

    remote = commands.add_parser("remote", help="the key of signed commands, or a command that is signed now")
    remote.add_argument("action", choices=["key", "unlock", "webhook-key"])
    remote.add_argument("--key", type=Path, metavar="FILE", help="sign with the key in this file, where no lock is")
    remote.add_argument("--by", default="command line", metavar="NAME", help="who asks, for the record")
    remote.set_defaults(command=_remote)

    password = commands.add_parser("password", help="give the page its password, which is asked for")
    password.set_defaults(command=_password)

    for command in (run, init, calibrate, enrol, people, pin, audit, label, export, remote, password):
        command.add_argument(
            "--state", type=Path, default=Path("~/.local/state/edgetool/door-lock"), metavar="FOLDER",
            help="where the lock keeps settings, people and record (%(default)s)",
        )  # fmt: skip
    return parser


def _feedback_parsers(commands: Any) -> tuple[argparse.ArgumentParser, argparse.ArgumentParser]:
    label = commands.add_parser("label", help="what was called wrong; `label CASE WHAT` says what it really was")
    label.add_argument("case", nargs="?", metavar="CASE")
    label.add_argument("what", nargs="?", metavar="WHAT", help="stranger, spoof, or who it was (name or id)")
    label.add_argument("--picture", type=Path, metavar="FILE", help="write the case's picture here, to be looked at")
    label.add_argument("--delete", action="store_true", help="forget the case")
    label.add_argument("--json", action="store_true", help="print JSON")
    label.set_defaults(command=_label)

    export = commands.add_parser("export-feedback", help="labelled cases for calibrating and training anew")
    export.add_argument("folder", type=Path, metavar="FOLDER", help="new or empty; it will hold pictures of people")
    export.set_defaults(command=_export)
    return label, export


def _open(options: argparse.Namespace) -> "tuple[State, Policy]":
    from device_apps.door_lock.policy import read_policy

    state = _state(options)
    return state, read_policy(getattr(options, "config", None) or state.policy)


def _state(options: argparse.Namespace) -> "State":
    """The state that `init` made; nothing is made here."""
    from device_apps.door_lock.state import SETTINGS, open_state
    from edge.errors import BadInput

    folder = options.state.expanduser()
    if not (folder / SETTINGS).exists():
        raise BadInput(f"there is no lock at {folder}: it has no {SETTINGS}", "`init` makes one")
    return open_state(folder)


def _run(options: argparse.Namespace) -> None:
    from device_apps.clock import SystemClock
    from device_apps.door_lock.run import Running, run
    from device_apps.events import JsonLines

    state, policy = _open(options)
    listener: Listener = JsonLines(sys.stdout) if options.json else _Console(_names(state))
    told = Running(
        options.camera, state.folder / "models", options.anchor, options.keypad, options.seconds, options.page
    )
    run(state, policy, told, SystemClock(), (listener,))


def _names(state: "State") -> dict[str, str]:
    people, _ = state.people().load(None)
    return {person.id: person.name for person in people}


class _Console:
    """Prints what changes, for people."""

    def __init__(self, names: dict[str, str]) -> None:
        self._names, self._last = names, ""

    def __call__(self, event: "Event") -> None:
        text = self._line(event)
        if text and text != self._last:
            stages = event.fields.get("stages_ms") or {}
            spent = "  ".join(f"{name} {ms:.1f}" for name, ms in stages.items() if not name.endswith(".model"))
            _print(f"{text}   [{spent} ms]" if spent else text)
            self._last = text

    def _line(self, event: "Event") -> str:
        fields = event.fields
        reasons = "; ".join(fields.get("reasons") or ())
        person = self._names.get(fields.get("person") or "", fields.get("person"))
        who = f" {person}" if person else ""
        if event.kind == "frame":
            return f"{fields['outcome']:<7}{who} {reasons}"
        if event.kind == "bolt":
            return f"*** {fields['says']}"
        if event.kind in {"fault", "fault ended"}:
            reason = fields["reason"]
            return f"ok      {fields['source']}" if reason is None else f"LOCKED  {fields['source']}: {reason}"
        if event.kind in {"unlock", "waiting", "pin"}:
            return f"{event.kind:<7}{who} {reasons}"
        return f"{event.kind:<7} {json.dumps(dict(fields), ensure_ascii=False)}"


def _init(options: argparse.Namespace) -> None:
    from device_apps.door_lock.commands import initialise
    from device_apps.door_lock.state import open_state

    state = open_state(options.state)
    files = {part: getattr(options, part) for part in ("detector", "liveness", "embedder")}
    policy = initialise(state, files, replace=options.replace, anchor=options.anchor)
    for part, path in files.items():
        _print(f"{part:<9} {getattr(policy.models, part).sha256[:12]}  {path.name}")
    _print(f"settings  {state.policy}\nkey       {state.key.origin}")


def _calibrate(options: argparse.Namespace) -> None:
    from device_apps.door_lock.commands import calibrated

    found = calibrated(*_open(options), options.faces, options.fmr, _say, options.feedback)
    _print(
        f"threshold {found.threshold:.4f} at a false match rate of {found.fmr:g} (upper end {found.fmr_upper95:.2g}) "
        f"on {found.impostor_trials} impostor and {found.genuine_trials} genuine trials of {found.people} people; "
        f"false non-match rate {found.fnmr:.4f}"
    )


def _enrol(options: argparse.Namespace) -> None:
    from device_apps.clock import SystemClock
    from device_apps.door_lock.commands import enrol

    state, policy = _open(options)
    person, warnings = enrol(
        state, policy, options.name, options.camera, SystemClock(),
        lambda advice: _say(f"{advice.taken}/{advice.wanted} {advice.outcome}: {advice.text}"),
    )  # fmt: skip
    _print(f"{person.name} is enrolled with {len(person.templates)} shots ({person.id}); no picture was kept")
    for warning in warnings:
        _print(f"warning: {person.name} {warning}: the lock may refuse both")


def _people(options: argparse.Namespace) -> None:
    from device_apps.clock import SystemClock
    from device_apps.door_lock.commands import people_table, remove
    from edge.errors import BadInput

    state, policy = _open(options)
    if options.action == "remove":
        if not options.name:
            raise BadInput("people remove needs the name or the id")
        person = remove(state, options.name, SystemClock())
        _print(f"{person.name} ({person.id}) is revoked; the templates are deleted")
        return
    rows = people_table(state, policy)
    if options.json:
        _print(json.dumps(rows, indent=2))
        return
    for row in rows:
        good = f"{row['shots']} shots, {'a' if row['pin'] else 'no'} PIN"
        _print(f"{row['id']}  {row['name'] or '?':<24} {'REFUSED: ' + row['refused'] if row['refused'] else good}")
    if not rows:
        _print("nobody is enrolled")


def _pin(options: argparse.Namespace) -> None:
    import getpass

    from device_apps.clock import SystemClock
    from device_apps.door_lock.commands import set_pin

    state, _ = _open(options)
    entered = getpass.getpass("PIN: ") if sys.stdin.isatty() else sys.stdin.readline().strip()
    person = set_pin(state, options.name, entered, SystemClock())
    _print(f"{person.name} has a PIN")


def _audit(options: argparse.Namespace) -> None:
    from device_apps.audit import read
    from device_apps.clock import SystemClock
    from device_apps.door_lock.commands import verify_audit
    from device_apps.door_lock.network import broker_anchor

    state = _state(options)
    if options.action == "show":
        for line in read(state.audit):
            _print(json.dumps({key: value for key, value in line.items() if key != "mac"}, ensure_ascii=False))
        return
    state, policy = _open(options)
    head = verify_audit(state, options.anchor or policy.audit.second, broker_anchor(state, policy, SystemClock()))
    _print(f"{state.audit}: {head.seq} lines, all in the chain, none cut off; head {head.mac[:16]}")


def _label(options: argparse.Namespace) -> None:
    from device_apps.door_lock.feedback import label, quarantine
    from device_apps.durable import write_whole
    from edge.errors import BadInput

    state = _state(options)
    cases = quarantine(state)
    if options.case is None:
        rows = [{"case": case.name, "label": case.label, **_told(case.event)} for case in cases.cases()]
        if options.json:
            _print(json.dumps(rows, indent=2))
        for row in () if options.json else rows:
            said = f"{row['outcome']} {row['person'] or ''} {'; '.join(row['reasons'] or ())}"
            _print(f"{row['case']}  {row['label'] or '-':<18} {said}")
        if not rows:
            _say("no case waits")
        return
    if options.picture is not None:
        write_whole(options.picture, cases.case(options.case)[1])
    if options.delete:
        cases.delete(options.case)
        _print(f"{options.case} is forgotten")
    elif options.what is not None:
        _print(f"{options.case} is {label(cases, state.people(), options.case, options.what)}")
    elif options.picture is None:
        raise BadInput(f"what was the case {options.case}?", "stranger, spoof, a name; or --picture FILE, --delete")


def _told(event: "dict[str, Any]") -> "dict[str, Any]":
    return {key: event.get(key) for key in ("at", "outcome", "person", "reasons", "similarity", "live")}


def _export(options: argparse.Namespace) -> None:
    from device_apps.clock import SystemClock
    from device_apps.door_lock.feedback import export

    state, policy = _open(options)
    count = export(state, policy, options.folder)
    state.recorder(SystemClock(), policy.audit.second).append("feedback exported", {"cases": count})
    _print(f"{count} labelled cases are in {options.folder}: pictures of people, to be deleted when they were used")


def _password(options: argparse.Namespace) -> None:
    import getpass

    from device_apps.door_lock.page import page_password

    entered = getpass.getpass("Password: ") if sys.stdin.isatty() else sys.stdin.readline().rstrip("\n")
    page_password(_state(options)).set(entered)
    _print("the page has a password")


def _remote(options: argparse.Namespace) -> None:
    from device_apps.clock import SystemClock
    from device_apps.door_lock.network import command_key, webhook_key
    from device_apps.signed_command import key_in, signed_command

    if options.action == "webhook-key":
        _print(webhook_key(_state(options)).hex())
        return
    key = command_key(_state(options)) if options.key is None else key_in(options.key)
    if options.action == "key":
        _print(key.hex())
        return
    _print(signed_command(key, "unlock", options.by, SystemClock().wall()).decode())


def _print(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _say(line: str) -> None:
    sys.stderr.write(line + "\n")


if __name__ == "__main__":
    leave(main())
