"""A page's server, in a thread of its own."""

import socket
import threading
from typing import TYPE_CHECKING, Any

from edge.errors import EnvironmentFailed

if TYPE_CHECKING:
    from fastapi import FastAPI

MAX_CONNECTIONS = 32


class Server:
    """Serves an app on a port (0: any free one, which `port` then is).

    Raises:
        EnvironmentFailed: the port cannot be had.

    """

    def __init__(self, app: "FastAPI", host: str, port: int) -> None:
        import uvicorn

        try:
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            self._socket = socket.create_server((host, port), family=family)
        except OSError as error:
            raise EnvironmentFailed(f"no page at {host}:{port}: {error.strerror or error}") from error
        self.port: int = self._socket.getsockname()[1]
        options: dict[str, Any] = {"loop": "asyncio", "http": "h11", "ws": "none", "lifespan": "off"}
        config = uvicorn.Config(
            app, log_level="critical", access_log=False, limit_concurrency=MAX_CONNECTIONS, server_header=False,
            timeout_keep_alive=5, timeout_graceful_shutdown=1, **options,
        )  # fmt: skip
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(
            target=self._server.run, kwargs={"sockets": [self._socket]}, name="page", daemon=True
        )

    def start(self) -> None:
        """Begin to serve."""
        self._thread.start()

    def stop(self) -> None:
        """Stop serving; what still streams is left behind."""
        self._server.should_exit = True
        self._thread.join(timeout=3.0)
        self._socket.close()
