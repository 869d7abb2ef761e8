"""The assistant's command line: `python -m device_apps.voice_assistant --mic SOURCE`, and its other commands.

What needs numpy or a runtime is imported by the command, so that `--help` is there at once.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from edge.console import exit_code, printable_streams

if TYPE_CHECKING:
    from device_apps.events import Event, Listener
    from device_apps.voice_assistant.policy import Policy
    from device_apps.voice_assistant.state import State

EXAMPLES = """examples:
  python -m device_apps.voice_assistant init --wake micro:alexa --recogniser sphinx:commands.gram --sentences home.yaml
  python -m device_apps.voice_assistant --mic pulse
  python -m device_apps.voice_assistant --mic command.wav --fast --json
  python -m device_apps.voice_assistant password && python -m device_apps.voice_assistant --mic default --page 8690
  python -m device_apps.voice_assistant calibrate alexa words/ home/
  python -m device_apps.voice_assistant mute                     closes the microphone, also of one that runs"""
QUIET = frozenset({"level", "meter"})


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse, run one command, and return its exit code: 0 done, 1 a check failed, 2 bad input, 3 the environment."""
    printable_streams()
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given and given[0].startswith("-") and given[0] not in {"-h", "--help"}:
        given.insert(0, "run")
    options = _parser().parse_args(given)
    return exit_code(lambda: options.command(options))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="voice-assistant",
        description="The voice assistant. Without a command it runs: --mic SOURCE.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    run = commands.add_parser(
        "run", help="listen, and act", epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    run.add_argument(
        "--mic", required=True, metavar="SOURCE",
        help="default, a device's number or name, pulse[:SOURCE], fifo:PATH, tcp://HOST:PORT, a .wav",
    )  # fmt: skip
    run.add_argument("--config", type=Path, metavar="FILE", help="the settings (voice-assistant.toml of the state)")
    run.add_argument("--fast", action="store_true", help="play a file as fast as it can be heard")
    run.add_argument("--page", type=int, metavar="PORT", help="show the page on this port, for this machine")
    run.add_argument("--wyoming", type=int, metavar="PORT", help="serve Wyoming on this port, for this machine")
    run.add_argument("--seconds", type=float, metavar="S", help="stop after so long")
    run.add_argument("--json", action="store_true", help="print every event but the levels as a line of JSON")
    run.set_defaults(command=_run)

    init = commands.add_parser("init", help="take models and write the settings")
    init.add_argument(
        "--wake", action="append", required=True, metavar="[NAME=]MODEL",
        help="micro:alexa (of pymicro-wakeword), a microWakeWord .json, or a one-step model; again for more",
    )  # fmt: skip
    init.add_argument("--activity", type=Path, metavar="MODEL", help="TinyVAD or Silero (else by energy, without one)")
    init.add_argument(
        "--recogniser", default="sphinx", metavar="KIND[:FILE]",
        help="sphinx, sphinx:GRAMMAR, letters:MODEL, keywords:MODEL, ctc:MODEL (%(default)s)",
    )  # fmt: skip
    init.add_argument("--labels", type=Path, metavar="FILE", help="a word in each line, or SpellingCNN's meta.json")
    init.add_argument("--sentences", type=Path, metavar="YAML", help="Home Assistant's sentence templates")
    init.add_argument("--replace", action="store_true", help="write settings that are there anew")
    init.set_defaults(command=_init)

    calibrate = commands.add_parser("calibrate", help="a wake word's operating point and second stage for this home")
    calibrate.add_argument("word", metavar="WORD")
    calibrate.add_argument("words", type=Path, metavar="WORDS", help="a folder of wav files, the word in each")
    calibrate.add_argument("home", type=Path, metavar="HOME", help="a folder of wav files without the word")
    calibrate.add_argument("--per-hour", type=float, default=0.5, metavar="N", help="false accepts to allow (0.5)")
    calibrate.set_defaults(command=_calibrate)

    for name, says in (("mute", "close the microphone"), ("unmute", "let it be opened")):
        command = commands.add_parser(name, help=f"{says}, also of an assistant that runs; it lasts over a restart")
        command.set_defaults(command=_mute if name == "mute" else _unmute)

    meter = commands.add_parser("meter", help="wake words heard, and false accepts an hour with their bound")
    meter.set_defaults(command=_meter)

    feedback = commands.add_parser(
        "feedback", help="what was kept as wrong: list, label, delete, export for retraining"
    )
    feedback.add_argument("action", choices=["list", "label", "delete", "export"])
    feedback.add_argument("what", nargs="?", metavar="CASE|FOLDER")
    feedback.add_argument("label", nargs="?", metavar="LABEL")
    feedback.set_defaults(command=_feedback)

    password = commands.add_parser("password", help="give the page its password, which is asked for")
    password.set_defaults(command=_password)
    key = commands.add_parser("webhook-key", help="the key that signs what the webhook posts")
    key.set_defaults(command=_webhook_key)

    for command in commands.choices.values():
        command.add_argument(
            "--state", type=Path, default=Path("~/.local/state/edgetool/voice-assistant"), metavar="FOLDER",
            help="where the assistant keeps settings and models (%(default)s)",
        )  # fmt: skip
    return parser


def _state(options: argparse.Namespace) -> "State":
    """The state that `init` made; nothing is made here."""
    from device_apps.voice_assistant.state import SETTINGS, open_state
    from edge.errors import BadInput

    folder = options.state.expanduser()
    if not (folder / SETTINGS).exists():
        raise BadInput(f"there is no assistant at {folder}: it has no {SETTINGS}", "`init` makes one")
    return open_state(folder)


def _open(options: argparse.Namespace) -> "tuple[State, Policy]":
    from device_apps.voice_assistant.policy import read_policy

    state = _state(options)
    return state, read_policy(getattr(options, "config", None) or state.policy)


def _run(options: argparse.Namespace) -> None:
    from device_apps.clock import SystemClock
    from device_apps.voice_assistant.run import Running, run

    state, policy = _open(options)
    listener: Listener = _json if options.json else _Console()
    told = Running(options.mic, options.fast, options.seconds, options.page, options.wyoming)
    run(state, policy, told, SystemClock(), (listener,))


def _json(event: "Event") -> None:
    if event.kind != "level":
        _print(event.as_json())


class _Console:
    """Prints what happens, for people."""

    def __call__(self, event: "Event") -> None:
        if event.kind in QUIET:
            return
        fields = dict(event.fields)
        if event.kind == "wake":
            _print(f"wake     {fields['word']} {fields['score']:.2f}")
        elif event.kind == "heard":
            _print(f"heard    {fields['text']!r} ({fields['confidence']:.2f})")
        elif event.kind == "intent":
            slots = " ".join(f"{name}={value}" for name, value in fields["slots"].items())
            spent = "  ".join(f"{name} {ms:.1f}" for name, ms in fields["stages_ms"].items())
            what = f"{fields['intent']} {slots}" if fields["intent"] else f"I don't know: {fields['why']}"
            _print(f"intent   {what}   [{spent}  after the hang-over {fields['after_hangover_ms']:.0f} ms]")
            _print(f"{'done' if fields['done'] else 'not done':<8} {fields['reply']}")
        elif event.kind in {"fault", "fault ended"}:
            _print(f"{event.kind:<8} {fields['source']}: {fields['reason'] or 'ok'}")
        else:
            _print(f"{event.kind:<8} {json.dumps(fields, ensure_ascii=False) if fields else ''}".rstrip())


def _init(options: argparse.Namespace) -> None:
    from device_apps.voice_assistant.commands import Given, initialise
    from device_apps.voice_assistant.state import open_state

    state = open_state(options.state)
    given = Given(tuple(options.wake), options.activity, options.recogniser, options.labels, options.sentences)
    policy = initialise(state, given, replace=options.replace)
    for word, rule in policy.wake.items():
        _print(f"wake {word}: {rule.kind}, above {rule.threshold:g} in the mean of {rule.window}")
    _print(f"activity {policy.activity.kind}, recogniser {policy.recogniser.kind}")
    _print(f"settings  {state.policy}\nkey       {state.key.origin}")


def _calibrate(options: argparse.Namespace) -> None:
    from device_apps.voice_assistant.commands import calibrated

    found, shares = calibrated(*_open(options), options.word, options.words, options.home, options.per_hour, _say)
    _print(
        f"threshold {found.threshold:g}: {found.missed} of {found.words} words missed, {found.false_accepts} false "
        f"accepts in {found.hours:.2f} h (at most {found.upper95_per_h:.2f} an hour, 95 %)"
    )
    if shares is None:
        _print("no second stage: 20 recordings of the word, and half a minute of the home, are needed")
    else:
        _print(f"second stage: passes {shares[0]:.1%} of the words, {shares[1]:.1%} of other sound, in five folds")


def _mute(options: argparse.Namespace) -> None:
    _state(options).mute()
    _print("the microphone is closed, or will be within a second where an assistant runs")


def _unmute(options: argparse.Namespace) -> None:
    _state(options).unmute()
    _print("the microphone may be opened")


def _meter(options: argparse.Namespace) -> None:
    _print(json.dumps(_state(options).meter().reading.as_plain()))


def _feedback(options: argparse.Namespace) -> None:
    from device_apps.voice_assistant.commands import feedback_table
    from edge.errors import BadRecipe

    state, policy = _open(options)
    cases = state.cases(policy.feedback.days)
    if options.action == "list":
        for row in feedback_table(state, policy):
            _print(json.dumps(row, ensure_ascii=False))
        return
    if options.what is None or (options.action == "label" and options.label is None):
        raise BadRecipe(
            f"feedback {options.action} needs more words", "feedback label CASE LABEL, feedback export FOLDER"
        )
    if options.action == "label":
        cases.label(options.what, options.label)
        _print(f"{options.what} is {options.label}")
    elif options.action == "delete":
        cases.delete(options.what)
        _print(f"{options.what} is deleted")
    else:
        count = cases.export(Path(options.what))
        _print(f"{count} labelled recordings in {options.what}, a folder for each label: --data {options.what}")


def _password(options: argparse.Namespace) -> None:
    import getpass

    state = _state(options)
    entered = getpass.getpass("Password: ") if sys.stdin.isatty() else sys.stdin.readline().rstrip("\n")
    state.password().set(entered)
    _print("the page has a password")


def _webhook_key(options: argparse.Namespace) -> None:
    from device_apps.voice_assistant.network import webhook_key

    _print(webhook_key(_state(options)).hex())


def _print(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _say(line: str) -> None:
    sys.stderr.write(line + "\n")


if __name__ == "__main__":
    sys.exit(main())
