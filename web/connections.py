"""
Connections that come to nothing: those that send no request, or a byte now and then, and those that take no answer.

uvicorn gives a request and its reader all the time in the world. Here every connection has some seconds for the head of
a request, from its beginning or from the first byte of the next, and for taking what it is sent.
"""

import socket

try:
    import resource
except ImportError:  # Windows
    resource = None

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

HEAD_SECONDS = 10
TAKING_SECONDS = 20
HELD_BYTES = 64 * 1024  # for a reader who does not take them, in this process and again in the system
CLOSING_SECONDS = 2  # for readers to be told that the server ends


class Connection(H11Protocol):
    """What uvicorn knows of one connection, with deadlines."""

    head = taking = None  # the timers that run

    def connection_made(self, transport):
        super().connection_made(transport)
        transport.set_write_buffer_limits(high=HELD_BYTES)
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, HELD_BYTES)
        self.head = self.loop.call_later(HEAD_SECONDS, transport.abort)

    def data_received(self, data):
        super().data_received(data)
        if self.cycle is not None and not self.cycle.response_complete:  # a whole head has arrived
            self.head = self.stop(self.head)
        elif self.head is None:
            self.head = self.loop.call_later(HEAD_SECONDS, self.transport.abort)

    def pause_writing(self):
        super().pause_writing()
        self.taking = self.taking or self.loop.call_later(TAKING_SECONDS, self.transport.abort)

    def resume_writing(self):
        super().resume_writing()
        self.taking = self.stop(self.taking)

    def connection_lost(self, error):
        super().connection_lost(error)
        self.head, self.taking = self.stop(self.head), self.stop(self.taking)

    def stop(self, timer):
        if timer is not None:
            timer.cancel()


class Server(uvicorn.Server):
    """An application served over such connections. Told to leave, it ends what writers are writing, so that nobody
    waits for it. proxy is the address of one that is believed whom it forwards for."""

    def __init__(self, app, writers, proxy=None):
        super().__init__(uvicorn.Config(
            app, http=Connection, ws="none", lifespan="off", log_config=None, log_level="error", access_log=False,
            server_header=False, proxy_headers=proxy is not None, forwarded_allow_ips=proxy or "",
            timeout_graceful_shutdown=CLOSING_SECONDS))
        self.writers = writers

    def handle_exit(self, sig, frame):
        for writer in self.writers:
            writer.close()
        super().handle_exit(sig, frame)


def allow_many():
    """Let this process hold as many connections as the system lets it: by default they are often about a thousand, and
    one more would keep all others waiting."""
    if resource is not None:
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
