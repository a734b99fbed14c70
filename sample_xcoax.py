"""
Write texts backwards: you give the last words of a text, the model writes what came before them.

    python sample_xcoax.py
    python sample_xcoax.py --prompt "and they lived happily ever after." --num-samples 3
    python sample_xcoax.py < endings.txt > texts.txt

Without --prompt it asks for one ending after another (`help` lists the commands); from a pipe it takes one ending a line.
Texts go to standard output, one from the next parted by a line "---" on a pipe; all else goes to standard error.
Reads out/xcoax/best_checkpoint.pt, which train_xcoax.py writes. A forward model takes the beginning of a text instead.
"""

import sys
from dataclasses import dataclass

import checkpoint
from device import autocast, pick_device, pick_dtype
from repl import Controls, loop, note, prepare_streams, write_samples
from settings import parse, run


@dataclass
class Settings:
    model_path: str = "out/xcoax/best_checkpoint.pt"
    """checkpoint of train_xcoax.py; it holds the tokenizer too"""
    prompt: str | None = None
    """an ending to write for; without it endings are asked for, or read from a pipe"""
    num_samples: int = 1
    """texts for each ending, 1 to 64"""
    temperature: float = 0.8
    """0 always takes the likeliest token; the higher, the bolder"""
    top_k: int = 200
    """choose among the k likeliest tokens; 0 is off"""
    top_p: float | None = None
    """choose among the fewest tokens that together are this likely"""
    min_p: float | None = None
    """drop tokens less than this many times as likely as the likeliest"""
    tokens: int = 500
    """the most tokens that one text may get before its ending"""
    seed: int | None = None
    """the same seed gives the same texts; None draws a fresh one for each ending, and prints it"""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1 or mps; auto takes the fastest there is"""
    dtype: str = "auto"
    """auto, float32 or bfloat16: the numbers in which the model computes"""


def parts_of(text, given, direction):
    """Cut a whole text at the seam into pairs (string, was it given), in reading order."""
    if direction == "reverse" and text.endswith(given):
        return [(text[: len(text) - len(given)], False), (given, True)]
    if direction == "forward" and text.startswith(given):
        return [(given, True), (text[len(given) :], False)]
    return [(text, False)]  # broken UTF-8 was replaced within the given part


def main():
    prepare_streams()
    settings = parse(Settings, __doc__)
    controls = Controls(temp=settings.temperature, top_k=settings.top_k, top_p=settings.top_p, min_p=settings.min_p,
                        tokens=settings.tokens, seed=settings.seed, n=settings.num_samples)
    device = pick_device(settings.device)
    dtype = pick_dtype(settings.dtype, device)
    content = checkpoint.load(settings.model_path)
    if content["kind"] != "base":
        raise ValueError(f"{settings.model_path} writes instructions, not texts. Use it so:\n"
                         f"    python sample_xcoax_instruct.py --model-path {settings.model_path}")
    model, tokenizer = checkpoint.build(content, device)

    def answer(given, controls):
        """Print samples for one ending; the text shown is decoded in one piece, so that no word breaks at the seam."""
        idx = tokenizer.encode_ending(given)
        backward = tokenizer.direction == "reverse"
        with autocast(device, dtype):
            return write_samples(
                model, idx, controls, stop_ids=(tokenizer.eos_id, tokenizer.bos_id),
                parts=lambda new: parts_of(tokenizer.to_text(idx + new), given, tokenizer.direction),
                whole="the beginning was reached" if backward else "the end was reached")

    if settings.prompt is not None:
        if not settings.prompt.strip():
            raise ValueError("--prompt is empty. Give it the last words of a text.")
        sys.exit(0 if answer(settings.prompt, controls) else 130)
    where, what = ("last", "before") if tokenizer.direction == "reverse" else ("first", "after")
    if sys.stdin.isatty():
        note(f"{settings.model_path}: {model.num_params():,} weights, on {device} in {str(dtype).removeprefix('torch.')}\n"
             f"{controls}\nWrite the {where} words of a text, or help, or quit.")
    label = "Ending: " if tokenizer.direction == "reverse" else "Beginning: "
    sys.exit(loop(label, answer, controls, f"takes the {where} words of a text; the model writes what came {what}."))


if __name__ == "__main__":
    run(main)
