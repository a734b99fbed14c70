"""
Write a checkpoint in the form that other programs read.

    python export_xcoax.py --model-path out/xcoax/best_checkpoint.pt --format hf --output exported/xcoax
    python export_xcoax.py --model-path out/xcoax_instruct/best_checkpoint.pt --format gguf --output exported/chat
    python export_xcoax.py --format llama2c --dtype int8 --output exported/llama2c

    hf        for Hugging Face's transformers: LlamaForCausalLM and a fast tokenizer; float32, float16, bfloat16.
              train_xcoax.py --init-from and the samplers' --model-path take such a folder back
    gguf      for llama.cpp and Ollama; float32, float16, int8 (q8_0)
    llama2c   for llama2.c; float32 for its run, int8 for its runq

Each is a folder with a README.md that says how it is used. It is read back and compared with the checkpoint before it
gets its name: where logits differ by more than the numbers explain, or ids do, nothing is left of it. llama.cpp and
llama2.c cut text by a tokenizer of their own; told is on how many of 1,000 texts its ids differ from ours, and what
that costs.
"""

if __name__ == "__main__":
    import program.starting

import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from backchat.use import use_of
from checkpoint import card, open_model
from checkpoint.exporting import compare
from corpus import tales
from corpus.languages import LANGUAGES
from program.files import new_folder
from program.settings import launch, parse
from program.streams import say

TEXTS = 1000
NAMES = {"README.md", "reversal.py",  # of all files that an export may hold
         "config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json",
         "tokenizer.model", "Modelfile", "model-float32.gguf", "model-float16.gguf", "model-int8.gguf", "model.bin",
         "model_q80.bin", "tokenizer.bin"}


@dataclass
class ExportSettings:
    """What is written, and where."""

    model_path: str = "out/xcoax/best_checkpoint.pt"
    """Checkpoint of train_xcoax.py or finetune_xcoax.py."""
    format: Literal["hf", "gguf", "llama2c"] = "hf"
    """hf: Hugging Face's transformers. gguf: llama.cpp and Ollama. llama2c: run and runq."""
    output: Path = Path("exported")
    """Folder to write."""
    dtype: str = "float32"
    """Numbers of the weights: float32; float16 (hf, gguf); bfloat16 (hf); int8 (gguf, llama2c)."""
    overwrite: bool = False
    """Write over an earlier export."""


def room_of(format):
    """The module that knows a format."""
    if format == "hf":
        from checkpoint import huggingface as found
    elif format == "gguf":
        from checkpoint import gguf as found
    else:
        from checkpoint import llama2c as found
    return found


def texts():
    """What exports are compared on: tales, and a few sentences in many languages."""
    return [*itertools.islice(tales.stories(1), TEXTS - len(LANGUAGES)), *LANGUAGES.values()]


def main():
    settings = parse(ExportSettings, __doc__)
    room = room_of(settings.format)
    if settings.dtype not in room.FILES:
        raise ValueError(f"--dtype {settings.dtype}: --format {settings.format} takes {', '.join(room.FILES)}.")
    opened = open_model(settings.model_path, device="cpu", dtype="float32")
    use, file, exact = use_of(opened), room.FILES[settings.dtype], settings.format == "hf"
    say(str(opened))
    with new_folder(settings.output, NAMES, settings.overwrite) as folder:
        room.write(folder, opened, settings.dtype, use)
        (folder / "README.md").write_text(card.readme(opened, settings.format, file, use), encoding="utf-8")
        if opened.tokenizer.direction == "reverse":
            (folder / "reversal.py").write_text(card.reversal(), encoding="utf-8")
        found = compare(opened, *room.read(folder, settings.dtype, opened.tokenizer), settings.dtype, texts(),
                        room.PREFIX, exact)
        size = sum(entry.stat().st_size for entry in folder.iterdir())
    say(f"{settings.output}: {size / 1e6:,.1f} MB, read back and compared.\n"
        f"Logits differ by {found.largest:.2g} at most, {found.share:.1g} of their standard deviation.")
    if exact:
        say(f"The ids of {TEXTS:,} texts in {len(LANGUAGES)} languages are ours.")
    else:
        prefixed = ", and puts a space in front of each" * bool(room.PREFIX)
        say(f"Its own tokenizer cuts {found.differ:,} of {TEXTS:,} texts in {len(LANGUAGES)} languages otherwise than "
            f"ours{prefixed}: {found.bits_per_byte:+.4f} bits per byte.")
    say(f"How to use it: {settings.output / 'README.md'}")


if __name__ == "__main__":
    program.starting.over()
    launch(main)
