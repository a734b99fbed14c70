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
from evaluation import base, comparing, data, instruct, overlap, selection
from evaluation.arrow import along_training, arrow, paired
from evaluation.forward import Forward
from evaluation.report import report
from evaluation.retrieval import CANDIDATES
from evaluation.round_trip import round_trip
from evaluation.table import table
from program.device import use_threads
from program.files import atomic_write
from program.settings import launch, parse
from program.streams import say
from sampling.controls import Controls
from sampling.decoding import Decoder
from shards import read_split
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
    (evaluate_bases if opened[0].kind == "base" else evaluate_chats)(opened, settings, result)
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


def folders_of(opened, settings, result):
    """The folder of the held-out split, None with --eval-data, and for each model the folder of the shards that it was
    trained on, None where that is not there. Notes which models may know what is held out."""
    own = [data.own_folder(one, settings.data_dir) for one in opened]
    if settings.eval_data is not None:
        return None, own
    held_out = data.folder_of(opened[0], settings.data_dir, own[0])
    for one, folder in zip(opened, own):
        if folder is None or not comparing.same_split(held_out, folder):
            result["notes"].append(f"{one.path} was not trained on the shards of {held_out} as they are now: it may "
                                   "know some of what they hold out.")
    return held_out, [own[0] or held_out, *own[1:]]


# ---- base models


def evaluate_bases(opened, settings, result):
    """Fill in what is measured of base models: a dict "found" in each of result["models"], and "arrow"."""
    (held_out, folders), empty = folders_of(opened, settings, result), 0
    if settings.eval_data is None:
        documents = data.documents_of_split(held_out, settings.max_documents)
    else:
        documents, empty = data.documents_of_corpus(settings.eval_data, settings.max_documents, settings.text_column,
                                                    settings.source_column, settings.documents, settings.seed)
    if empty:
        result["notes"].append(f"{empty:,} documents of {settings.eval_data} hold no text and were passed over.")
    shards = [read_split(folder, "train", one.tokenizer) if folder and data.fits(one, folder) else None
              for one, folder in zip(opened, folders)]
    documents = without_overlap(opened[0].tokenizer, documents, shards[0], settings, result)
    readings = []
    for one, about, own in zip(opened, result["models"], shards):
        readings.append(base.read_documents(one, documents))
        about["found"] = {**base.loss(readings[-1], settings.seed), **base.parts(readings[-1], settings.seed)}
        if settings.num_samples:
            about["found"]["texts"] = base.texts(one, documents, settings.controls, settings.num_samples, own)
    models = [{**about, "readings": found} for about, found in zip(result["models"], readings)]
    if {model["direction"] for model in models} == {"forward", "reverse"}:
        pairs = paired(models)
        if 2 * len(pairs) < len(models):
            result["notes"].append(f"Only {2 * len(pairs)} of the {len(models)} models are of both directions and the "
                                   "same seed; the arrow of time is theirs.")
        curves = [along_training(*map(rows_beside, pair)) for pair in pairs]
        result["arrow"] = arrow([tuple(model["readings"] for model in pair) for pair in pairs], settings.seed,
                                list(filter(None, curves)))


def without_overlap(tokenizer, documents, shards, settings, result):
    """Count the documents that share a passage with the training data; leave them out where that is wished."""
    if shards is None:
        result["notes"].append("Overlap with the training data and copies from it were not looked for: its shards are "
                               "not there.")
        return documents
    shared = base.passages(tokenizer, documents, shards)
    result["overlap"] = {"of": len(documents), "passage": sum(shared)}
    return left(documents, shared, settings, result, f"a run of {overlap.GRAM} tokens")


def left(some, shared, settings, result, what):
    """What is left of some documents or pairs; raises ValueError where that is not enough."""
    kept = [one for one, known in zip(some, shared) if not known]
    result["notes"].append(f"{sum(shared):,} of {len(some):,} share {what} with the training data"
                           + (" and are kept." if settings.overlap else " and are left out."))
    if settings.overlap:
        return some
    if len(kept) < 2:
        raise ValueError(f"Without what stands in the training data, {len(kept)} of {len(some)} are left. Take more, "
                         "or leave --no-overlap out.")
    return kept


def rows_beside(model):
    """The rows of the metrics.jsonl of the run that made a model, if there are any."""
    path = Path(model["path"]).parent / "metrics.jsonl"
    return [row for _, row in read_rows(path) if row is not None] if path.is_file() else []


# ---- BackChat


def evaluate_chats(opened, settings, result):
    """Fill in what is measured of BackChats: a dict "found" in each of result["models"]."""
    (held_out, folders), empty = folders_of(opened, settings, result), 0
    if settings.eval_data is None:
        if not data.fits(opened[0], held_out):
            raise ValueError(f"{held_out} was made with another tokenizer than that of {opened[0].path}. Name the "
                             "folder that it was trained on with --data-dir, or a file with --eval-data.")
        pairs = data.pairs_of_split(held_out, opened[0].tokenizer, most=settings.max_pairs)
    else:
        pairs, empty = data.pairs_of_file(settings.eval_data, settings.max_pairs, settings.source_column, settings.seed)
    if empty:
        result["notes"].append(f"{empty:,} records of {settings.eval_data} lack an instruction or a response and were "
                               "passed over.")
    for one in opened:
        fitting = instruct.usable(one, pairs)
        if len(fitting) < len(pairs):
            result["notes"].append(f"{len(pairs) - len(fitting):,} pairs are too long for the block of {one.path} and "
                                   "were left out.")
        pairs = fitting
    training = [data.pairs_of_split(folder, one.tokenizer, "train") if folder and data.fits(one, folder) else None
                for one, folder in zip(opened, folders)]
    if training[0] is not None:
        found = overlap.overlaps([pair[:2] for pair in pairs], (pair[:2] for pair in training[0]))
        result["overlap"] = {"of": len(pairs), **overlap.counts(found)}
        pairs = left(pairs, list(map(bool, found)), settings, result,
                     f"a response, an instruction or a passage of {overlap.GRAM} words")
    forward, judge = (path and Forward(path, flag, kind, settings.device, settings.dtype) for path, flag, kind in (
        (settings.forward, "--forward", None), (settings.judge, "--judge", "instruct")))
    candidates = min(settings.candidates, len({instruction for _, instruction, _ in pairs}) - 1)
    if candidates < 2:
        raise ValueError("All pairs have the same instruction, so none can be sought among others. Take more pairs.")
    if candidates < settings.candidates:
        result["notes"].append(f"There are {candidates + 1} different instructions, so the true one is sought among "
                               f"{candidates} (the control takes one), and chance is higher than among "
                               f"{settings.candidates}.")
    result["candidates"] = candidates
    measures = selection.likenesses()
    tales = settings.eval_data == "tales" or settings.eval_data is None and data.of_tales(held_out)
    result["sources_are"] = "kind of question" if tales else "source"
    if tales:
        measures["right kind of question"] = selection.same_kind
    for one, about, known in zip(opened, result["models"], training):
        about["found"] = evaluate_chat(one, pairs, known, candidates, settings, measures, forward, judge)


def evaluate_chat(opened, pairs, training, candidates, settings, measures, forward, judge):
    """All that is measured of one BackChat."""
    model, tokenizer, seed = Decoder(opened.model, opened.dtype), opened.tokenizer, settings.seed
    loss = instruct.Loss(model, tokenizer, pairs)
    places = instruct.places(model, tokenizer, pairs, candidates, seed, forward)
    written = instruct.written_texts(model, tokenizer, pairs, settings.instructing)
    chosen, arrays = instruct.selection_figures(written, pairs, measures, settings.best_of, seed)
    found = {**loss.figures(seed), "retrieval": instruct.retrieval_figures(places, seed), "selection": chosen,
             "variety": instruct.variety(written, pairs, training and [text for _, text, _ in training]),
             "by_source": instruct.by_group(instruct.sources(pairs), loss, places, arrays, seed),
             "by_length": instruct.by_group(instruct.lengths(tokenizer, pairs), loss, places, arrays, seed),
             "samples": instruct.shown(written, pairs, settings.best_of)}
    if judge is not None:
        taken = [selection.taken(one, "per_token", settings.best_of) for one in written]
        found["round_trip"] = round_trip(judge, pairs, taken, seed)
    return found


if __name__ == "__main__":
    program.starting.over()
    launch(main)
