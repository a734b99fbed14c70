"""
Fine-tune a backward language model into BackChat: given a response, it writes the instruction.

    python finetune_xcoax.py                                     # config/instruct.toml: out/xcoax/ and data/instruct/
    python finetune_xcoax.py config/instruct_tales.toml          # the demo: minutes on a laptop
    python finetune_xcoax.py --model-path out/mine/best_checkpoint.pt --data-dir data/mine --out-dir out/mine_instruct

Shape and tokenizer come from the checkpoint, examples from preprocess_instruct.py. Writes out/xcoax_instruct/, with the
files that train_xcoax.py leaves. The loss counts the instruction alone; the first validation loss is that of the model
as it was before. Stopped at any moment, the same command goes on from last_checkpoint.pt.
"""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch

from backchat.examples import Examples
from backchat.template import STOP_IDS
from checkpoint import open_model
from program import commands
from program.device import use_threads
from program.settings import launch, parse, show
from sampling import generate
from shards import read_manifest, read_split, totals
from training.loop import train
from training.settings import LoopSettings

SAMPLE_TOKENS, SAMPLE_RESPONSE_TOKENS = 120, 100


@dataclass
class FinetuneSettings(LoopSettings):
    """First weights, and what the loop needs."""

    model_path: Path = Path("out/xcoax/best_checkpoint.pt")
    """Checkpoint to begin from; shape and tokenizer are its own."""
    data_dir: Path = Path("data/instruct")
    """Folder with the shards of examples."""
    out_dir: Path = Path("out/xcoax_instruct")
    """Folder for checkpoints, metrics.jsonl and loss.png."""
    batch_size: int = 16
    """Blocks of tokens per forward pass: examples of similar length, as many as fit into batch_size times the model's
    block_size, padding included."""
    learning_rate: float = 1e-4
    """Highest rate, reached after the warm-up; lower than in pre-training, so that little is forgotten."""
    min_lr: float = 1e-5
    """Rate at the end of the decay."""
    compile: bool = False
    """Compile the model: it pays in long runs only, because batches differ in shape and each new one is compiled anew
    until the compiler gives up on the output layer."""
    MODEL: ClassVar = "model"
    dropout: float = 0.0
    """Share of activations dropped in training; 0.1 helps when few examples are read many times."""
    response_dropout: float = 0.05
    """Share of the examples shown without their response, others in each epoch: so the model learns the probability of
    an instruction by itself, without which candidates cannot be ranked by how much the response speaks for them."""

    def __post_init__(self):
        super().__post_init__()
        if not 0 <= self.response_dropout < 1:
            raise ValueError(f"response_dropout is {self.response_dropout}; it must be at least 0 and below 1")


def read_examples(settings, model, tokenizer):
    """Training and validation examples that suit the model, and tokens of validation targets per byte of instruction.

    Raises FileNotFoundError or ValueError, each with what to run next.
    """
    data_dir, model_path = settings.data_dir, settings.model_path
    make = partial(commands.preprocess, "instruct", tokenizer=model_path)  # which also says how long an example may be
    manifest = read_manifest(data_dir, make)
    if manifest.get("kind") != "instruct":
        raise ValueError(f"{data_dir} holds documents, not instruction examples. Make some in another folder, and "
                         f"name it with --data-dir:\n    {make(data_dir='data/instruct')}")
    anew = partial(make, dataset=manifest["source"]["dataset"], data_dir=data_dir, overwrite=True)
    for_this_model = f"Make them anew for this model:\n    {anew()}"
    if manifest["direction"] != tokenizer.direction:
        raise ValueError(f"{model_path} is a {tokenizer.direction} model, the examples in {data_dir} run in "
                         f"{manifest['direction']} direction. {for_this_model}")
    if manifest["tokenizer_sha256"] != tokenizer.sha256.hex():
        raise ValueError(f"{model_path} has a tokenizer of {tokenizer.vocab_size:,} pieces, the examples in "
                         f"{data_dir} were made with another one, of {manifest['vocab_size']:,}. {for_this_model}")
    sets = []
    for split in ("train", "val"):
        examples = Examples(read_split(data_dir, split, tokenizer, make), model.config.block_size,
                            settings.response_dropout, settings.seed)
        if not len(examples):
            purpose, share = ("train on", 0.02) if split == "train" else ("validate with", 0.2)
            raise ValueError(f"{data_dir} has no example to {purpose}. Use more records, or another share:\n"
                             f"    {anew(val_fraction=share)}")
        if examples.lengths.max() > model.config.block_size:
            raise ValueError(f"{data_dir} has an example of {examples.lengths.max():,} tokens, {model_path} sees "
                             f"{model.config.block_size:,} at once. {for_this_model}")
        sets.append(examples)
    val = totals(manifest, "val")
    return *sets, val["targets"] / val["bytes"]


def fixed_sample(model, tokenizer, examples):
    """A function that writes the instruction of a validation example and shows it beside the true one; of a forward
    model the response."""
    short = np.flatnonzero(examples.mark - examples.start <= SAMPLE_RESPONSE_TOKENS)
    ids, first = examples.row(int(short[0]) if len(short) else 0)
    given, true = ids[:first].tolist(), ids[first:].tolist()

    def sample():
        new = generate(model, given, SAMPLE_TOKENS, temperature=0, stop_ids=STOP_IDS)
        names = ("Response", "Instruction") if tokenizer.direction == "reverse" else ("Instruction", "Response")
        return (f"{names[0]}: {tokenizer.to_text(given)}\nGenerated {names[1]}: {tokenizer.to_text(new)}\n"
                f"True {names[1].lower()}: {tokenizer.to_text(true)}")

    return sample


def main():
    settings = parse(FinetuneSettings, __doc__, default_file="instruct.toml")
    threads = use_threads(settings.threads)
    if settings.out_dir.resolve() == settings.model_path.resolve().parent:
        raise ValueError(f"--out-dir {settings.out_dir} is the folder of the base model {settings.model_path}, which "
                         "would be written over. Choose another:\n"
                         f"    --out-dir {settings.out_dir}_{settings.data_dir.name}")
    opened = open_model(settings.model_path, "base", settings.device, settings.dtype, dropout=settings.dropout)
    model, tokenizer = opened.model, opened.tokenizer
    train_examples, val_examples, tokens_per_byte = read_examples(settings, model, tokenizer)

    block_size, batch_size = model.config.block_size, settings.batch_size
    update_blocks, budget = batch_size * settings.gradient_accumulation_steps, batch_size * block_size

    def tensors(batch):
        return tuple(map(torch.from_numpy, batch))

    def batches(counters):
        return [tensors(batch) for batch in train_examples.batches(
            counters["samples"], update_blocks, counters["first_batch_size"], budget)]

    def whereabouts(counters):
        count = sum(len(x) for x, _, _ in batches(counters))
        found = train_examples.whereabouts(counters["samples"], count, counters["first_batch_size"])
        return f"Its examples begin at {found}."

    epochs = settings.max_iters * update_blocks / train_examples.blocks_per_epoch(batch_size)
    show(settings, parameters=model.num_params(), block_size=block_size,
         tokens_per_update=update_blocks * block_size, training_examples=len(train_examples),
         validation_examples=len(val_examples), padding=f"{train_examples.padding(batch_size):.1%} of the tokens",
         passes_over_examples=round(epochs, 2), threads=threads)
    val_batches = [tensors(batch) for batch in val_examples.fixed_batches(settings.eval_tokens, budget)]
    train(settings, model, tokenizer, batches, val_batches,
          fixed_sample(model, tokenizer, val_examples), kind="instruct", tokens_per_byte=tokens_per_byte,
          whereabouts=whereabouts)


if __name__ == "__main__":
    launch(main)
