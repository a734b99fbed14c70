"""
Train the backward language model on shards written by preprocess_xcoax.py.

    python train_xcoax.py                                             # config/xcoax.toml, the full model
    python train_xcoax.py config/tales.toml                           # the demo: minutes on a laptop
    python train_xcoax.py config/tinystories.toml --learning-rate 1e-3

Reads data/xcoax/. Writes out/xcoax/best_checkpoint.pt, last_checkpoint.pt, metrics.jsonl and loss.png. Stopped at any
moment, by Ctrl-C or by kill -9, the same command goes on from last_checkpoint.pt.
"""

from dataclasses import dataclass
from pathlib import Path

import torch

import settings
from model import GPT, GPTConfig
from reverse import segments
from shards import Windows, read_manifest, read_split, totals
from tokenizer import Tokenizer
from trainer import LoopSettings, train

SAMPLE_TOKENS, ENDING_SEGMENTS = 120, 24


@dataclass
class TrainSettings(LoopSettings):
    """Model shape and what the loop needs."""

    n_layer: int = 12
    """Transformer blocks."""
    n_head: int = 16
    """Attention heads per block."""
    n_embd: int = 1024
    """Width of the model."""
    block_size: int = 1024
    """Tokens that the model sees at once."""
    dropout: float = 0.0
    """Share of activations dropped in training; 0.1 helps when a small corpus is read many times."""


def fixed_sample(model, tokenizer, windows):
    """A function that continues the edge of a validation document and returns the text as a person reads it."""
    tokens = windows.tokens[0]
    ends = (tokens[:20_000] == tokenizer.eos_id).nonzero()[0]
    text = tokenizer.to_text(tokens[:ends[0] if len(ends) else 2000].tolist())
    backward = tokenizer.direction == "reverse"
    ending = "".join(segments(text)[-ENDING_SEGMENTS:] if backward else segments(text)[:ENDING_SEGMENTS])
    given = tokenizer.encode_ending(ending)

    def sample():
        generator = torch.Generator().manual_seed(1)
        new = list(model.generate(given, SAMPLE_TOKENS, temperature=0.8, top_k=200, generator=generator,
                                  stop_ids=[tokenizer.eos_id]))
        written, ending = tokenizer.to_text(given + new), tokenizer.to_text(given)
        seam = len(written) - len(ending) if backward else len(ending)
        return f"{written[:seam]} [|] {written[seam:]}"

    return sample


def main():
    run = settings.parse(TrainSettings, __doc__, default_file=Path(__file__).parent / "config/xcoax.toml")
    manifest = read_manifest(run.data_dir)
    tokenizer = Tokenizer.load(run.data_dir / manifest["tokenizer"])
    train_windows, val_windows = (Windows(read_split(run.data_dir, split, tokenizer.sha256), run.block_size, run.seed, split)
                                  for split in ("train", "val"))
    torch.manual_seed(run.seed)
    model = GPT(GPTConfig(vocab_size=tokenizer.vocab_size, **{name: getattr(run, name) for name in (
        "n_layer", "n_head", "n_embd", "block_size", "dropout")}))

    def tensors(pair):
        return (*map(torch.from_numpy, pair), None)

    def batches(counters):
        return [tensors(train_windows.batch(counters["samples"] + micro_step * run.batch_size, run.batch_size))
                for micro_step in range(run.gradient_accumulation_steps)]

    val = totals(manifest, "val")
    update_tokens = run.batch_size * run.block_size * run.gradient_accumulation_steps
    settings.show(run, parameters=model.num_params(), tokens_per_update=update_tokens,
                  tokens_in_corpus=totals(manifest, "train")["tokens"],
                  passes_over_corpus=round(update_tokens * run.max_iters / (len(train_windows) * run.block_size), 2))
    train(run, model, tokenizer, batches,
          [tensors(pair) for pair in val_windows.fixed_batches(run.eval_iters, run.batch_size)],
          fixed_sample(model, tokenizer, val_windows), tokens_per_byte=val["tokens"] / val["bytes"])


if __name__ == "__main__":
    settings.run(main)
