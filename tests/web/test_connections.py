"""Real sockets: many at once, slow ones, silent ones, huge ones; none of them keeps the others waiting."""

import contextlib
import re
import socket
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.support.serving import serving, texts_of
from web import connections, limits


@pytest.fixture(scope="module")
def site():
    connections.allow_many()
    with serving(rows=16, most_waiting=300) as site:
        yield site


@pytest.fixture
def impatient(monkeypatch):
    """A server that waits for nobody longer than half a second."""
    monkeypatch.setattr(connections, "HEAD_SECONDS", 0.5)
    monkeypatch.setattr(connections, "TAKING_SECONDS", 0.5)
    monkeypatch.setattr(connections, "HELD_BYTES", 2048)
    monkeypatch.setattr(limits, "BODY_SECONDS", 0.5)
    with serving(rows=2) as site:
        yield site


def connect(site):
    return socket.create_connection(("127.0.0.1", site.port), timeout=30)


def left(opened):
    """Whether the server has ended a connection; waits for it."""
    with contextlib.suppress(ConnectionResetError):
        while opened.recv(65536):
            pass
    return True


def test_two_hundred_readers_at_once_each_get_their_own_text(site):
    def read(seed):
        with site.open(seed=seed, temp=2, tokens=20) as opened:
            received = b""
            while b"event: end" not in received:
                received += opened.recv(65536)
        [(text, _)] = texts_of(re.sub(r"\r\n[0-9a-f]+\r\n", "", received.decode()) + "\n\n")
        return text

    with ThreadPoolExecutor(200) as readers:
        texts = list(readers.map(read, range(200)))
    assert all(texts) and len(set(texts)) > 150
    [(same, _)] = site.write(seed=7, temp=2, tokens=20)
    assert same == texts[7]
    site.wait_for(writing=0, waiting=0)


def test_a_thousand_connections_that_say_nothing_keep_nobody_waiting(site):
    with contextlib.ExitStack() as stack:
        for _ in range(1000):
            stack.enter_context(connect(site))
        started = time.monotonic()
        assert site.write(seed=7) and time.monotonic() - started < 10


def test_whoever_sends_no_request_or_a_byte_now_and_then_is_left(impatient):
    silent, slow = connect(impatient), connect(impatient)
    slow.sendall(b"GET / HT")
    assert left(silent) and left(slow)
    again = connect(impatient)  # and so it is after a first request
    again.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
    assert b"200 OK" in again.recv(65536)
    again.sendall(b"GET /hea")
    assert left(again)


def test_whoever_does_not_send_a_body_to_its_end_is_answered_and_left(impatient):
    opened = connect(impatient)
    opened.sendall(b"POST /write HTTP/1.1\r\nHost: x\r\nContent-Length: 50\r\n\r\n{")
    assert b" 408 " in opened.recv(65536) and left(opened)


def test_a_reader_who_takes_nothing_is_left_and_holds_no_row(impatient):
    opened = socket.socket()
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)  # little is taken for it by the system
    opened.connect(("127.0.0.1", impatient.port))
    body = b'{"ending": "the end.", "tokens": 1000000, "n": 2}'
    opened.sendall(b"POST /write HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
    impatient.wait_for(writing=2, waiting=0)
    impatient.wait_for(writing=0, waiting=0)
    opened.close()


def test_a_reader_who_is_slow_has_the_whole_text_in_the_end(site):
    with site.open(seed=7, tokens=300) as opened:
        received = b""
        while b"event: end" not in received:
            received += opened.recv(200)
            time.sleep(0.001)
    assert texts_of(re.sub(r"\r\n[0-9a-f]+\r\n", "", received.decode()) + "\n\n") == site.write(seed=7, tokens=300)


@pytest.mark.parametrize("head", [b"Content-Length: 100000000", b"Transfer-Encoding: chunked"])
def test_a_body_of_a_hundred_megabytes_is_refused_and_not_read(site, head):
    sent, opened = 0, connect(site)
    part = b"x" * 65536 if b"Length" in head else b"10000\r\n" + b"x" * 65536 + b"\r\n"
    with contextlib.suppress(ConnectionError):
        opened.sendall(b"POST /write HTTP/1.1\r\nHost: x\r\n%s\r\n\r\n" % head)
        while sent < 100_000_000:
            sent += opened.send(part)
    with contextlib.suppress(ConnectionError):
        assert b" 413 " in opened.recv(65536)
    assert sent < 50_000_000  # what the system holds for both
    assert site.write(seed=7)


def test_what_is_no_http_is_answered_and_left(site):
    for sent in (b"\x16\x03\x01\x02\x00\x01\x00" * 30, b"GET / HTTP/1.1\r\nx: " + b"y" * 100_000, b"\0\r\n\r\n" * 500):
        with connect(site) as opened:
            opened.sendall(sent)
            assert b" 400 " in opened.recv(65536) and left(opened)
    assert site.write(seed=7)


def test_a_connection_that_is_open_on_one_side_alone_holds_no_row(site):
    opened = site.open(tokens=10**6)
    site.wait_for(writing=1, waiting=0)
    opened.shutdown(socket.SHUT_WR)
    site.wait_for(writing=0, waiting=0)
    opened.close()


def test_a_server_that_ends_tells_its_readers():
    with serving(rows=1) as site, site.open(tokens=10**6) as opened:
        site.wait_for(writing=1, waiting=0)
        site.served.writer.close()
        received = b""
        while b"event: error" not in received:
            received += opened.recv(65536)
    assert b"The server is closing." in received
