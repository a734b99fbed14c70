"""
How long readers of serve_xcoax.py wait for the first word, and how many tokens a second all of them get together.

    python bench/bench_serving.py out/tales/best_checkpoint.pt
    python bench/bench_serving.py out/xcoax/best_checkpoint.pt --clients 1 64 --rows 32

Starts the server on this machine, and for each number of clients lets so many ask at the same moment, over sockets of
their own, each with another seed. The first word is the first piece of a text that is sent; those who wait in the line
wait for it. Clients and server share the processor. Tokens for a second of the server's own time on it, where the
system tells that (Linux), depend less on what else is running.
"""

import asyncio
import json
import os
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


def processor_seconds(pid):
    """What a process has taken of the processor so far; NaN where that is not told."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return float("nan")
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def measure(port, pid, clients, settings):
    """(seconds to the first word of every reader, the most tokens a second, tokens for a second of the processor) over
    the rounds."""
    waits, best, written, before = [], 0.0, 0, processor_seconds(pid)
    for number in range(settings.rounds):
        started = time.perf_counter()
        found = await asyncio.gather(*(read(port, number * clients + i, settings.tokens) for i in range(clients)))
        waits += [wait for wait, _ in found]
        count = sum(tokens for _, tokens in found)
        best, written = max(best, count / (time.perf_counter() - started)), written + count
    return waits, best, written / max(processor_seconds(pid) - before, 0.01)


def main():
    settings = parse(BenchSettings, __doc__)
    process, port = start(settings)
    try:
        asyncio.run(measure(port, process.pid, 1, settings))  # the first calls are slower
        say(f"\n{'clients':>8}{'first word, median':>20}{'worst':>11}{'tokens/s in all':>17}{'of processor time':>19}")
        for clients in settings.clients:
            waits, rate, own = asyncio.run(measure(port, process.pid, clients, settings))
            say(f"{clients:>8}{1000 * statistics.median(waits):>17,.0f} ms{1000 * max(waits):>8,.0f} ms{rate:>17,.0f}"
                f"{own:>19,.0f}")
    finally:
        process.terminate()
        process.wait()


if __name__ == "__main__":
    launch(main)
