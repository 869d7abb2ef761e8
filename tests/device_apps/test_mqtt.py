"""A connection to a real broker: what it says when that is gone, hangs or refuses, and the anchor it holds."""

import datetime as dt
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from device_apps.audit import AuditLog, Head, verify
from device_apps.clock import FakeClock, SystemClock
from device_apps.mqtt import Broker, Mqtt, MqttAnchor, fetched
from edge.errors import BadInput, CheckFailed, EnvironmentFailed
from tests.device_apps.mosquitto import Mosquitto, soon

CLOCK = SystemClock()


@pytest.fixture
def mosquitto(tmp_path: Path) -> Iterator[Mosquitto]:
    started = Mosquitto(tmp_path / "broker")
    yield started
    started.stop()


@pytest.fixture
def mqtt(mosquitto: Mosquitto, tmp_path: Path) -> Iterator[Mqtt]:
    made = Mqtt(Broker("127.0.0.1", mosquitto.port, "t"), tmp_path, CLOCK, will="t/availability")
    assert made.fault(CLOCK.monotonic()) == "the broker is not connected yet"
    made.start()
    assert soon(lambda: made.fault(CLOCK.monotonic()) is None)
    yield made
    made.stop()


def test_a_broker_that_is_gone_is_a_fault_and_comes_back_with_what_was_retained(
    mosquitto: Mosquitto, mqtt: Mqtt, tmp_path: Path
) -> None:
    mosquitto.stop()
    assert soon(lambda: mqtt.fault(CLOCK.monotonic()))
    mqtt.publish("t/kept", b"newest", retain=True)
    mosquitto.start()
    assert soon(lambda: mqtt.fault(CLOCK.monotonic()) is None)
    assert fetched(mqtt.broker, tmp_path, "t/kept") == b"newest"


def test_a_broker_that_hangs_is_a_fault(mosquitto: Mosquitto, mqtt: Mqtt) -> None:
    mosquitto.process.send_signal(signal.SIGSTOP)
    try:
        assert soon(lambda: "silent" in (mqtt.fault(CLOCK.monotonic()) or ""))
    finally:
        mosquitto.process.send_signal(signal.SIGCONT)
    assert soon(lambda: mqtt.fault(CLOCK.monotonic()) is None)


def test_the_will_says_when_it_is_there(mosquitto: Mosquitto, tmp_path: Path) -> None:
    broker = Broker("127.0.0.1", mosquitto.port, "t")
    mqtt = Mqtt(broker, tmp_path, CLOCK, will="t/availability")
    mqtt.start()
    assert soon(lambda: mqtt.fault(CLOCK.monotonic()) is None)
    assert fetched(broker, tmp_path, "t/availability") == b"online"
    mqtt.stop()
    assert fetched(broker, tmp_path, "t/availability") == b"offline"


def test_a_record_that_was_cut_off_on_the_disk_is_found_out_by_the_broker(mqtt: Mqtt, tmp_path: Path) -> None:
    path, key = tmp_path / "audit.jsonl", bytes(32)
    anchor = MqttAnchor(mqtt, "t/head")
    assert anchor.kept() is None
    log = AuditLog(path, key, FakeClock(), (anchor,))
    for event in ("one", "two"):
        log.append(event, {})
    assert soon(lambda: anchor.kept() == log.head)
    assert verify(path, key, (anchor,)) == log.head
    path.write_bytes(path.read_bytes().splitlines(keepends=True)[0])
    with pytest.raises(CheckFailed, match="cut off"):
        verify(path, key, (anchor,))
    mqtt.publish("t/head", b"damaged", retain=True)
    assert soon(lambda: fetched(mqtt.broker, tmp_path, "t/head") == b"damaged")
    with pytest.raises(BadInput, match="damaged"):
        anchor.kept()


def test_keeping_a_head_never_waits_for_a_broker(tmp_path: Path) -> None:
    mqtt = Mqtt(Broker("127.0.0.1", 9), tmp_path, CLOCK)
    MqttAnchor(mqtt, "t/head").keep(Head(1, "0" * 64))
    with pytest.raises(EnvironmentFailed, match="does not answer"):
        MqttAnchor(mqtt, "t/head").kept()


def fault_of(broker: Broker, folder: Path, wanted: str) -> bool:
    mqtt = Mqtt(broker, folder, CLOCK)
    mqtt.start()
    try:
        return soon(lambda: wanted in (mqtt.fault(CLOCK.monotonic()) or ""))
    finally:
        mqtt.stop()


def test_a_broker_that_refuses_the_password_is_a_fault(tmp_path: Path) -> None:
    password = tmp_path / "password"
    password.write_text("wrong\n")
    mosquitto = Mosquitto(tmp_path / "broker", "allow_anonymous false\n")
    try:
        assert fault_of(Broker("127.0.0.1", mosquitto.port, "t", "ann", "password"), tmp_path, "refuses: Not auth")
    finally:
        mosquitto.stop()


def write_expired_certificate(folder: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    begin = dt.datetime(2020, 1, 1, tzinfo=dt.timezone.utc)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(1).not_valid_before(begin).not_valid_after(begin + dt.timedelta(days=1))
    made = builder.add_extension(x509.BasicConstraints(True, None), True).sign(key, hashes.SHA256())
    (folder / "cert.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    form = (serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / "key.pem").write_bytes(key.private_bytes(serialization.Encoding.PEM, *form))


def test_an_expired_certificate_is_a_fault_that_says_so(tmp_path: Path) -> None:
    folder = tmp_path / "broker"
    folder.mkdir()
    write_expired_certificate(folder)
    mosquitto = Mosquitto(folder, f"allow_anonymous true\ncertfile {folder}/cert.pem\nkeyfile {folder}/key.pem\n")
    try:
        assert fault_of(Broker("localhost", mosquitto.port, "t", ca_file="broker/cert.pem"), tmp_path, "expired")
    finally:
        mosquitto.stop()


def test_files_that_are_missing_are_said(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="password"):
        Mqtt(Broker("h", user="ann", password_file="none"), tmp_path, CLOCK)
    with pytest.raises(BadInput, match="certificate"):
        Mqtt(Broker("h", ca_file="none"), tmp_path, CLOCK)


@pytest.mark.parametrize("wrong", [{"host": ""}, {"port": 0}, {"topic": "a/#"}, {"topic": "$SYS"}, {"topic": ""}])
def test_settings_that_cannot_be_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="is not empty"):
        Broker(**{"host": "h", **wrong})  # type: ignore[arg-type]
