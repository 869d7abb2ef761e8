"""The command line's entry: every command in one table, expected errors in one line, exit codes of design section 4."""

import io
import sys
import traceback
from typing import NoReturn

import typer

from edge import __version__
from edge.errors import EdgetoolError, from_system
from edgetool.cli.apps import FORWARD, door_lock, voice_assistant
from edgetool.cli.apps import run as run_app
from edgetool.cli.bench import bench
from edgetool.cli.bundle import bundle
from edgetool.cli.channel import channel
from edgetool.cli.compress import compress
from edgetool.cli.deploy import deploy, devices, doctor, rollback
from edgetool.cli.export import export
from edgetool.cli.fleet import fleet
from edgetool.cli.inspect import inspect
from edgetool.cli.latency import latency
from edgetool.cli.lists import delegates, passes, targets
from edgetool.cli.models import convert, evaluate
from edgetool.cli.report import report
from edgetool.cli.serve import serve
from edgetool.cli.sign import keys, sign, verify
from edgetool.cli.weights import models

INTERRUPTED = 130
BAD_USAGE = 2

app = typer.Typer(
    name="edgetool",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command in (compress, inspect, convert, evaluate, bench, passes, targets, delegates, report, serve):
    app.command()(command)
for on_device in (deploy, rollback, devices, doctor):
    app.command()(on_device)
app.command("run", context_settings=FORWARD)(run_app)
app.command("door-lock", context_settings=FORWARD)(door_lock)
app.command("voice-assistant", context_settings=FORWARD)(voice_assistant)
for on_bundles in (bundle, sign, verify, export):
    app.command()(on_bundles)
app.add_typer(keys, name="keys")
app.add_typer(latency, name="latency")
app.add_typer(channel, name="channel")
app.add_typer(fleet, name="fleet")
app.add_typer(models, name="models")


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"edgetool {__version__}")
        raise typer.Exit


@app.callback()
def edgetool(
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Print the version."),
) -> None:
    """From a trained model to a verified device, in one command.

    \b
    Examples:
      edgetool compress model.keras --data DATA     prune, quantize, convert, prove, bundle
      edgetool inspect model.tflite                 what is in a model file
      edgetool evaluate model.onnx --data DATA      its metric, with an interval
    """


def main() -> None:
    """Run the command line and exit with its code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal that knows ASCII only loses a sign, not the run
    try:
        # Not in typer's own mode, which swallows Ctrl-C without a word on what happens to the work.
        code = app(standalone_mode=False)
    except typer.Abort:
        code = INTERRUPTED
    except EdgetoolError as error:
        _fail(error)
    except OSError as error:
        _fail(from_system(error) or _bug())
    except Exception as error:  # noqa: BLE001 - the last resort: whatever reaches this is a bug, and says so
        if not hasattr(error, "show"):
            _bug()
        error.show()  # a usage error, which typer words itself
        code = BAD_USAGE
    if code == INTERRUPTED:
        kept = sys.argv[1:2] == ["compress"] or sys.argv[1:3] == ["fleet", "deploy"]
        typer.echo("interrupted" + ("; finished work is kept, --resume goes on" if kept else ""), err=True)
    sys.exit(code)


def _fail(error: EdgetoolError) -> NoReturn:
    typer.echo(f"error: {error.message}", err=True)
    if error.hint:
        typer.echo(f"hint: {error.hint}", err=True)
    sys.exit(error.exit_code)


def _bug() -> NoReturn:
    traceback.print_exc()
    typer.echo("this is a bug in edgetool; please report it with the lines above", err=True)
    sys.exit(70)
