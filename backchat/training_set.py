"""
From a file of pairs to a set on which a model is trained to follow instructions: the best pairs, each one once.

    python sample_xcoax_instruct.py --input texts.txt --output pairs.jsonl --num-samples 4
    python -m backchat.training_set --input pairs.jsonl --output set.jsonl

Every line of set.jsonl holds the form that trainers read, with the scores of the pair:

    {"messages": [{"role": "user", "content": …}, {"role": "assistant", "content": …}], "mean_log_prob": …, "pmi": …}

First goes what has an error or no score, then what says the same as a better pair: the same instruction or the same
response but for case and white space. Of the others the share with the highest log P per token is kept, in the order of
the file: of the demo's instructions for 592 new responses 93 % ask the right kind of question, and of the best half by
log P per token all, but of the best half by PMI 91 %.
"""

import hashlib
import math
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from backchat import records
from backchat.pair_lines import to_json
from program import commands
from program.files import atomic_write
from program.settings import launch, parse
from program.streams import say


@dataclass
class SetSettings:
    """Which pairs become a set."""

    input: Path
    """A .jsonl file that sample_xcoax_instruct.py --input has written."""
    output: Path
    """The .jsonl file to write."""
    share: float = 0.5
    """How many of the pairs that are left are kept, the best ones: a number up to 1."""
    overwrite: bool = False
    """Write over the file that is there."""

    def __post_init__(self):
        if not 0 < self.share <= 1:
            raise ValueError(f"share is {self.share}; it must be above 0 and up to 1")


class Counted(NamedTuple):
    """What became of the records of a file of pairs."""

    records: int
    unscored: int     # with an error, or without a score
    same: int         # as a better one
    low_share: int    # not among the best share
    kept: int
    worst: float      # log P per token of those kept


def _scored(record):
    """(instruction, response, log P per token, PMI) of a record, or None where it has no scores."""
    named = {name: record.get(f"new_{name}", record.get(name)) for name in ("instruction", "mean_log_prob", "pmi")}
    if not all(isinstance(named[name], (int, float)) for name in ("mean_log_prob", "pmi")):
        return None
    instruction, given, response = records.pair({**record, "instruction": named["instruction"]})
    return records.full_instruction(instruction, given), response, named["mean_log_prob"], named["pmi"]


def _digest(text):
    """Equal for texts that are the same but for case and white space."""
    return hashlib.blake2b(" ".join(text.casefold().split()).encode("utf-8", "surrogatepass"), digest_size=12).digest()


def choose(pairs, share):
    """(indices of pairs to keep, Counted without the records that have no scores), of a list of (instruction, response,
    log P per token, PMI)."""
    known, left = set(), []
    for i in sorted(range(len(pairs)), key=lambda i: -pairs[i][2]):  # equal ones in the order of the file
        keys = {(side, _digest(pairs[i][side])) for side in (0, 1)}
        if not keys & known:
            left.append(i)
            known |= keys
    kept = sorted(left[:math.ceil(share * len(left))])
    worst = min((pairs[i][2] for i in kept), default=math.nan)
    return kept, Counted(len(pairs), 0, len(pairs) - len(left), len(left) - len(kept), len(kept), worst)


def write_set(pairs_path, output, share=0.5):
    """Write the messages of the pairs that choose() keeps to a .jsonl file; returns Counted. Raises ValueError naming
    the line of a record that cannot be read, or where no pair has a score."""
    found = [_scored(record) for _, record in records.read_file(pairs_path)]
    pairs = [pair for pair in found if pair is not None]
    if not pairs:
        raise ValueError(f"{pairs_path} has no pair with mean_log_prob and pmi. Write instructions for its responses "
                         "first, or with --score score the pairs that it holds:\n    "
                         f"{commands.sample('instruct', input=pairs_path, output='pairs.jsonl')}")
    kept, counted = choose(pairs, share)
    with atomic_write(output) as file:
        for instruction, response, mean_log_prob, pmi in (pairs[i] for i in kept):
            file.write(to_json({"messages": [{"role": "user", "content": instruction},
                                             {"role": "assistant", "content": response}],
                                "mean_log_prob": mean_log_prob, "pmi": pmi}) + b"\n")
    return counted._replace(records=len(found), unscored=len(found) - len(pairs))


def main():
    settings = parse(SetSettings, __doc__)
    if settings.output.exists() and not settings.overwrite:
        raise FileExistsError(f"{settings.output} exists. Name another file, or add --overwrite.")
    counted = write_set(settings.input, settings.output, settings.share)
    say(f"{counted.records:,} records of {settings.input}: {counted.unscored:,} without a score, {counted.same:,} "
        f"the same as a better one, {counted.low_share:,} not among the best.\n"
        f"{counted.kept:,} are in {settings.output}; the least likely has a log P of {counted.worst:.2f} per token.")


if __name__ == "__main__":
    launch(main)
