"""A real server process on a free loopback port, and a client of it."""

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[3]
TOKEN = "test-token-0123456789"
STOP_S = 30


class Server:
    """`edgetool serve` in a process; `lines` is what it printed when it was ready."""

    def __init__(self, *bundles, options=(), token=TOKEN):
        given = () if token is None or "--token-file" in options else ("--token", token)
        command = [sys.executable, "-m", "edgetool", "serve", *map(str, bundles), "--port", "0", *given, *options]
        self.token = token
        self.process = subprocess.Popen(
            command, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        self.lines = []
        for line in self.process.stdout:
            self.lines.append(line.rstrip("\n"))
            if line.startswith("curl"):
                break
        if not self.lines:
            out, err = self.process.communicate(timeout=STOP_S)
            raise AssertionError(f"exit {self.process.returncode}: {out}{err}")
        self.host, _, port = self.lines[0].rpartition("/")[2].rpartition(":")
        self.port = int(port)

    def ask(self, path, body=None, content_type="application/json", method=None, headers=None, token=None):
        """Status, headers and body (decoded where it is JSON) of one request on a connection of its own."""
        if isinstance(body, (dict, list)):
            body = json.dumps(body)
        sent = dict(headers or {})
        if body is not None and content_type:
            sent.setdefault("Content-Type", content_type)
        secret = self.token if token is None else token
        if secret:
            sent.setdefault("Authorization", f"Bearer {secret}")
        connection = http.client.HTTPConnection(self.host, self.port, timeout=STOP_S)
        with contextlib.closing(connection):
            connection.request(method or ("GET" if body is None else "POST"), path, body, sent)
            response = connection.getresponse()
            content = response.read()
        if response.headers.get_content_type() == "application/json":
            content = json.loads(content)
        return response.status, response.headers, content

    def predict(self, name, inputs, **options):
        """As `ask`, of one model with JSON inputs."""
        status, _, content = self.ask(f"/v1/models/{name}/predict", {"inputs": inputs}, **options)
        return status, content

    def connect(self):
        """A raw connection."""
        return socket.create_connection((self.host, self.port), timeout=STOP_S)

    def metric(self, line):
        """The value of one series: `edgetool_predict_calls_total{model="fake"}`."""
        text = self.ask("/metrics")[2].decode()
        return next((float(row.rpartition(" ")[2]) for row in text.splitlines() if row.startswith(line + " ")), None)

    def stop(self, number=signal.SIGTERM):
        """The exit code after a signal, and what was written to stderr."""
        self.process.send_signal(number)
        return self.wait()

    def wait(self):
        """The exit code, and what was written to stderr."""
        _, err = self.process.communicate(timeout=STOP_S)
        return self.process.returncode, err

    def children(self):
        """The process ids of its workers."""
        return [int(pid) for pid in _read(f"/proc/{self.process.pid}/task/{self.process.pid}/children").split()]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.process.stdout.close()
        self.process.stderr.close()


def refused(*bundles, options=()):
    """Exit code and stderr of a server that must not start."""
    command = [sys.executable, "-m", "edgetool", "serve", *map(str, bundles), "--port", "0", *options]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=STOP_S, check=False)
    assert not done.stdout
    return done.returncode, done.stderr


def _read(path):
    return Path(path).read_text()
