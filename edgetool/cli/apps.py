"""`edgetool run APP`, `edgetool door-lock`, `edgetool voice-assistant`: the device apps, with their own command lines.

A device has no typer: the apps parse their arguments themselves, and what stands behind these commands goes to them
as it is.
"""

from collections.abc import Callable, Sequence

import typer

from edge.errors import BadRecipe, UnknownName

# Everything, --help too, is the app's
FORWARD = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}
APPS = ("door-lock", "voice-assistant")


def run(context: typer.Context) -> None:
    """Run a device app here: `edgetool run door-lock --camera SOURCE`.

    \b
    Examples:
      edgetool run door-lock --camera 0 --keypad
      edgetool run door-lock --camera rtsp://camera/stream --json
      edgetool run door-lock --help
      edgetool run voice-assistant --mic pulse
      edgetool run voice-assistant --mic command.wav --fast --json
    """
    name, *arguments = context.args or [""]
    if name in {"-h", "--help"}:
        typer.echo(f"usage: edgetool run APP ...   (one of: {', '.join(APPS)})")
        return
    if not name:
        raise BadRecipe("edgetool run needs the name of an app", f"one of: {', '.join(APPS)}")
    _app(name)(["run", *arguments])


def door_lock(context: typer.Context) -> None:
    """The door lock's own commands: init, calibrate, enrol, people, pin, audit.

    \b
    Examples:
      edgetool door-lock enrol Ann --camera 0
      edgetool door-lock people
      edgetool door-lock audit verify
    """
    _app("door-lock")(context.args or ["--help"])


def voice_assistant(context: typer.Context) -> None:
    """The voice assistant's own commands: init, calibrate, mute, unmute, meter, feedback, password.

    \b
    Examples:
      edgetool voice-assistant init --wake micro:alexa --sentences home.yaml
      edgetool voice-assistant calibrate alexa words/ home/
      edgetool voice-assistant mute
    """
    _app("voice-assistant")(context.args or ["--help"])


def _app(name: str) -> Callable[[Sequence[str]], None]:
    if name not in APPS:
        raise UnknownName("app", name, APPS)
    if name == "door-lock":
        from device_apps.door_lock.__main__ import main
    else:
        from device_apps.voice_assistant.__main__ import main

    def call(arguments: Sequence[str]) -> None:
        code = main(arguments)
        if code:
            raise typer.Exit(code)

    return call
