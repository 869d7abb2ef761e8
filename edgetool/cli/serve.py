"""`edgetool serve`: bundles behind HTTP."""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from edgetool.serve.model import ServedModel


def serve(
    bundles: Annotated[list[Path], typer.Argument(metavar="BUNDLE...", help="*.edge, each served under its name.")],
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="The port; 0 is any that is free.")] = 8080,
    delegate: Annotated[str, typer.Option(help="What runs the models: see `edgetool delegates`.")] = "cpu",
    told: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Tell the delegate something.")
    ] = None,
    allow_fallback: Annotated[
        str | None, typer.Option(metavar="OP,…", help="Operations that may run elsewhere than on the delegate.")
    ] = None,
    threads: Annotated[int, typer.Option(help="Threads of each runtime.")] = 1,
    workers: Annotated[int, typer.Option(help="Processes for each model; each answers one request at a time.")] = 1,
    queue: Annotated[int, typer.Option(help="How many requests may wait for a model before others are refused.")] = 64,
    token: Annotated[str | None, typer.Option(help="The token to ask for. Others see it in the process list.")] = None,
    token_file: Annotated[
        Path | None, typer.Option(help="A file with the token, made (mode 600) where there is none.")
    ] = None,
    no_token: Annotated[bool, typer.Option("--no-token", help="Ask for none; on loopback only.")] = False,
    max_body: Annotated[str, typer.Option(help="The largest body of a request.")] = "8MB",
    timeout: Annotated[str, typer.Option(help="For a request to come, and for its answer.")] = "10s",
) -> None:
    """Serve bundles over HTTP: predict, health, metrics and a page to try them.

    Each model is first proven on the golden vectors of its bundle, on this machine and delegate. A token is made and
    printed once, unless you bring one.

    \b
    Examples:
      edgetool serve out/fashion_mnist/fashion_mnist.edge
      edgetool serve kws.edge vad.edge --port 0 --token-file serve.token
      edgetool serve model.edge --host 0.0.0.0 --workers 2 --max-body 2MB
    """
    from edge.errors import BadRecipe
    from edgetool.cli.bench import delegate_settings
    from edgetool.cli.progress import progress_display
    from edgetool.serve import server
    from edgetool.serve.settings import Settings
    from edgetool.serve.token import checked_token, new_token, token_from_file
    from edgetool.units import parse_bytes, parse_milliseconds

    if sum((token is not None, token_file is not None, no_token)) > 1:
        raise BadRecipe("--token, --token-file and --no-token exclude each other", "give one of them")
    settings = Settings(
        host=host,
        port=port,
        delegate=delegate,
        delegate_settings=delegate_settings(told or []),
        allow_fallback=tuple(op.strip() for op in (allow_fallback or "").split(",") if op.strip()),
        threads=threads,
        workers=workers,
        queue=queue,
        max_body_bytes=parse_bytes(max_body, "--max-body"),
        timeout_s=parse_milliseconds(timeout, "--timeout") / 1e3,
    )
    secret, is_new = None, False
    if token is not None:
        secret = checked_token(token, "--token")
    elif token_file is not None:
        secret, is_new = token_from_file(token_file)
    elif not no_token:
        secret, is_new = new_token(), True

    def announce(url: str, models: "Sequence[ServedModel]") -> None:
        for line in _lines(url, models, secret, is_new=is_new, token_file=token_file):
            typer.echo(line)

    with progress_display() as progress:
        server.serve(bundles, settings, secret, progress=progress, announce=announce)


def _lines(
    url: str, models: "Sequence[ServedModel]", token: str | None, *, is_new: bool, token_file: Path | None
) -> list[str]:
    from edgetool.serve.openapi import path_of
    from edgetool.serve.payload import media_types

    lines = [f"serving on {url}"]
    for model in models:
        placement = model.loaded.placement
        emulated = f", emulated by {placement.emulated_by}" if placement.emulated_by else ""
        lines.append(
            f"  {model.name}: {model.loaded.engine} on {placement.actual}{emulated}, {placement.ops_offloaded} of "
            f"{placement.ops_total} operations, golden vectors ok, sha256 {model.bundle.sha256[:12]}"
        )
    first = models[0]
    takes = media_types(first.bundle.preprocess)
    kind, file = {"image/*": ("image/png", "picture.png"), "audio/wav": ("audio/wav", "sound.wav")}.get(
        takes[1] if len(takes) > 1 else "", ("application/json", "input.json")
    )
    curl = ["curl", "-H", f"Content-Type: {kind}", "--data-binary", f"@{file}", url + path_of(first.name)]
    if token is None:
        lines.append("no token is asked for")
        return [*lines, shlex.join(curl)]
    if is_new:
        lines.append(f"token (shown once): {token}")
    if token_file is not None:
        lines.append(f"token in {token_file}")
    # a token that was given is not printed again
    shown = f"Authorization: Bearer {token}" if is_new else "Authorization: Bearer TOKEN"
    return [*lines, shlex.join([*curl[:1], "-H", shown, *curl[1:]])]
