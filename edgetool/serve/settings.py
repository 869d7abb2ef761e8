"""What a server is told, and the words of its command line that need checking."""

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field

from edge.delegates import DEFAULT
from edge.errors import BadRecipe

MAX_WORKERS = 64


@dataclass(frozen=True)
class Settings:
    """How models are served.

    `workers` is how many processes each model runs in, `queue` how many requests may wait for them, and
    `timeout_s` the time that a client has for each of its request's head and body, and a model for its answer.
    """

    host: str = "127.0.0.1"
    port: int = 8080
    delegate: str = DEFAULT
    delegate_settings: Mapping[str, str] = field(default_factory=dict)
    allow_fallback: tuple[str, ...] = ()
    threads: int = 1
    workers: int = 1
    queue: int = 64
    max_body_bytes: int = 8_000_000
    max_connections: int = 128
    timeout_s: float = 10.0

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65535:
            raise BadRecipe(f"port is {self.port}", "0 (any that is free) to 65535")
        for name, value in (("threads", self.threads), ("workers", self.workers), ("max-body", self.max_body_bytes)):
            if value < 1:
                raise BadRecipe(f"{name} is {value}: it must be at least 1")
        if self.workers > MAX_WORKERS:
            raise BadRecipe(f"workers is {self.workers}: at most {MAX_WORKERS}, each is a process with its own model")
        if self.queue < 0:
            raise BadRecipe(f"queue is {self.queue}", "how many requests may wait: 0 or more")
        if not 0 < self.timeout_s <= 3600:
            raise BadRecipe(f"the time limit is {self.timeout_s:g} s", "above 0 and up to an hour")


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
