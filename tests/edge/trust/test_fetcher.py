"""What the fetcher takes over https, http and file, and that a certificate of nobody is nobody's."""

import contextlib
import datetime as dt
import ipaddress
import ssl
import threading
from functools import partial
from http.server import HTTPServer, SimpleHTTPRequestHandler

import pytest

pytest.importorskip("tuf")

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from tuf.api.exceptions import DownloadError, DownloadHTTPError, DownloadLengthMismatchError

from edge.trust.fetcher import Fetcher
from tests.edge.trust import signers

CONTENT = bytes(range(256)) * 1000


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@contextlib.contextmanager
def serving(folder, context=None):
    with HTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as server:
        if context is not None:
            server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield f"{'http' if context is None else 'https'}://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def folder(tmp_path):
    served = tmp_path / "a folder"
    served.mkdir()
    (served / "a b.bin").write_bytes(CONTENT)
    return served


@pytest.fixture
def fetcher(tmp_path):
    return Fetcher(tmp_path)


def server_certificate(folder):
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = dt.datetime.now(dt.timezone.utc)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    return signers.write_certificate(folder / "server.pem", made), signers.write_private(folder / "server.key", key)


def test_http_and_file(folder, fetcher):
    with serving(folder) as url:
        assert fetcher.download_bytes(f"{url}/a%20b.bin", len(CONTENT)) == CONTENT
        with pytest.raises(DownloadHTTPError) as caught:
            fetcher.download_bytes(f"{url}/nothing", 10)
        assert caught.value.status_code == 404
    assert fetcher.download_bytes((folder / "a b.bin").as_uri(), len(CONTENT)) == CONTENT
    with pytest.raises(DownloadHTTPError) as caught:
        fetcher.download_bytes((folder / "nothing").as_uri(), 10)
    assert caught.value.status_code == 404


def test_https_with_a_certificate_that_the_device_trusts(folder, fetcher, tmp_path, monkeypatch):
    certificate, key = server_certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with serving(folder, context) as url:
        with pytest.raises(DownloadError, match="CERTIFICATE_VERIFY_FAILED"):
            fetcher.download_bytes(f"{url}/a%20b.bin", len(CONTENT))
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        assert fetcher.download_bytes(f"{url}/a%20b.bin", len(CONTENT)) == CONTENT


def test_no_more_is_taken_than_was_asked_for(folder, fetcher, tmp_path):
    with pytest.raises(DownloadLengthMismatchError):
        fetcher.download_bytes((folder / "a b.bin").as_uri(), len(CONTENT) - 1)
    assert [path.name for path in tmp_path.iterdir()] == [folder.name]


@pytest.mark.parametrize("url", ["ftp://127.0.0.1/a", "data:,a", "/etc/hostname", "http://127.0.0.1:1/a", "http:///a"])
def test_what_cannot_be_fetched_is_an_error_of_downloading(fetcher, url):
    with pytest.raises(DownloadError):
        fetcher.download_bytes(url, 10)
