"""The service that a deployed bundle is: the model stays loaded, and answers on a socket of this machine.

`python -m edge.service BASE` opens the current release, replays its golden vectors and then answers one JSON line with
another on `run/service.sock`: {"ask": "health"} runs a golden vector, {"ask": "run", "file": PATH} what
`python -m edge run` does. Under systemd it says when it is ready and feeds the watchdog.
"""

import contextlib
import json
import os
import selectors
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edge.bundle import Bundle
    from edge.engines import Engine

SOCKET = "service.sock"
LINE_LIMIT = 1 << 16
ASK_LIMIT_S = 10.0


def run_folder(base: Path) -> Path:
    """Where the socket is: systemd's runtime folder where it gave one, else the base's own."""
    given = os.environ.get("RUNTIME_DIRECTORY")
    return Path(given) if given else base / "run"


def ask(folder: Path, question: dict[str, Any], limit_s: float) -> dict[str, Any]:
    """One question to the service whose socket is in `folder`.

    Raises:
        OSError: nothing listens there, or it does not answer within the limit.

    """
    with _short(folder) as place, socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(limit_s)
        connection.connect(place)
        connection.sendall(json.dumps(question).encode() + b"\n")
        with connection.makefile("rb") as reader:
            line = reader.readline()
    try:
        answer: dict[str, Any] = json.loads(line)
    except ValueError as error:
        raise ConnectionError("the service ended while it was asked") from error
    return answer


@contextlib.contextmanager
def _short(folder: Path) -> Iterator[str]:
    """The socket's path by way of an open folder: a socket's own may have 107 bytes."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{handle}/{SOCKET}"
    finally:
        os.close(handle)


def serve(base: Path) -> None:
    """Answer until the process is ended.

    Raises:
        CheckFailed: the golden vectors are not met here, or nobody who is trusted signed the bundle.
        EnvironmentFailed: under systemd, the deploy that tried this release died.

    """
    from edge.engines import open_engine
    from edge.errors import EnvironmentFailed
    from edge.releases import interrupted

    release = (base / "current").resolve()
    bundle = _open(base, release)
    engine = open_engine(bundle.model, bundle.manifest.format)
    _replay(bundle, engine)
    folder = run_folder(base)
    folder.mkdir(exist_ok=True)
    (folder / SOCKET).unlink(missing_ok=True)
    with _short(folder) as place, socket.socket(socket.AF_UNIX) as listener:
        listener.bind(place)
        (folder / SOCKET).chmod(0o660)
        listener.listen(8)
        _notify("READY=1")
        watchdog_s = int(os.environ.get("WATCHDOG_USEC", "0")) / 1e6
        selector = selectors.DefaultSelector()
        selector.register(listener, selectors.EVENT_READ)
        while True:
            if selector.select(watchdog_s / 3 or None):
                connection, _ = listener.accept()
                with connection, contextlib.suppress(OSError):
                    _answer(connection, release.name, bundle, engine)
            _notify("WATCHDOG=1")
            if watchdog_s and interrupted(base):  # under systemd: its ExecStartPre puts right what a dead deploy left
                raise EnvironmentFailed("a deploy ended before it confirmed this release")


def _open(base: Path, release: Path) -> "Bundle":
    """The release's bundle; where keys came with it, nothing is parsed that none of them signed."""
    from edge.bundle import parse_bundle, read_bundle
    from edge.releases import BUNDLE, trusted

    path = release / BUNDLE
    content = read_bundle(path)
    keys, certificates = trusted(base, release.name)
    if keys or certificates:
        from edge.trust.signature import Trusted, require_signature

        require_signature(content, path, Trusted(tuple(keys), tuple(certificates)))
    return parse_bundle(content, path)


def _answer(connection: socket.socket, release: str, bundle: "Bundle", engine: "Engine") -> None:
    from edge.errors import EdgetoolError

    connection.settimeout(ASK_LIMIT_S)
    with connection.makefile("rb") as reader:
        line = reader.readline(LINE_LIMIT)
    try:
        question = json.loads(line)
        if question["ask"] == "health":
            answer = {"release": release, "bundle": bundle.sha256, "pid": os.getpid(), **_health(bundle, engine)}
        elif question["ask"] == "run":
            answer = {"results": _run(bundle, engine, Path(question["file"]))}
        else:
            answer = {"error": f"unknown question {question['ask']!r}"}
    except EdgetoolError as error:
        answer = {"error": str(error)}
    except (ValueError, KeyError, TypeError):
        answer = {"error": "a question is a JSON object with ask: health or run"}
    connection.sendall(json.dumps(answer).encode() + b"\n")


def _health(bundle: "Bundle", engine: "Engine") -> dict[str, Any]:
    """The first golden vector through the loaded model."""
    from edge.bundle import Golden

    golden = bundle.golden
    one = Golden({k: v[:1] for k, v in golden.inputs.items()}, {k: v[:1] for k, v in golden.outputs.items()})
    began = time.perf_counter()
    failed = _outside(bundle, engine, one)
    return {"ok": not failed, "ms": (time.perf_counter() - began) * 1e3, "outside": failed}


def _replay(bundle: "Bundle", engine: "Engine") -> None:
    from edge.errors import CheckFailed

    failed = _outside(bundle, engine, bundle.golden)
    if failed:
        raise CheckFailed(f"output {failed[0]!r} is not what the golden vectors say")


def _outside(bundle: "Bundle", engine: "Engine", golden: Any) -> list[str]:
    from edge.answer import outside, replay
    from edge.engines import predict

    return outside(replay(lambda feeds: predict(engine, feeds), golden, engine.inputs), bundle.manifest.tolerance)


def _run(bundle: "Bundle", engine: "Engine", file: Path) -> list[dict[str, Any]]:
    from edge.answer import answer, rank
    from edge.engines import predict
    from edge.preprocess import read_examples

    results = []
    for name, raw in read_examples(file, bundle.preprocess):
        outputs = answer(name, raw, lambda feeds: predict(engine, feeds), bundle.preprocess, engine.inputs)
        plain = {key: values.tolist() for key, values in outputs.items()}
        results.append({"input": name, "top": rank(outputs, bundle.manifest, 1), "outputs": plain})
    return results


def _notify(state: str) -> None:
    """Tell systemd, where it asked to be told (sd_notify(3))."""
    address = os.environ.get("NOTIFY_SOCKET")
    if address:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as connection, contextlib.suppress(OSError):
            connection.sendto(state.encode(), "\0" + address[1:] if address.startswith("@") else address)


def main(arguments: list[str]) -> int:
    """Serve, and put an expected error in one line."""
    from edge.errors import EdgetoolError

    try:
        serve(Path(arguments[0]))
    except EdgetoolError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
