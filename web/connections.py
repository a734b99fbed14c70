"""
Connections that come to nothing: those that send no request, or a byte now and then, and those that take no answer.

uvicorn gives a request and its reader all the time in the world. Here every connection has some seconds for the head of
a request, from its beginning or from the first byte of the next, and for taking what it is sent.
"""

try:
    import resource
except ImportError:  # Windows
    resource = None

from uvicorn.protocols.http.h11_impl import H11Protocol

HEAD_SECONDS = 10
TAKING_SECONDS = 20


class Connection(H11Protocol):
    """What uvicorn knows of one connection, with deadlines."""

    head = taking = None  # the timers that run

    def connection_made(self, transport):
        super().connection_made(transport)
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


def allow_many():
    """Let this process hold as many connections as the system lets it: by default they are often about a thousand, and
    one more would keep all others waiting."""
    if resource is not None:
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
