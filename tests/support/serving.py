"""A server of the page in this process, over real sockets, and those who ask it."""

import contextlib
import http.client
import json
import re
import socket
import threading
from functools import cache

from backchat.template import STOP_IDS
from sampling.controls import Controls
from sampling.decoding import Decoder
from tests.support.endless import TOKENIZERS, endless_model
from tests.support.processes import wait_until
from web.app import make_app
from web.connections import Server
from web.limits import Rate
from web.served import Served
from web.writing import Writer

ENDING = "the geese slept."


@cache
def decoder(direction):
    """Of a model that writes learned pieces and never stops, if top_k is 20."""
    return Decoder(endless_model(TOKENIZERS[direction]))


def make_served(direction="reverse", rows=4, most_waiting=8, stop_ids=None, chat=False, **changes):
    tokenizer = TOKENIZERS[direction]

    def writer(stop_ids):
        return Writer(decoder(direction), stop_ids, rows, most_waiting, {"model": f"stops at {min(stop_ids)}"})

    return Served("tiny", writer(tokenizer.stop_ids if stop_ids is None else stop_ids), tokenizer,
                  **{"controls": Controls(top_k=20, tokens=30), "rate": Rate(None), "most_tokens": 10**6,
                     "chat": (writer(STOP_IDS), tokenizer) if chat else None, **changes})


class Site:
    """A server that runs: where, and of what."""

    def __init__(self, served, port):
        self.served, self.port, self.url = served, port, f"http://127.0.0.1:{port}"

    def ask(self, method, path, body=None, headers={}):
        """(status, headers, text) of the answer; body is JSON unless it is bytes."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        with contextlib.closing(connection):
            body = body if body is None or isinstance(body, bytes) else json.dumps(body)
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read().decode()

    def post(self, path, **body):
        return self.ask("POST", path, body)

    def write(self, **asked):
        """The new parts of the texts for a request, and whether each is whole."""
        return texts_of(self.post("/write", **{"ending": ENDING, **asked})[2], self.served.direction)

    def open(self, **asked):
        """A socket on which texts are asked for, and not read yet."""
        body = json.dumps({"ending": ENDING, **asked})
        opened = socket.create_connection(("127.0.0.1", self.port), timeout=60)
        opened.sendall(f"POST /write HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode())
        return opened

    def health(self):
        return json.loads(self.ask("GET", "/health")[2])

    def wait_for(self, **expected):
        wait_until(lambda: self.health() == expected, seconds=30)


def events_of(stream):
    """Pairs (kind, content) of a stream's events."""
    return [(kind, json.loads(data)) for kind, data in re.findall(r"^event: (.*)\ndata: (.*)\n\n", stream, re.M)]


def texts_of(stream, direction="backward"):
    texts, whole = {}, {}
    for kind, content in events_of(stream):
        if kind == "text":
            before = texts.get(content["sample"], "")
            new = content["text"]
            texts[content["sample"]] = new + before if direction == "backward" else before + new
        if kind == "end":
            whole[content["sample"]] = content["whole"]
    return [(texts.get(i, ""), whole.get(i)) for i in range(len(whole))]


@contextlib.contextmanager
def serving(served=None, **changes):
    """A Site, while the context lasts."""
    served = served or make_served(**changes)
    listening = socket.create_server(("127.0.0.1", 0), backlog=2048)
    server = Server(make_app(served), served.writers)
    thread = threading.Thread(target=server.run, args=([listening],))
    thread.start()
    try:
        wait_until(lambda: server.started, seconds=30)
        yield Site(served, listening.getsockname()[1])
    finally:
        for writer in served.writers:
            writer.close()
        server.should_exit = True
        thread.join()
