"""
Write texts backwards: you give the last words of a text, the model writes what came before them.

    python sample_xcoax.py
    python sample_xcoax.py --prompt "and they lived happily ever after." --num-samples 3
    python sample_xcoax.py < endings.txt > texts.txt
    python sample_xcoax.py --kiosk endings.txt

Without --prompt it asks for one ending after another (`help` lists the commands); from a pipe it takes one ending a
line, whatever that says. Texts go to standard output, one from the next parted by a line "---" on a pipe; all else goes
to standard error.
Reads out/xcoax/best_checkpoint.pt, which train_xcoax.py writes. A forward model takes the beginning of a text instead.
"""

if __name__ == "__main__":
    import program.starting

import sys
from dataclasses import dataclass, field, replace
from typing import ClassVar, Literal

import tyro

from checkpoint import identity, open_model
from corpus.text_files import read_endings
from program import commands
from program.settings import launch, parse
from program.streams import end_with_pipe
from sampling.decoding import Decoder
from sampling.threads import settle_threads
from terminal.commands import remark
from terminal.kiosk import Kiosk
from terminal.pasts import Pasts
from terminal.prompt import loop
from terminal.samples import ShownControls
from terminal.screen import be_plain, note


@dataclass
class SampleSettings:
    """Which model writes, for what, and how."""

    model_path: str = "out/xcoax/best_checkpoint.pt"
    """Checkpoint of train_xcoax.py; it holds the tokenizer too."""
    prompt: str | None = None
    """An ending to write for; without it endings are asked for, or read from a pipe."""
    json: bool = False
    """Print a line of JSON for each text, with all that is needed to write it again; a line that fails keeps its
    place."""
    kiosk: str | None = None
    """A file with an ending a line: text after text fills the screen, for ever; Ctrl-Q leaves."""
    kiosk_file: str | None = None
    """With --kiosk: append every text to this file, as --json prints them."""
    pause: float = 8.0
    """With --kiosk: seconds for which a text stays."""
    SAMPLING: ClassVar = "sampling"
    controls: tyro.conf.OmitArgPrefixes[ShownControls] = field(default_factory=ShownControls)
    TERMINAL: ClassVar = "terminal"
    history: bool = True
    """Keep what is typed at the prompt for the next time, in ~/.local/state/backgpt/."""
    plain: bool = False
    """Show a text once, when it is whole, without movement and colours; NO_COLOR in the environment does the same."""
    MACHINE: ClassVar = "machine"
    device: str = "auto"
    """auto, cpu, cuda, cuda:1 or mps; auto takes the fastest there is."""
    dtype: str = "auto"
    """auto, float32 or bfloat16: the numbers in which the model computes."""
    quantize: Literal["off", "int8"] = "off"
    """int8 keeps 8 bits of each weight: faster on a CPU, a little less exact."""
    threads: int | None = None
    """Threads of the CPU; without it one or all, whichever is faster when the model is opened."""


def main():
    end_with_pipe()
    settings = parse(SampleSettings, __doc__)
    if settings.plain:
        be_plain()
    opened = open_model(settings.model_path, device=settings.device, dtype=settings.dtype)
    if opened.kind != "base":
        raise ValueError(f"{settings.model_path} writes instructions, not texts. Use it so:\n"
                         f"    {commands.sample('instruct', model_path=settings.model_path)}")
    tokenizer, decoder = opened.tokenizer, Decoder(opened.model, opened.dtype, settings.quantize)
    settle_threads(decoder, settings.threads)
    if said := remark(settings.controls):
        note(said)
    backward = tokenizer.direction == "reverse"
    pasts = Pasts(decoder, tokenizer, "the beginning was reached" if backward else "the end was reached",
                  model=lambda: identity(opened.path), as_json=settings.json)
    if settings.kiosk is not None:
        endings = read_endings(settings.kiosk)
        if not settings.pause >= 0:
            raise ValueError(f"--pause {settings.pause}: seconds, 0 or more")
        kiosk = Kiosk(decoder, tokenizer, pasts.whole, pasts.model)
        return kiosk.show(endings, replace(settings.controls, num_samples=1), settings.pause, settings.kiosk_file)
    if settings.prompt is not None:
        if not settings.prompt.strip():
            raise ValueError("--prompt is empty. Give it the last words of a text.")
        sys.exit(0 if pasts.answer(settings.prompt, settings.controls) else 130)
    label, where, side = ("Ending: ", "last", "before") if backward else ("Beginning: ", "first", "after")
    if sys.stdin.isatty():
        note(f"{opened.described(decoder.kind)}\n{settings.controls}\n"
             f"Write the {where} words of a text, or help, or quit.")
    sys.exit(loop(label, pasts, settings.controls,
                  f"takes the {where} words of a text; the model writes what came {side}.",
                  history="texts" if settings.history else None))


if __name__ == "__main__":
    program.starting.over()
    launch(main)
