"""
How long readers of serve_xcoax.py wait for the first word, and how many tokens a second all of them get together.

    python bench/bench_serving.py out/tales/best_checkpoint.pt
    python bench/bench_serving.py out/xcoax/best_checkpoint.pt --clients 1 64 --rows 32

Starts the server on this machine, and for each number of clients lets so many ask at the same moment, over sockets of
their own, each with another seed. The first word is the first piece of a text that is sent; those who wait in the line
wait for it. Clients and server share the processor.
"""

import asyncio
import json
import re
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import tyro

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from program.settings import launch, parse
from program.streams import say

ENDING = "and they all lived happily together for ever after."


@dataclass
class BenchSettings:
    model_path: tyro.conf.Positional[Path]
    """A checkpoint of train_xcoax.py."""
    clients: tuple[int, ...] = (1, 16, 64, 200)
    """How many ask at the same moment."""
    tokens: int = 100
    """The most tokens of a text."""
    rows: int = 16
    """Texts that the server writes at the same time."""
    rounds: int = 3
    """Times that each number is measured; all waits count, and the fastest total."""


def start(settings):
    """The server: (process, port)."""
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "serve_xcoax.py"), "--model-path", str(settings.model_path), "--port", "0",
         "--rate", "off", "--rows", str(settings.rows), "--max-waiting", str(max(settings.clients))],
        stdout=subprocess.PIPE, text=True)
    said = ""
    while not (found := re.search(r"http://127\.0\.0\.1:(\d+)/ shows", said)):
        if not (line := process.stdout.readline()):
            raise OSError("the server did not start; it has said why")
        said += line
    say(said.splitlines()[-2])
    return process, int(found[1])


async def read(port, seed, tokens):
    """One reader: (seconds to the first word, tokens of the text)."""
    asked = {"prompt": ENDING, "max_tokens": tokens, "temperature": 0.8, "top_k": 200, "seed": seed, "stream": True,
             "stream_options": {"include_usage": True}}
    body, started, first = json.dumps(asked).encode(), time.perf_counter(), None
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
    async for line in reader:
        if line.startswith(b"data: {"):
            chunk = json.loads(line.removeprefix(b"data: "))
            if first is None and any(choice["text"].strip() for choice in chunk["choices"]):
                first = time.perf_counter() - started
            if "usage" in chunk:
                writer.close()
                return first or time.perf_counter() - started, chunk["usage"]["completion_tokens"]
    raise OSError("the server did not write the text to its end")


async def measure(port, clients, settings):
    """(seconds to the first word of every reader, the most tokens a second) over the rounds."""
    waits, best = [], 0.0
    for number in range(settings.rounds):
        started = time.perf_counter()
        found = await asyncio.gather(*(read(port, number * clients + i, settings.tokens) for i in range(clients)))
        waits += [wait for wait, _ in found]
        best = max(best, sum(tokens for _, tokens in found) / (time.perf_counter() - started))
    return waits, best


def main():
    settings = parse(BenchSettings, __doc__)
    process, port = start(settings)
    try:
        asyncio.run(measure(port, 1, settings))  # the first calls are slower
        say(f"\n{'clients':>8}{'first word, median':>20}{'worst':>10}{'tokens/s in all':>17}")
        for clients in settings.clients:
            waits, rate = asyncio.run(measure(port, clients, settings))
            say(f"{clients:>8}{1000 * statistics.median(waits):>17.0f} ms{1000 * max(waits):>7.0f} ms{rate:>17,.0f}")
    finally:
        process.terminate()
        process.wait()


if __name__ == "__main__":
    launch(main)
