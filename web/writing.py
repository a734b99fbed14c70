"""
One thread writes the texts of all readers together. A text waits in a line, takes a row as one becomes free, and leaves
it when it is whole or its reader has gone.

    writer = Writer(decoder, tokenizer.stop_ids, rows=16, most_waiting=200)
    job = writer.write([(prompt, seed)], limit, filters)
    async for _ in job.changes(seconds=1): ...      # job.texts[0].ids, job.place
"""

import asyncio
import contextlib
import random
import threading
import time
from collections import deque

import torch

from sampling.engine import Batch

SECONDS_BETWEEN = 0.05         # two tellings of a reader, who reads no faster
SECONDS_BETWEEN_PLACES = 0.5
CLOSING = "The server is closing."


class Full(Exception):
    """There is no room in the line."""


def seeds_of(seed, n):
    """The seeds of n texts: the first is that of the request, so that it alone gives what a prompt gives with it."""
    return [seed, *(random.Random(f"{seed}/{i}").randrange(2**31) for i in range(1, n))]


class Text:
    """One text: what it begins with, the ids that it has been given, and how it ended: "stop", by itself, or "length";
    None while it is written, or where its job has failed."""

    def __init__(self, job, prompt, limit, filters, seed):
        self.job, self.prompt, self.limit, self.filters, self.seed = job, prompt, limit, filters, seed
        self.ids, self.ended, self.place = [], None, 0  # place in the line, from 1 on; 0 has a row


class Job:
    """The texts of one reader. It belongs to the event loop in which it was made."""

    def __init__(self, writer, starts, limit, filters, finish):
        self.writer, self.finish = writer, finish
        self.texts = [Text(self, prompt, limit, filters, seed) for prompt, seed in starts]
        self.loop, self.changed = asyncio.get_running_loop(), asyncio.Event()
        self.over, self.result, self.error = False, None, None

    @property
    def place(self):
        """How many texts are before the next of its texts in the line, and this one; 0 where none waits."""
        return min((text.place for text in self.texts if text.place), default=0)

    async def changes(self, seconds):
        """Yield after every change, and wherever there was none for so many seconds, up to the last, which has ended
        all texts. Raises FloatingPointError and the like where the model could not write."""
        while True:
            self.changed.clear()
            over = self.over
            if self.error:
                raise self.error
            yield
            if over:
                return
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.changed.wait(), seconds)

    def leave(self):
        """Give back rows and places in the line; nobody reads any more."""
        self.writer.forget(self)


class Writer:
    """Writes with one model for all its readers: at most so many texts at a time, while at most so many wait."""

    def __init__(self, decoder, stop_ids, rows, most_waiting, identity=None):
        self.identity = identity or {}         # of the model, for a log
        self.decoder, self.stop_ids, self.rows, self.most_waiting = decoder, stop_ids, rows, most_waiting
        self.waiting, self.leaving, self.closing = deque(), [], False
        self.texts = {}                        # those that have a row, by their number in the batch
        self.jobs = set()                      # those that are not over
        self.changed, self.moved = set(), False  # jobs, and the line, of which has not been told
        self.told = self.places_told = 0.0
        self.condition = threading.Condition()  # guards waiting, leaving, jobs and closing
        self.batch = self.empty_batch()
        threading.Thread(target=self.run, daemon=True).start()

    def empty_batch(self):
        return Batch(self.decoder, self.rows, stop_ids=self.stop_ids)

    def write(self, starts, limit, filters, finish=None):
        """A Job with a text for each of starts, pairs (prompt ids, seed). finish(job) is called by the writing thread
        when all have ended, and gives job.result. Raises Full where there is no room for it in the line."""
        job = Job(self, starts, limit, filters, finish)
        with self.condition:
            if len(self.waiting) + len(job.texts) > self.most_waiting + max(0, self.rows - len(self.texts)):
                raise Full(f"{len(self.waiting)} texts are waiting.")
            if self.closing:
                raise Full(CLOSING)
            self.waiting.extend(job.texts)
            self.jobs.add(job)
            self.moved = True
            self.condition.notify()
        return job

    def forget(self, job):
        """Write no more for a job."""
        with self.condition:
            if job in self.jobs:
                self.jobs.remove(job)
                self.waiting = deque(text for text in self.waiting if text.job is not job)
                self.leaving.append(job)
                self.moved = True
                self.condition.notify()

    def close(self):
        """End all that is being written."""
        with self.condition:
            self.closing = True
            self.condition.notify()

    # ---- the thread

    def run(self):
        while not self.closing:
            with self.condition:
                self.condition.wait_for(lambda: self.texts or self.waiting or self.leaving or self.closing)
                leaving, self.leaving = self.leaving, []
                for number in [n for n, text in self.texts.items() if text.job in leaving]:
                    del self.texts[number]
                    self.batch.drop(number)
                joining = [self.waiting.popleft() for _ in range(min(len(self.waiting), self.rows - len(self.texts)))]
            try:
                self.step(joining)
            except Exception as error:  # the texts that were written with it must end, others may go on
                for job in {text.job for text in [*self.texts.values(), *joining]}:
                    self.end(job, error)
                self.texts, self.batch = {}, self.empty_batch()
                with self.condition:
                    self.waiting = deque(text for text in self.waiting if not text.job.over)
            self.tell()
        with self.condition:
            for job in [*self.jobs]:
                self.end(job, ConnectionError(CLOSING))
        self.told = 0.0
        self.tell()

    def step(self, joining):
        """Let texts begin, and give every text its next id."""
        for text in joining:
            text.place, self.moved = 0, True
            number = self.batch.add(text.prompt, text.limit, generator=torch.Generator().manual_seed(text.seed),
                                    **text.filters)
            self.texts[number] = text
        new = self.batch.step()
        for number, token in new.items():
            text = self.texts[number]
            text.ids.append(token)
            self.changed.add(text.job)
            if len(text.ids) == 1:
                self.told = 0.0  # the first word is waited for
        for number in self.texts.keys() - self.batch.unfinished.keys():
            text = self.texts.pop(number)
            text.ended = "stop" if len(text.ids) < text.limit else "length"
            if all(text.ended for text in text.job.texts):
                if text.job.finish:
                    text.job.result = text.job.finish(text.job)
                self.end(text.job)

    def end(self, job, error=None):
        with self.condition:
            self.jobs.discard(job)
        job.over, job.error = True, error
        self.changed.add(job)
        self.told = 0.0

    def tell(self):
        """Wake the readers for whom there is something new, not more often than they can read."""
        now = time.monotonic()
        if self.moved and now - self.places_told >= SECONDS_BETWEEN_PLACES:
            with self.condition:
                for place, text in enumerate(self.waiting, 1):
                    text.place = place
                    self.changed.add(text.job)
            self.places_told, self.moved, self.told = now, False, 0.0
        if not self.changed or now - self.told < SECONDS_BETWEEN:
            return
        loops = {}
        for job in self.changed:
            loops.setdefault(job.loop, []).append(job)
        self.changed, self.told = set(), now
        for loop, jobs in loops.items():
            with contextlib.suppress(RuntimeError):  # a loop that has been closed
                loop.call_soon_threadsafe(lambda jobs=jobs: [job.changed.set() for job in jobs])
