"""
Train the backward language model on shards written by preprocess_xcoax.py.

    python train_xcoax.py                                             # config/xcoax.toml, the full model
    python train_xcoax.py config/tales.toml                           # the demo: minutes on a laptop
    python train_xcoax.py config/tinystories.toml --learning-rate 1e-3
    torchrun --standalone --nproc-per-node=4 train_xcoax.py           # the same on four GPUs

Reads data/xcoax/. Writes out/xcoax/best_checkpoint.pt, last_checkpoint.pt, metrics.jsonl and loss.png. Stopped at any
moment, by Ctrl-C or by kill -9, the same command goes on from last_checkpoint.pt.
"""

from dataclasses import replace

import torch

from checkpoint import open_model
from model import GPT, GPTConfig
from program import commands
from program.device import use_threads
from program.settings import launch, parse, show
from program.streams import say
from reverse import segments
from sampling import generate
from shards import Windows, read_manifest, read_split, totals
from tokenizer import Tokenizer
from training.loop import train
from training.settings import SHAPE, TrainSettings

SAMPLE_TOKENS, ENDING_SEGMENTS = 120, 24
TOO_MANY_PASSES = 100  # over the corpus; beyond some 16, each teaches little (arXiv:2305.16264)


def split_for_sample(text, backward):
    """The part of a text that a sample continues: some segments from its edge, parted from the rest by a space if the
    text has any there, so that the tokens at the seam are those of the text."""
    found = segments(text)
    spaces = [i for i, segment in enumerate(found) if segment == " "]
    if backward:
        first = max(0, len(found) - ENDING_SEGMENTS)
        return "".join(found[min((i for i in spaces if i >= first), default=first):])
    return "".join(found[:max((i for i in spaces if i <= ENDING_SEGMENTS), default=ENDING_SEGMENTS)])


def fixed_sample(model, tokenizer, windows):
    """A function that continues the edge of a validation document and returns the text as a person reads it."""
    tokens = windows.tokens[0]
    ends = (tokens[:20_000] == tokenizer.eos_id).nonzero()[0]
    text = tokenizer.to_text(tokens[:ends[0] if len(ends) else 2000].tolist())
    given = split_for_sample(text, tokenizer.direction == "reverse")
    idx = tokenizer.encode_ending(given)

    def sample():
        new = generate(model, idx, SAMPLE_TOKENS, temperature=0.8, top_k=200, stop_ids=tokenizer.stop_ids,
                       generator=torch.Generator().manual_seed(1))
        return " [|] ".join(part.strip(" ") for part, _ in tokenizer.parts([*idx, *new], given))

    return sample


def open_begun(settings, tokenizer):
    """The OpenModel with whose weights training begins."""
    opened = open_model(settings.init_from, "base", "cpu", dropout=settings.dropout)
    if opened.tokenizer.sha256 != tokenizer.sha256:
        own = settings.init_from / "tokenizer.model" if settings.init_from.is_dir() else "tok8888.model"
        raise ValueError(f"{settings.init_from} was trained with another tokenizer than that of {settings.data_dir}. "
                         "Make shards with its own, which lies in that folder or beside the shards it was trained on:\n"
                         f"    {commands.preprocess(data_dir=settings.data_dir, tokenizer=own, overwrite=True)}")
    return opened


def main():
    settings = parse(TrainSettings, __doc__, default_file="xcoax.toml")
    threads = use_threads(settings.threads)
    manifest = read_manifest(settings.data_dir)
    if manifest.get("kind") == "instruct":
        raise ValueError(f"{settings.data_dir} holds instruction examples, not documents. Fine-tune a model on them:\n"
                         f"    {commands.train('instruct', data_dir=settings.data_dir)}\n"
                         "or name a folder of documents with --data-dir.")
    tokenizer = Tokenizer.load(settings.data_dir / manifest["tokenizer"])
    begun = open_begun(settings, tokenizer) if settings.init_from else None
    if begun is not None:
        settings = replace(settings, **{name: getattr(begun.model.config, name) for name in SHAPE})
    train_windows, val_windows = (
        Windows(read_split(settings.data_dir, split, tokenizer), settings.block_size, settings.seed, split)
        for split in ("train", "val"))
    torch.manual_seed(settings.seed)
    if begun is None:
        model = GPT(GPTConfig(vocab_size=tokenizer.vocab_size, **settings.shape))
        model.init_weights(zero_projections=settings.optimizer == "muon")
    else:
        model = begun.model

    def tensors(pair):
        return (*map(torch.from_numpy, pair), None)

    def batches(counters):
        size = settings.batch_size
        return [tensors(train_windows.batch(counters["samples"] + micro_step * size, size))
                for micro_step in range(settings.gradient_accumulation_steps)]

    def whereabouts(counters):
        found = train_windows.whereabouts(counters["samples"], update_tokens // settings.block_size)
        return f"Its windows begin at {found}."

    val = totals(manifest, "val")
    update_tokens = settings.batch_size * settings.block_size * settings.gradient_accumulation_steps
    tokens = totals(manifest, "train")["tokens"]
    passes = update_tokens * settings.max_iters / (len(train_windows) * settings.block_size)
    show(settings, parameters=model.num_params(), tokens_per_update=update_tokens, tokens_in_corpus=tokens,
         passes_over_corpus=round(passes, 2), threads=threads)
    if passes > TOO_MANY_PASSES:
        say(f"This run reads the {tokens:,} tokens of its corpus {passes:,.0f} times, and will know them by heart long "
            "before its end. Take more text, a smaller model, or a smaller --max-iters.")
    train(settings, model, tokenizer, batches,
          [tensors(pair) for pair in val_windows.fixed_batches(settings.eval_tokens, settings.batch_size)],
          fixed_sample(model, tokenizer, val_windows), tokens_per_byte=val["tokens"] / val["bytes"],
          whereabouts=whereabouts)


if __name__ == "__main__":
    launch(main)
