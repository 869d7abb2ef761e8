import contextlib
import json
import socket
import time

import pytest

HEAD = "POST /v1/models/{model}/predict HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n"
BODY = json.dumps({"inputs": {"input": [0.25, 0.25, 0.25, 0.25]}})


def head(server, *lines, model="fake"):
    return (HEAD.format(model=model, token=server.token) + "".join(f"{line}\r\n" for line in lines) + "\r\n").encode()


def answer(connection):
    """All that comes until the server closes the connection."""
    received = b""
    while piece := connection.recv(65536):
        received += piece
    return received


def test_a_body_that_announces_too_much_is_refused_before_it_is_sent(served):
    with served.connect() as connection:
        connection.sendall(head(served, "Content-Type: image/png", "Content-Length: 100001", "Expect: 100-continue"))
        received = answer(connection)
    assert received.startswith(b"HTTP/1.1 413 ")
    assert b"100 Continue" not in received


@pytest.mark.parametrize("chunked", [True, False])
def test_a_body_that_is_too_large_is_refused_while_it_comes(served, chunked):
    body = b" " * 200_000
    lines = [
        "Content-Type: application/json",
        "Transfer-Encoding: chunked" if chunked else f"Content-Length: {len(body)}",
    ]
    with served.connect() as connection:
        connection.sendall(head(served, *lines))
        for start in range(0, len(body), 10_000):
            piece = body[start : start + 10_000]
            connection.sendall(b"%x\r\n%s\r\n" % (len(piece), piece) if chunked else piece)
        if chunked:
            connection.sendall(b"0\r\n\r\n")
        received = answer(connection)
    assert received.startswith(b"HTTP/1.1 413 ")
    assert json.loads(received.partition(b"\r\n\r\n")[2])["error"]["kind"] == "too_large"


def test_an_endless_chunked_body_is_cut_off(served):
    with served.connect() as connection:
        connection.sendall(head(served, "Content-Type: application/json", "Transfer-Encoding: chunked"))
        chunk, ended = b"2710\r\n" + b" " * 10_000 + b"\r\n", False
        while not ended:
            try:
                connection.sendall(chunk)
            except OSError:
                ended = True
        assert ended


def test_the_largest_body_that_fits_is_answered(served):
    body = BODY + " " * (100_000 - len(BODY))
    assert served.ask("/v1/models/fake/predict", body)[0] == 200
    assert served.ask("/v1/models/fake/predict", body + " ")[0] == 413


def test_a_slow_body_and_a_slow_head_are_cut_off(served):
    with served.connect() as slow_body, served.connect() as slow_head, served.connect() as silent:
        slow_body.sendall(head(served, "Content-Type: application/json", "Content-Length: 50") + b'{"inp')
        slow_head.sendall(b"GET /health HTTP/1.1\r\nHost")
        assert served.predict("fake", {"input": [0, 0, 0, 0]})[0] == 200  # meanwhile others are served
        for connection in (slow_body, slow_head, silent):
            received = answer(connection)
            assert received.startswith(b"HTTP/1.1 408 ")
            assert json.loads(received.partition(b"\r\n\r\n")[2])["error"]["kind"] == "slow_body"


def test_a_head_without_end_is_cut_off(served):
    with served.connect() as connection:
        connection.sendall(b"GET /health HTTP/1.1\r\n")
        received = b""
        try:
            for i in range(10_000):
                connection.sendall(b"X-%d: %s\r\n" % (i, b"x" * 1000))
        except OSError:
            received = b"HTTP/1.1 431 "
        received = received or answer(connection)
    assert received.startswith(b"HTTP/1.1 431 ")


def test_a_client_that_goes_away_leaves_nothing_behind(served):
    with served.connect() as connection:
        connection.sendall(head(served, "Content-Type: application/json", "Content-Length: 50") + b'{"inp')
        connection.shutdown(socket.SHUT_RDWR)
    with served.connect() as connection:
        connection.sendall(
            head(served, "Content-Type: application/json", f"Content-Length: {len(BODY)}") + BODY.encode()
        )
    end = time.monotonic() + 10
    while served.metric('edgetool_pending_requests{model="fake"}') and time.monotonic() < end:
        time.sleep(0.05)
    assert served.metric('edgetool_pending_requests{model="fake"}') == 0
    assert served.predict("fake", {"input": [0, 0, 0, 0]})[0] == 200


@pytest.mark.parametrize(
    "content", [b"\x16\x03\x01\x02\x00", b"GET\r\n\r\n", b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n"]
)
def test_what_is_no_http(served, content):
    with served.connect() as connection:
        connection.sendall(content)
        assert answer(connection).startswith(b"HTTP/1.1 400 ")


def test_requests_on_one_connection(served):
    request = head(served, "Content-Type: application/json", f"Content-Length: {len(BODY)}") + BODY.encode()
    with served.connect() as connection:
        connection.sendall(request * 20)
        received = b""
        while received.count(b"HTTP/1.1 200 OK") < 20 or not received.endswith(b"}}"):
            received += connection.recv(65536)
    assert received.count(b"HTTP/1.1 200 OK") == 20


def test_more_connections_than_are_kept_are_told_so(served):
    with contextlib.ExitStack() as stack:
        for _ in range(128):
            stack.enter_context(served.connect())
        received = answer(stack.enter_context(served.connect()))
        assert received.startswith(b"HTTP/1.1 503 ")
        assert b"retry-after: 1" in received
    assert served.ask("/health")[0] == 200
