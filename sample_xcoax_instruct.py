"""
BackChat: you give a response, the model writes the instruction that could have led to it.

    python sample_xcoax_instruct.py
    python sample_xcoax_instruct.py --response "The cat is sleeping." --num-samples 5
    python sample_xcoax_instruct.py --input responses.jsonl --output pairs.jsonl --num-samples 4
    python sample_xcoax_instruct.py --input pairs.jsonl --output scored.jsonl --score

Without flags it asks for one response after another (`help` lists the commands); from a pipe it takes one a line,
whatever that says.
Several samples stand best first: by log P(instruction | response) per token, in nats. PMI, log P(instruction |
response) - log P(instruction), stands beside it. Beside a long response an instruction gets fewer tokens than --tokens,
but at least a quarter of the block.

--input takes .json, .jsonl, .parquet, or .txt with a response a line, and writes to --output, a line for a record, all
its fields and: the best `instruction` of --num-samples with its `mean_log_prob` per token and its `pmi`, or an `error`.
A response in another field than output, response or completion is repeated as `output`; a name that is taken gets
`new_` before it. A response too long for the model gets an error here; one that is typed loses its end. Records are
written 512 at a time, drawn with the seed 1 unless --seed says another. Stopped at any moment, the same command goes on
after the last whole record. With another model or other settings it is refused, unless there are errors only; with
another --response-field or --tokens records with an error are done again and the others kept. --overwrite begins anew.
--score writes the scores of the pairs given instead.

Reads out/xcoax_instruct/best_checkpoint.pt, which finetune_xcoax.py writes.
"""

if __name__ == "__main__":
    import program.starting

import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar, Literal

import tyro

from backchat.candidates import weigh
from backchat.pairs_file import WINDOW, write_pairs
from backchat.records import blank_lines
from backchat.template import AROUND, STOP_IDS, encode_response, instruction_room, writing_room
from backchat.writing import TOKENS, Instructions, Scores, with_scores
from checkpoint import identity, open_model
from program.device import use_threads
from program.settings import launch, parse
from program.streams import end_with_pipe
from sampling.decoding import Decoder
from sampling.threads import settle_threads
from terminal.commands import remark
from terminal.pasts import Written, fresh
from terminal.prompt import loop
from terminal.samples import Growing, ShownControls, draw_samples
from terminal.screen import OUT, be_plain, note, separate, show, show_lines


@dataclass
class InstructSettings:
    """Which model writes, for which responses, and how."""

    model_path: str = "out/xcoax_instruct/best_checkpoint.pt"
    """Checkpoint of finetune_xcoax.py; it holds the tokenizer too."""
    response: str | None = None
    """A response to write instructions for; without it responses are asked for, or read from a pipe."""
    input: str | None = None
    """A file of responses, each of which gets an instruction: .json, .jsonl, .parquet, or .txt with one a line."""
    output: str | None = None
    """The .jsonl file that --input is written to; what it holds already is not done again."""
    overwrite: bool = False
    """Delete the --output that is there, and begin anew."""
    response_field: str | None = None
    """Field of the response; without it output, response, completion, text or messages, whichever a record has."""
    score: bool = False
    """With --input: score the pairs it holds instead of writing instructions."""
    json: bool = False
    """Without --input: print a line of JSON for each instruction, with all that is needed to write it again; a line
    that fails keeps its place."""
    batch_size: int | None = None
    """With --input: instructions that are written at the same time; by default 64 on a CPU, 256 elsewhere."""
    SAMPLING: ClassVar = "sampling"
    controls: tyro.conf.OmitArgPrefixes[ShownControls] = field(default_factory=lambda: ShownControls(tokens=TOKENS))
    TERMINAL: ClassVar = "terminal"
    history: bool = True
    """Keep what is typed at the prompt for the next time, in ~/.local/state/backgpt/."""
    plain: bool = False
    """Show a text once, when it is whole, without movement and colours; NO_COLOR in the environment does the same."""
    MACHINE: ClassVar = "machine"
    device: str = "auto"
    """auto, cpu, cuda, cuda:1 or mps; auto takes the fastest there is."""
    dtype: str = "auto"
    """auto, float32 or bfloat16: the numbers in which the model computes; bfloat16 changes a PMI by some hundredths.
    With --score it is float32."""
    quantize: Literal["off", "int8"] = "off"
    """int8 keeps 8 bits of each weight: faster on a CPU, a little less exact. Not with --score."""
    threads: int | None = None
    """Threads of the CPU; without it one or all, whichever is faster when the model is opened; for --input all."""


def check_flags(settings):
    """Raise ValueError for flags that mean nothing together."""
    if (settings.input is None) != (settings.output is None):
        raise ValueError("--input and --output go together: a file of responses, and the .jsonl file to write")
    if settings.input is None:
        for name in ("score", "response_field", "batch_size", "overwrite"):
            if getattr(settings, name):
                raise ValueError(f"--{name.replace('_', '-')} is for files: it needs --input and --output")
    elif Path(settings.output).suffix != ".jsonl":
        raise ValueError(f"--output {settings.output}: pairs are written as .jsonl only, a record a line. Name such a "
                         "file.")
    elif settings.response is not None:
        raise ValueError("--response is one response, --input a file of them. Give one of the two.")
    if settings.response is not None and not settings.response.strip():
        raise ValueError("--response is empty. Give it what the instruction should lead to.")
    if settings.score and settings.quantize != "off":
        raise ValueError("--score computes in float32, so that the same pair always has the same score. Leave "
                         "--quantize out.")
    if settings.batch_size is not None and settings.batch_size < 1:
        raise ValueError("--batch-size must be at least 1")


class Unranked(Growing):
    """Instructions while they are written: which will be the first is not known yet."""

    def head(self, i):
        return "…"


class Instructing(Written):
    """Writes the instructions that could have led to a response."""

    field = "instruction"

    def __init__(self, decoder, tokenizer, model, as_json=False):
        super().__init__(model, as_json)
        self.decoder, self.tokenizer, self.response = decoder, tokenizer, None

    def answer(self, response, controls):
        """Print instructions for one response, best first; return False if Ctrl-C stopped it."""
        tokenizer, block_size, self.response = self.tokenizer, self.decoder.config.block_size, response
        prompt, shortened = encode_response(tokenizer, response, writing_room(block_size, controls.tokens))
        if shortened:
            note(f"This response has {len(encode_response(tokenizer, response)[0]) - AROUND:,} tokens; the model reads "
                 f"its first {len(prompt) - AROUND:,}.")
        limit = instruction_room(block_size, controls.tokens, prompt)
        samples = draw_samples(self.decoder, prompt, replace(controls, tokens=limit), STOP_IDS,
                               lambda new: [(tokenizer.to_text(new), False)], growing=Unranked)
        [candidates] = weigh(self.decoder, tokenizer, [prompt], [[sample.ids for sample in samples.found]])
        self.records = [with_scores({"instruction": candidate.instruction, "response": response,
                                     "count": candidate.count, "settings": str(controls), "seed": samples.seed},
                                    candidate.score) for candidate in candidates]
        if self.as_json:
            show_lines(self.lines())
        else:
            self.show(candidates, controls)
            note(samples.summary("complete"))
        return not samples.stopped

    def show(self, candidates, controls):
        """Print what was written, each with its scores."""
        for i, candidate in enumerate(candidates):
            if i and not OUT.is_terminal:
                separate()
            number = f"{i + 1}  " if OUT.is_terminal and len(candidates) > 1 else ""
            label = f"{number}Generated Instruction: "
            show([(label, True), (candidate.instruction, False)], [(label, ""), (candidate.instruction, "bold")])
            times = f", {candidate.count} of {controls.num_samples} samples" if controls.num_samples > 1 else ""
            note(f"log P {candidate.score.mean_log_prob:.2f} per token, PMI {candidate.score.pmi:.2f}{times}")
        if not candidates:
            note("The model wrote no words. Try again, or raise temp=.")

    def keep(self, number, controls):
        """Take instruction number: save and copy are about it alone."""
        self.records = [self.records[self.place(number)]]
        note(f"Kept: {self.records[0]['instruction']}")

    def again(self, controls):
        """Write anew for the same response."""
        self.need()
        self.answer(self.response, fresh(controls))

    def back(self, controls):
        """There is none."""
        raise ValueError("Instructions have no forks: again writes others for the same response.")

    def tree(self):
        self.back(None)


def write_file(opened, settings):
    """Write --output from --input and say what came of it; raise ValueError where no record got anything."""
    if settings.score:
        work = Scores(Decoder(opened.model), opened.tokenizer, settings.response_field)
    else:
        controls = settings.controls if settings.controls.seed is not None else replace(settings.controls, seed=1)
        batch_size = settings.batch_size or (64 if opened.device.type == "cpu" else 256)
        work = Instructions(Decoder(opened.model, opened.dtype, settings.quantize), opened.tokenizer, controls,
                            settings.response_field, batch_size)
    made_with = {"model_sha256": identity(opened.path)["model_sha256"], "dtype": work.model.kind,
                 **work.settings}
    try:
        found = write_pairs(work, settings.input, settings.output, made_with, settings.overwrite, sys.stderr.isatty(),
                            tell=note)
    except KeyboardInterrupt:
        written = Path(settings.output).exists() and Path(settings.output).stat().st_size
        note(f"Stopped. The same command goes on after the last whole record of {settings.output}." if written else
             f"Stopped before any record was written to {settings.output}: that happens {WINDOW} at a time.")
        raise
    if found.records and found.errors == found.records:
        raise ValueError(f"none of the {found.records:,} records of {settings.input} could be worked on; the first: "
                         f"{found.fault}. All have an `error` in {settings.output}, and are done again with another "
                         "--response-field, or other settings.")
    blank = blank_lines(settings.input)
    fields = ", ".join(f"{name} of {count:,}" for name, count in work.fields.items())
    note((f"Response: {fields}. " if fields else "") + f"{settings.output}: {found.records:,} records"
         + (f", {found.kept:,} of them were there already" if found.kept else "")
         + (f"; {found.errors:,} have an `error` field (the first: {found.fault})" if found.errors else "")
         + (f"; {blank:,} lines of {settings.input} are blank, and no records" if blank else ""))


def main():
    end_with_pipe()
    settings = parse(InstructSettings, __doc__)
    check_flags(settings)
    if settings.plain:
        be_plain()
    opened = open_model(settings.model_path, "instruct", settings.device, settings.dtype)
    if opened.tokenizer.direction != "reverse":
        raise ValueError(f"{settings.model_path} writes forward, and instructions are written backward, from the "
                         "response. Fine-tune a model that was trained on text made by preprocess_xcoax.py without "
                         "--direction forward.")
    if settings.input is not None:
        use_threads(settings.threads)
        return write_file(opened, settings)
    decoder = Decoder(opened.model, opened.dtype, settings.quantize)
    settle_threads(decoder, settings.threads)
    if said := remark(settings.controls):
        note(said)
    written = Instructing(decoder, opened.tokenizer, lambda: identity(opened.path), settings.json)
    if settings.response is not None:
        sys.exit(0 if written.answer(settings.response, settings.controls) else 130)
    if sys.stdin.isatty():
        note(f"{opened.described(decoder.kind)}\n{settings.controls}\nWrite a response, or help, or quit.")
    sys.exit(loop("Response: ", written, settings.controls,
                  "takes a response; the model writes the instruction that could have led to it.",
                  history="responses" if settings.history else None))


if __name__ == "__main__":
    program.starting.over()
    launch(main)
