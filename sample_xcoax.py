"""
Write texts backwards: you give the last words of a text, the model writes what came before them.

    python sample_xcoax.py
    python sample_xcoax.py --prompt "and they lived happily ever after." --num-samples 3
    python sample_xcoax.py < endings.txt > texts.txt

Without --prompt it asks for one ending after another (`help` lists the commands); from a pipe it takes one ending a
line, whatever that says. Texts go to standard output, one from the next parted by a line "---" on a pipe; all else goes
to standard error.
Reads out/xcoax/best_checkpoint.pt, which train_xcoax.py writes. A forward model takes the beginning of a text instead.
"""

import sys
from dataclasses import dataclass, field
from typing import ClassVar

import tyro

from checkpoint import open_model
from program import commands
from program.settings import launch, parse
from program.streams import end_with_pipe
from sampling.controls import Controls
from terminal.prompt import loop
from terminal.samples import write_samples
from terminal.screen import note


@dataclass
class SampleSettings:
    """Which model writes, for what, and how."""

    model_path: str = "out/xcoax/best_checkpoint.pt"
    """Checkpoint of train_xcoax.py; it holds the tokenizer too."""
    prompt: str | None = None
    """An ending to write for; without it endings are asked for, or read from a pipe."""
    SAMPLING: ClassVar = "sampling"
    controls: tyro.conf.OmitArgPrefixes[Controls] = field(default_factory=Controls)
    MACHINE: ClassVar = "machine"
    device: str = "auto"
    """auto, cpu, cuda, cuda:1 or mps; auto takes the fastest there is."""
    dtype: str = "auto"
    """auto, float32 or bfloat16: the numbers in which the model computes."""


def main():
    end_with_pipe()
    settings = parse(SampleSettings, __doc__)
    opened = open_model(settings.model_path, device=settings.device, dtype=settings.dtype).for_sampling()
    if opened.kind != "base":
        raise ValueError(f"{settings.model_path} writes instructions, not texts. Use it so:\n"
                         f"    {commands.sample('instruct', model_path=settings.model_path)}")
    tokenizer = opened.tokenizer
    backward = tokenizer.direction == "reverse"

    def answer(given, controls):
        """Print samples for one ending."""
        idx = tokenizer.encode_ending(given)
        with opened.autocast():
            return write_samples(opened.model, idx, controls, tokenizer.stop_ids,
                                 parts=lambda new: tokenizer.parts(idx + new, given),
                                 whole="the beginning was reached" if backward else "the end was reached")

    if settings.prompt is not None:
        if not settings.prompt.strip():
            raise ValueError("--prompt is empty. Give it the last words of a text.")
        sys.exit(0 if answer(settings.prompt, settings.controls) else 130)
    label, where, side = ("Ending: ", "last", "before") if backward else ("Beginning: ", "first", "after")
    if sys.stdin.isatty():
        note(f"{opened}\n{settings.controls}\nWrite the {where} words of a text, or help, or quit.")
    sys.exit(loop(label, answer, settings.controls,
                  f"takes the {where} words of a text; the model writes what came {side}."))


if __name__ == "__main__":
    launch(main)
