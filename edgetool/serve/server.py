"""From bundles to a listening server, and from a signal to exit 0 with every request that was taken answered."""

import contextlib
import errno
import os
import signal
import socket
import tempfile
from collections.abc import Callable, Generator, Sequence
from functools import partial
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn

from edge.bundle import Bundle, open_bundle
from edge.errors import BadInput, BadRecipe, EnvironmentFailed, RuntimeMissing
from edge.image import ImageInput
from edgetool.progress import Progress
from edgetool.serve.metrics import Metrics
from edgetool.serve.model import ServedModel
from edgetool.serve.settings import Settings, is_loopback

if TYPE_CHECKING:
    import uvicorn
    from fastapi import FastAPI

# Decoders announce the size of a picture before they fill it: 8 MB of PNG can stand for gigabytes
MAX_PIXELS = 50_000_000


def serve(
    paths: Sequence[Path],
    settings: Settings,
    token: str | None,
    *,
    progress: Progress,
    announce: Callable[[str, Sequence[ServedModel]], None],
) -> None:
    """Serve bundles until SIGTERM or SIGINT. `announce` is told the URL and the models when clients can connect.

    Raises:
        BadRecipe: an address that others can reach, without a token; an address that is none of this machine's.
        BadInput: a bundle that cannot be read, two of one name, or a name that no URL carries.
        CheckFailed: a model does not answer its golden vectors, or fell back from its delegate.
        EnvironmentFailed: the port is taken, a library is missing, a runtime crashes or hangs.

    """
    if token is None and not is_loopback(settings.host):
        raise BadRecipe(
            f"without a token {settings.host} would let everybody on the network in",
            "leave --no-token out, or serve on 127.0.0.1",
        )
    _require_libraries()
    os.environ.setdefault("OPENCV_IO_MAX_IMAGE_PIXELS", str(MAX_PIXELS))
    before = signal.signal(signal.SIGTERM, _interrupt)  # while models load, so that their processes and files go
    try:
        with contextlib.closing(_bound(settings)) as listener, contextlib.ExitStack() as stack:
            bundles = _opened(paths)
            _import_decoders(bundles)
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="edgetool-serve-")))
            metrics, models = Metrics(), []
            for index, bundle in enumerate(bundles):
                name = bundle.manifest.name
                progress.at(index / len(bundles), f"proving {name} on its golden vectors")
                models.append(stack.enter_context(contextlib.closing(ServedModel(bundle, folder, settings, metrics))))
            for model in models:
                model.begin()
            _run(models, settings, token, metrics, listener, announce)
    finally:
        signal.signal(signal.SIGTERM, before)


def _run(
    models: Sequence[ServedModel],
    settings: Settings,
    token: str | None,
    metrics: Metrics,
    listener: socket.socket,
    announce: Callable[[str, Sequence[ServedModel]], None],
) -> None:
    import uvicorn

    from edgetool.serve.app import make_app
    from edgetool.serve.protocol import BoundedProtocol

    class Server(uvicorn.Server):
        """uvicorn's, which raises a signal again after it has stopped in order: here that is success."""

        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            announce(_url(listener), models)

        @contextlib.contextmanager
        def capture_signals(self) -> Generator[None, None, None]:
            kept = {number: signal.signal(number, self.handle_exit) for number in (signal.SIGINT, signal.SIGTERM)}
            try:
                yield
            finally:
                for number, handler in kept.items():
                    signal.signal(number, handler)

        def handle_exit(self, sig: int, frame: FrameType | None) -> None:
            self.force_exit = self.should_exit  # at the second one
            self.should_exit = True

    protocol = partial(BoundedProtocol, settings=settings)
    server = Server(configuration(make_app(models, settings, token, metrics), settings, protocol))
    server.run([listener])
    if server.force_exit:  # what the models still run is not waited for either
        for model in models:
            model.close(0)
        raise KeyboardInterrupt


def configuration(app: "FastAPI", settings: Settings, protocol: Any) -> "uvicorn.Config":
    """How uvicorn runs an application here: requests are not logged, and headers of proxies are not believed."""
    import uvicorn

    return uvicorn.Config(
        app,
        http=protocol,
        loop="uvloop",
        ws="none",
        lifespan="off",
        log_config=None,
        log_level="error",  # a line for every request that is no HTTP would let anybody fill the log
        access_log=False,
        proxy_headers=False,
        server_header=False,
        # body, answer, and a second to send it
        timeout_graceful_shutdown=int(2 * settings.timeout_s + 1),
    )


def _require_libraries() -> None:
    try:
        import fastapi  # noqa: F401
        import httptools  # noqa: F401
        import prometheus_client  # noqa: F401
        import uvicorn  # noqa: F401
        import uvloop  # noqa: F401
    except ImportError as error:
        raise RuntimeMissing(f"{error.name} is not installed", "pip install 'edgetool[serve]'") from None


def _opened(paths: Sequence[Path]) -> list[Bundle]:
    bundles: dict[str, tuple[Path, Bundle]] = {}
    for path in paths:
        bundle = open_bundle(path)
        name = bundle.manifest.name
        # no path of a URL holds a slash, and . and .. are taken out of it
        if not name.isprintable() or "/" in name or name in {"", ".", ".."} or len(name.encode()) > 200:
            raise BadInput(f"{path} is named {name[:80]!r}, which no URL carries", "make the bundle with another name")
        if name in bundles:
            raise BadInput(
                f"{bundles[name][0]} and {path} are both named {name!r}", "serve them on two ports, or rename one"
            )
        bundles[name] = (path, bundle)
    return [bundle for _, bundle in bundles.values()]


def _import_decoders(bundles: Sequence[Bundle]) -> None:
    """What takes a tenth of a second to import is not imported while the first client waits."""
    if any(isinstance(step, ImageInput) for bundle in bundles for step in bundle.preprocess.values()):
        with contextlib.suppress(ImportError):  # pictures other than .pgm and .ppm are then refused with the reason
            import cv2  # noqa: F401


def _bound(settings: Settings) -> socket.socket:
    """A socket on the address, which nobody can connect to before it listens."""
    host = settings.host.strip("[]")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except (socket.gaierror, UnicodeError):
        raise BadRecipe(f"{host!r} is no address", "--host 127.0.0.1, or an address of this machine") from None
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRNOTAVAIL:
            raise BadRecipe(f"{host} is no address of this machine", "--host 127.0.0.1") from None
        hint = "choose another one, or --port 0" if error.errno == errno.EADDRINUSE else "choose a port from 1024 on"
        raise EnvironmentFailed(f"cannot listen on {host} port {settings.port}: {error.strerror}", hint) from None
    return listener


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _interrupt(number: int, frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt
