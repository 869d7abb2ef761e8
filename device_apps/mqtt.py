"""A connection to an MQTT broker that says within a second when it is gone, and an anchor for an audit record there.

One thread connects, reads, and connects again. TCP alone notices a broker that hangs after minutes, and MQTT's
keep-alive after 1.5 times its seconds; so a small message is published again and again, and its receipt is waited for.
"""

import json
import queue
import socket
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from device_apps.audit import Head
from device_apps.clock import Clock, SystemClock
from edge.errors import BadInput, EnvironmentFailed, RuntimeMissing

if TYPE_CHECKING:
    from paho.mqtt.client import Client, MQTTMessage

BEAT_S, SILENT_S = 0.3, 0.9
CONNECT_S, RETRY_S, KEEPALIVE_S = 2.0, 1.0, 10
MAX_QUEUED = 100
FETCH_S = 3.0

OnMessage = Callable[[str, bytes, bool], None]


@dataclass(frozen=True)
class Broker:
    """Where the broker is. `topic` begins all topics; `password_file` and `ca_file` stand in the state folder, or
    anywhere with their whole path; with `ca_file` the connection is TLS and the broker's certificate is checked.
    """

    host: str
    port: int = 1883
    topic: str = "edgetool/door-lock"
    user: str = ""
    password_file: str = ""
    ca_file: str = ""

    def __post_init__(self) -> None:
        if not self.host or not 1 <= self.port <= 65535:
            raise ValueError("host is not empty, port is 1 to 65535")
        if not self.topic or self.topic[0] in "/$" or self.topic[-1] == "/" or set(self.topic) & set("+#\0"):
            raise ValueError("topic is not empty, begins with neither / nor $, and holds neither + nor #")

    def password(self, folder: Path) -> str:
        """The password. Raises BadInput: its file cannot be read."""
        path = folder / self.password_file
        try:
            return path.read_text().strip() if self.password_file else ""
        except (OSError, UnicodeDecodeError) as error:
            raise BadInput(f"the broker's password in {path} cannot be read: {error}") from error


class Mqtt:
    """A connection. What is published as retained is published again after each connection that was lost.

    `heard` gets the topic, the payload, and whether it was retained, of each message on `topics`, in the connection's
    thread. `will` is a topic that says `online` while the connection lasts and `offline` after.

    Raises:
        BadInput: the password, or the certificate to check the broker's against, cannot be read.
        RuntimeMissing: paho-mqtt is not installed.

    """

    def __init__(
        self,
        broker: Broker,
        folder: Path,
        clock: Clock,
        *,
        topics: tuple[str, ...] = (),
        heard: OnMessage | None = None,
        will: str | None = None,
    ) -> None:
        self.broker, self.folder = broker, folder
        self._clock, self._topics, self._heard, self._will = clock, topics, heard, will
        self._client = _client(broker, folder)
        self._client.on_connect = self._connected
        self._client.on_disconnect = self._disconnected
        self._client.on_message = self._message
        self._client.on_publish = self._published
        if will is not None:
            self._client.will_set(will, "offline", qos=1, retain=True)
            self._retained: dict[str, bytes] = {will: b"online"}
        else:
            self._retained = {}
        self._lock = threading.Lock()
        self._reason: str | None = "the broker is not connected yet"
        self._beat: int | None = None
        self._beaten_s = self._answered_s = float("-inf")
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="mqtt", daemon=True)

    def start(self) -> None:
        """Begin to connect."""
        self._thread.start()

    def stop(self) -> None:
        """Say `offline` and disconnect; a broker that hangs is left behind."""
        if self._reason is None and self._will is not None:
            self._client.publish(self._will, "offline", qos=1, retain=True)
        self._stopping.set()
        self._thread.join(timeout=2.0)

    def publish(self, topic: str, payload: bytes, *, retain: bool = False, qos: int = 1) -> None:
        """Publish from any thread; returns at once. Without a connection what is not retained is left out."""
        with self._lock:
            if retain:
                self._retained[topic] = payload
            connected = self._reason is None
        if connected:
            self._client.publish(topic, payload, qos=qos, retain=retain)

    def fault(self, now_s: float) -> str | None:
        """Why the broker cannot be reached now; None where it answered within the last 0.9 s."""
        if self._reason is not None:
            return self._reason
        return f"the broker is silent for {SILENT_S:g} s" if now_s - self._answered_s > SILENT_S else None

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._client.connect(self.broker.host, self.broker.port, keepalive=KEEPALIVE_S)
            except ssl.SSLError as error:
                why = getattr(error, "verify_message", "") or error.reason or str(error)
                self._lose(f"the broker's TLS is refused: {why}")
            except (OSError, ValueError) as error:
                self._lose(f"the broker {self.broker.host}:{self.broker.port} does not answer: {error}")
            else:
                self._serve()
            self._stopping.wait(RETRY_S)

    def _serve(self) -> None:
        """Read and write until the connection is lost or stopped."""
        while not self._stopping.is_set():
            code = self._client.loop(timeout=0.1)
            if code:
                self._lose(self._reason or "the broker is gone")
                return
            self._beat_now()
        for _ in range(5):  # what is on its way: the will
            self._client.loop(timeout=0.05)
        self._client.disconnect()

    def _beat_now(self) -> None:
        now = self._clock.monotonic()
        if self._reason is None and self._beat is None and now - self._beaten_s >= BEAT_S:
            self._beaten_s = now
            self._beat = self._client.publish(f"{self.broker.topic}/heartbeat", b"", qos=1).mid

    def _lose(self, reason: str) -> None:
        with self._lock:
            self._reason, self._beat = reason, None

    def _connected(self, _client: "Client", _data: Any, _flags: Any, code: Any, _properties: Any) -> None:
        if code.is_failure:
            self._lose(f"the broker refuses: {code}")
            return
        if self._topics:
            self._client.subscribe([(topic, 0) for topic in self._topics])
        with self._lock:
            self._answered_s, self._reason = self._clock.monotonic(), None
            retained = dict(self._retained)
        for topic, payload in retained.items():
            self._client.publish(topic, payload, qos=1, retain=True)

    def _disconnected(self, _client: "Client", _data: Any, _flags: Any, code: Any, _properties: Any) -> None:
        if self._reason is None:
            self._lose("the broker is gone" if code.is_failure else "the broker was left")

    def _message(self, _client: "Client", _data: Any, message: "MQTTMessage") -> None:
        if self._heard is not None:
            self._heard(message.topic, bytes(message.payload), message.retain)

    def _published(self, _client: "Client", _data: Any, number: int, _code: Any, _properties: Any) -> None:
        self._answered_s = self._clock.monotonic()
        if number == self._beat:
            self._beat = None


def _client(broker: Broker, folder: Path) -> "Client":
    try:
        from paho.mqtt.client import Client
        from paho.mqtt.enums import CallbackAPIVersion
    except ImportError:
        raise RuntimeMissing("paho-mqtt is not installed", "pip install 'edgetool[apps]'") from None
    client = Client(CallbackAPIVersion.VERSION2)
    client.connect_timeout = CONNECT_S
    client.max_queued_messages_set(MAX_QUEUED)
    client.on_socket_open = _without_delay
    if broker.user:
        client.username_pw_set(broker.user, broker.password(folder))
    if broker.ca_file:
        path = folder / broker.ca_file
        try:
            client.tls_set(str(path))
        except (OSError, ValueError) as error:
            raise BadInput(f"the certificate {path} cannot be read: {error}") from error
    return client


def _without_delay(_client: "Client", _data: Any, opened: Any) -> None:
    """A small message goes at once: Nagle's algorithm would hold it back for 40 ms."""
    opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


class MqttAnchor:
    """The head of an audit record as a retained message. It is published, never waited for: a broker that is gone is
    a fault of its own, and gets the newest head when it is back.
    """

    def __init__(self, mqtt: Mqtt, topic: str) -> None:
        self._mqtt, self._topic = mqtt, topic

    def keep(self, head: Head) -> None:
        self._mqtt.publish(self._topic, json.dumps({"seq": head.seq, "mac": head.mac}).encode(), retain=True)

    def kept(self) -> Head | None:
        """By a connection of its own. Raises EnvironmentFailed: the broker cannot be reached."""
        payload = fetched(self._mqtt.broker, self._mqtt.folder, self._topic)
        if not payload:
            return None
        try:
            data = json.loads(payload)
            return Head(int(data["seq"]), str(data["mac"]))
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise BadInput(f"the anchor {self._topic} on the broker is damaged: {error}") from error


def fetched(broker: Broker, folder: Path, topic: str) -> bytes | None:
    """The retained message of a topic; None where the broker holds none.

    Raises:
        EnvironmentFailed: the broker cannot be reached, or lets nobody read the topic.

    """
    found: queue.Queue[bytes] = queue.Queue()
    clock = SystemClock()
    mqtt = Mqtt(broker, folder, clock, topics=(topic,), heard=lambda _topic, payload, _retained: found.put(payload))
    mqtt.start()
    try:
        return found.get(timeout=FETCH_S)
    except queue.Empty:
        fault = mqtt.fault(clock.monotonic())
        if fault is not None:
            raise EnvironmentFailed(fault, "is the broker there, and are user and password right?") from None
        return None
    finally:
        mqtt.stop()
