"""
Say in numbers how good a model is: one that writes texts, or a BackChat; or several of them side by side.

    python evaluate_xcoax.py --model-path out/tales/best_checkpoint.pt
    python evaluate_xcoax.py --model-path out/tales_instruct/best_checkpoint.pt
    python evaluate_xcoax.py --model-path out/small/best_checkpoint.pt --eval-data 'others/*.parquet'
    python evaluate_xcoax.py --model-path out/small/best_checkpoint.pt out/small_forward/best_checkpoint.pt

Reads the held-out split of the shards that the model was trained on, found in data/ by the fingerprint that its
checkpoint remembers, or --eval-data. A base model is measured by what held-out text costs it, in bits per byte, and by
texts that it writes; a BackChat by whether it finds the true instruction among those of other records, and by how like
the true one those are that it writes. Given models of both directions it says what reading backward costs.

Prints a table, and writes evaluation.json and report.html beside the (first) checkpoint. The same seed gives the same
numbers. docs/evaluation.md says what each of them means.
"""

if __name__ == "__main__":
    import program.starting

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import ClassVar, Literal

from checkpoint import open_model
from evaluation import base, comparing, instruct, selection
from evaluation.report import report
from evaluation.retrieval import CANDIDATES
from evaluation.table import table
from program.device import use_threads
from program.files import atomic_write
from program.settings import launch, parse
from program.streams import say
from sampling.controls import Controls
from training.curve import read_rows


@dataclass
class EvaluateSettings:
    """Which models are evaluated, and on what."""

    model_path: tuple[str, ...]
    """Checkpoints of train_xcoax.py or finetune_xcoax.py; each says itself what it is."""
    data_dir: Path | None = None
    """Folder of the shards that the first model was trained on; by default it is looked for in data/."""
    overlap: bool = True
    """Keep what stands in the training data, too; it is counted in any case."""
    out_dir: Path | None = None
    """Folder for evaluation.json and report.html; by default that of the first checkpoint."""
    seed: int = 1
    """Decides what is drawn: candidates, texts, intervals."""
    OTHERS: ClassVar = "other texts than the held-out split"
    eval_data: str | None = None
    """A corpus, or for a BackChat a file of records, as preprocessing reads it."""
    text_column: str = "text"
    """Column of a table, or field of a .jsonl record, that holds the text."""
    source_column: str | None = None
    """Column that says where a text is from; by default source or dump, where there is one."""
    documents: Literal["auto", "files", "paragraphs", "lines"] = "auto"
    """What is a document of a .txt file; see preprocess_xcoax.py."""
    BASE: ClassVar = "base models"
    max_documents: int = 300
    """Documents to read at most, spread evenly."""
    num_samples: int = 200
    """Texts to write, beside which as many held-out ones are put; 0 writes none."""
    sample_tokens: int = 200
    """The most tokens that one of them may get."""
    BACKCHAT: ClassVar = "BackChat"
    max_pairs: int = 256
    """Pairs to take at most, spread evenly."""
    candidates: int = CANDIDATES
    """Instructions among which the true one is sought; fewer where there are not so many pairs."""
    best_of: int = 8
    """Instructions to write for each response, of which one is taken."""
    forward: str | None = None
    """A forward model, whose log P(response | instruction) is to find the true instruction, too."""
    judge: str | None = None
    """A forward model fine-tuned on pairs, which says whether an instruction leads back to the response."""
    SAMPLING: ClassVar = "sampling"
    temperature: float = 0.8
    """The higher, the bolder are texts and instructions."""
    top_k: int | None = 200
    """Texts choose among the k likeliest tokens."""
    MACHINE: ClassVar = "machine"
    device: str = "auto"
    """auto, cpu, cuda, cuda:1 or mps; auto takes the fastest there is."""
    dtype: str = "auto"
    """auto, float32 or bfloat16: the numbers in which the model computes; bfloat16 changed bits per byte in the fifth
    place."""
    threads: int | None = None
    """Threads of the CPU; without it as many as PyTorch takes."""

    def __post_init__(self):
        if not self.model_path:
            raise ValueError("--model-path names no checkpoint. Name one or more.")
        for name, least in (("max_documents", 2), ("num_samples", 0), ("sample_tokens", 1), ("max_pairs", 2),
                            ("candidates", 2)):
            if getattr(self, name) < least:
                raise ValueError(f"--{name.replace('_', '-')} must be at least {least}")
        self.controls = Controls(self.temperature, self.top_k, tokens=self.sample_tokens, seed=self.seed)
        self.instructing = selection.controls_of(self.best_of, self.temperature, self.seed)

    def derive(self):
        if self.out_dir is None:
            self.out_dir = Path(self.model_path[0]).parent


def main():
    settings = parse(EvaluateSettings, __doc__)
    use_threads(settings.threads)
    opened = [open_model(path, device=settings.device, dtype=settings.dtype) for path in settings.model_path]
    if {one.kind for one in opened} != {opened[0].kind}:
        raise ValueError("Base models and instruct models are measured by other numbers. Evaluate them one after the "
                         "other: " + ", ".join(f"{one.path} is a {one.kind} model" for one in opened))
    backward_only([one for one in opened if one.kind == "instruct"])
    for one in opened:
        say(str(one))
    result = {"settings": {name: str(value) if isinstance(value, Path) else value
                           for name, value in asdict(settings).items()},
              "kind": opened[0].kind, "models": [comparing.about(one) for one in opened], "notes": []}
    result["notes"] += comparing.differences(result["models"])
    if result["kind"] == "base":
        base.evaluate(opened, settings, result, rows_beside)
    else:
        instruct.evaluate(opened, settings, result)
    result["machine"] = comparing.machine(opened[0].device, opened[0].dtype)
    for note in result["notes"]:
        say(note)
    say(table(result))
    with atomic_write(settings.out_dir / "evaluation.json", "w") as file:
        json.dump(result, file, indent=1, ensure_ascii=False)
    with atomic_write(settings.out_dir / "report.html", "w") as file:
        file.write(report(result))
    say(f"Written: {settings.out_dir / 'evaluation.json'}, {settings.out_dir / 'report.html'}")


def backward_only(opened):
    """Raise ValueError for an instruct model that is no BackChat."""
    for one in opened:
        if one.tokenizer.direction != "reverse":
            raise ValueError(f"{one.path} writes responses, not instructions. It can judge a BackChat: name that as "
                             f"--model-path, and\n    --judge {one.path}")


def rows_beside(path):
    """The rows of the metrics.jsonl of the run that made a checkpoint, if there are any."""
    path = Path(path).parent / "metrics.jsonl"
    return [row for _, row in read_rows(path) if row is not None] if path.is_file() else []


if __name__ == "__main__":
    program.starting.over()
    launch(main)
