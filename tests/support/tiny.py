"""A tiny corpus with its shards, tiny models, and the programs of this project run as a user runs them."""

import itertools
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch

from backchat.template import encode_instruction, encode_response
from model import GPT, GPTConfig
from shards import SPLITS, split_of, write_manifest
from shards.folder import add_chunk
from tokenizer import Tokenizer, train_tokenizer

ROOT = Path(__file__).parent.parent.parent
PEOPLE, ANIMALS = ("Ada", "Bo", "Cleo", "Dan", "Eve", "Finn"), ("cat", "dog", "hen", "goat", "mouse", "owl")
PLACES = ("the barn", "the old mill", "a warm kitchen", "the edge of the wood", "the third field", "an empty boat")
TEXTS = [f"{person} looked for the {animal} all day. \"Where are you?\" called {person}.\n\nIn the end the {animal} "
         f"was found in {place}, {number} steps from home, and {person} carried it back."
         for number, (person, animal, place) in enumerate(
             ((p, a, q) for p in PEOPLE for a in ANIMALS for q in PLACES), 11)]
RECORDS = [{"instruction": f"Is the {animal} of {person} in {place}?",
            "input": f"Say it in {n} words." if n % 3 == 0 else "",
            "output": f"The {animal} is in {place}." * (1 + n % 4)}
           for n, (person, animal, place) in enumerate(itertools.product(PEOPLE, ANIMALS, PLACES)) if n % 3 < 2]
SHAPE = ["--n-layer", "2", "--n-head", "2", "--n-embd", "32", "--block-size", "32", "--batch-size", "4",
         "--device", "cpu", "--dtype", "float32", "--no-compile", "--warmup-iters", "3", "--learning-rate", "3e-3"]


def make_shards(folder, direction="reverse", vocab_size=400):
    """Tokenizer, shards and manifest of TEXTS in folder; returns the tokenizer."""
    folder.mkdir(parents=True, exist_ok=True)
    model = train_tokenizer(TEXTS, vocab_size, direction)
    tokenizer, held = Tokenizer(model), {}
    (folder / f"tok{vocab_size}.model").write_bytes(model)
    for split in SPLITS:
        texts = [text for text in TEXTS if split_of(text, 0.1) == split]
        ids = np.array([i for text in texts for i in tokenizer.encode_document(text)], dtype=np.uint16)
        held[split] = ids, {"documents": len(texts), "bytes": sum(len(text.encode()) for text in texts)}
    manifest = {"source": {"dataset": "tiny"}, "direction": direction, "vocab_size": vocab_size,
                "tokenizer": f"tok{vocab_size}.model", "tokenizer_sha256": tokenizer.sha256.hex(), "complete": True,
                "chunks": []}
    add_chunk(folder, manifest, tokenizer, held, next=[0, len(TEXTS)])
    write_manifest(folder, manifest)
    return tokenizer


def write_lines(path, found):
    path.write_text("".join(json.dumps(record, ensure_ascii=False) + "\n" for record in found), encoding="utf-8")
    return path


def tiny_model(loud=1, seed=0, **shape):
    """An untrained model in eval mode; the larger its matrices (loud), the more its answers depend on all it reads."""
    torch.manual_seed(seed)
    model = GPT(GPTConfig(**{"block_size": 64, "vocab_size": 330, "n_layer": 2, "n_head": 2, "n_embd": 32, **shape}))
    if not model.config.tied:
        torch.nn.init.normal_(model.head.weight, std=0.02)  # it would begin at zero
    with torch.no_grad():
        for p in model.parameters():
            p.mul_(loud if p.dim() == 2 else 1)
    return model.eval()


def learn(model, tokenizer, draw, steps, learning_rate):
    """Train model on the pairs (response, instruction) of draw(), another list of them at each step; returns it."""
    optimizer = torch.optim.AdamW(model.parameters())
    for step in range(steps):
        rows = [(encode_response(tokenizer, response)[0], encode_instruction(tokenizer, text))
                for response, text in draw()]
        longest = max(len(prompt) + len(target) for prompt, target in rows)
        ids = torch.tensor([[*prompt, *target, *[0] * (longest - len(prompt) - len(target))]
                            for prompt, target in rows])
        mask = torch.tensor([[len(prompt) <= t < len(prompt) + len(target) for t in range(longest)]
                             for prompt, target in rows])
        _, loss = model(ids[:, :-1], ids[:, 1:], mask[:, 1:])
        loss.backward()
        for group in optimizer.param_groups:
            group["lr"] = learning_rate * (1 - step / steps)
        optimizer.step()
        optimizer.zero_grad()
    return model


def start(script, *arguments, env={}, **options):
    """Start a script of the project with its output on pipes; one thread, so that tests may share two cores. env adds
    to the environment."""
    return subprocess.Popen([sys.executable, str(ROOT / script), *map(str, arguments)], text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                            env={**os.environ, "OMP_NUM_THREADS": "1", **env}, **options)


def run(script, *arguments, **options):
    """Run a script to its end: (exit status, standard output, standard error)."""
    process = start(script, *arguments, **options)
    out, err = process.communicate(timeout=120)
    return process.returncode, out, err
