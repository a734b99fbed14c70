"""
Answers that are sent while they are written: server-sent events, as long as their reader is there.
"""

import json

from starlette.responses import StreamingResponse


class Stream(StreamingResponse):
    """Events of a job, which is left when its reader is gone, however that happens."""

    def __init__(self, job, events):
        super().__init__(events, media_type="text/event-stream",
                         headers={"cache-control": "no-store", "x-accel-buffering": "no"})  # proxies hold nothing back
        self.job = job

    async def __call__(self, scope, receive, send):
        try:
            await super().__call__(scope, receive, send)
        finally:
            self.job.leave()


def line(content):
    """An event without a name. JSON in ASCII holds every string, half of a surrogate pair too."""
    return f"data: {json.dumps(content)}\n\n"


def event(kind, **content):
    return f"event: {kind}\n{line(content)}"
