"""
Serve a page on which readers write endings and watch the text arrive from right to left, and its texts to programs.

    python serve_xcoax.py
    python serve_xcoax.py --model-path out/tales/best_checkpoint.pt
    python serve_xcoax.py --kiosk endings.txt --pause 20
    python serve_xcoax.py --host 0.0.0.0 --port 8080 --rate 30

The page is at /, an inverted chat at /chat: you give a response, the question that led to it appears above. Programs
find the same texts at /v1/completions, in OpenAI's form. It works without a network, asks nothing of any other machine,
and is seen by this one alone unless --host says otherwise. Ctrl-C ends it.
Reads out/xcoax/best_checkpoint.pt, which train_xcoax.py writes, and for the chat out/xcoax_instruct/best_checkpoint.pt,
which finetune_xcoax.py writes, where it is there. Writes nothing, but for --log.
"""

if __name__ == "__main__":
    import program.starting

import errno
import socket
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal

import tyro

from backchat.template import STOP_IDS
from checkpoint import identity, open_model
from corpus.text_files import read_endings
from program import commands
from program.settings import launch, parse
from program.streams import say
from sampling.controls import Controls
from sampling.decoding import Decoder
from sampling.threads import settle_threads
from web.app import make_app
from web.connections import Server, allow_many
from web.limits import Rate
from web.served import Served
from web.writing import Writer

INSTRUCT_PATH = "out/xcoax_instruct/best_checkpoint.pt"


@dataclass
class ServeSettings:
    """Which models write, for whom, and how much."""

    model_path: str = "out/xcoax/best_checkpoint.pt"
    """Checkpoint of train_xcoax.py, which writes the texts."""
    instruct_path: str | None = None
    """Checkpoint of finetune_xcoax.py, for the chat; without it out/xcoax_instruct/best_checkpoint.pt, where there is
    one."""
    host: str = "127.0.0.1"
    """The address to listen at; 0.0.0.0 lets other machines in."""
    port: int = 8888
    """The port to listen at; 0 takes any that is free."""
    kiosk: str | None = None
    """A file with an ending a line: the page shows text after text in large type, for ever, and takes no input."""
    pause: float = 20.0
    """With --kiosk: seconds for which a text stays."""
    speed: float | None = 8.0
    """Words a second that appear on the page; off shows every word as soon as it is written."""
    log: str | None = None
    """A file to which every text is appended, a line of JSON each; without it nothing is kept."""
    LIMITS: ClassVar = "limits"
    rows: int = 16
    """Texts that are written at the same time; others wait, and are told their place."""
    max_waiting: int = 200
    """Texts that wait at most; whoever comes then is asked to try again."""
    rate: float | None = 120
    """Texts a minute for one address; off allows any number."""
    longest: int = 20_000
    """Characters of an ending, at most; of a long one the model reads what fits into its block."""
    most_tokens: int = 1000
    """Tokens that one text may be given, at most."""
    proxy: str | None = None
    """The address of a proxy, which is believed whom it forwards for; without it the rate is that of the proxy."""
    SAMPLING: ClassVar = "sampling, where a request says nothing else"
    controls: tyro.conf.OmitArgPrefixes[Controls] = field(default_factory=Controls)
    MACHINE: ClassVar = "machine"
    device: str = "auto"
    """auto, cpu, cuda, cuda:1 or mps; auto takes the fastest there is."""
    dtype: str = "auto"
    """auto, float32 or bfloat16: the numbers in which the model computes."""
    quantize: Literal["off", "int8"] = "off"
    """int8 keeps 8 bits of each weight: faster on a CPU, a little less exact."""
    threads: int | None = None
    """Threads of the CPU; without it one or all, whichever is faster when the model is opened."""

    def derive(self):
        """Refuse what does not fit."""
        for name, least in (("rows", 1), ("max_waiting", 0), ("longest", 1), ("most_tokens", 1), ("pause", 0)):
            if not getattr(self, name) >= least:
                raise ValueError(f"--{name.replace('_', '-')} must be at least {least}")
        for name in ("rate", "speed"):
            if not (getattr(self, name) is None or getattr(self, name) > 0):
                raise ValueError(f"--{name} takes a number above 0, or off")
        if self.controls.tokens > self.most_tokens:
            raise ValueError(f"--tokens {self.controls.tokens} is more than --most-tokens {self.most_tokens}")
        if self.log and not Path(self.log).absolute().parent.is_dir():
            raise ValueError(f"--log {self.log}: there is no folder {Path(self.log).parent}. Make it, or name another.")
        if not 0 <= self.port < 2**16:
            raise ValueError(f"--port {self.port}: a port is a number from 0 to 65535")


def listen(settings):
    """A socket that listens; raises OSError with the next command where that cannot be."""
    try:
        [(family, *_, address), *_] = socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM)
        return socket.create_server(address[:2], family=family, backlog=2048)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise OSError(f"Port {settings.port} is in use, perhaps by another server of this kind. Take another:\n"
                          f"    {commands.serve(port=settings.port + 1)}") from None
        raise OSError(f"--host {settings.host} --port {settings.port}: {error.strerror}. Leave --host out for this "
                      "machine alone, or give the address of one of its networks.") from None


def open_chat(settings):
    """What writes questions: (Writer, Tokenizer), or None."""
    path = settings.instruct_path or INSTRUCT_PATH
    if settings.instruct_path is None and not Path(path).exists():
        return say(f"No chat: there is no {path}. It is made by:\n    {commands.train_to(path, 'instruct')}")
    opened = open_model(path, "instruct", settings.device, settings.dtype)
    if opened.tokenizer.direction != "reverse":
        raise ValueError(f"{path} writes forward, and the chat goes backward. Name another --instruct-path.")
    return writer_of(opened, settings), opened.tokenizer


def writer_of(opened, settings):
    """A Writer for a model."""
    decoder = Decoder(opened.model, opened.dtype, settings.quantize)
    settle_threads(decoder, settings.threads)
    stop_ids = STOP_IDS if opened.kind == "instruct" else opened.tokenizer.stop_ids
    return Writer(decoder, stop_ids, settings.rows, settings.max_waiting, identity(opened.path) if settings.log else {})


def main():
    settings = parse(ServeSettings, __doc__)
    kiosk = settings.kiosk and {"endings": list(map(str.strip, read_endings(settings.kiosk))), "pause": settings.pause}
    listening = listen(settings)
    opened = open_model(settings.model_path, device=settings.device, dtype=settings.dtype)
    if opened.kind != "base":
        raise ValueError(f"{settings.model_path} writes instructions, not texts. Name it so, and with --model-path a "
                         f"model that writes texts:\n    {commands.serve(instruct_path=settings.model_path)}")
    chat = None if kiosk else open_chat(settings)
    served = Served(Path(opened.path).resolve().parent.name, writer_of(opened, settings), opened.tokenizer,
                    settings.controls, Rate(settings.rate), chat, kiosk, settings.speed, settings.longest,
                    settings.most_tokens, settings.log)
    allow_many()
    host, port = listening.getsockname()[:2]
    say(f"{opened.described(served.writer.decoder.kind)}\n"
        f"http://{f'[{host}]' if ':' in host else host}:{port}/ shows the page{', /chat the chat' * bool(chat)}. "
        "Ctrl-C ends it.")
    Server(make_app(served), served.writers, settings.proxy).run(sockets=[listening])


if __name__ == "__main__":
    program.starting.over()
    launch(main)
