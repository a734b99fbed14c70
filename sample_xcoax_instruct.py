"""
BackChat: you give a response, the model writes the instruction that could have led to it.

    python sample_xcoax_instruct.py
    python sample_xcoax_instruct.py --response "The cat is sleeping." --num-samples 5
    python sample_xcoax_instruct.py --input responses.jsonl --output pairs.jsonl --num-samples 4
    python sample_xcoax_instruct.py --input pairs.jsonl --output scored.jsonl --score

Without flags it asks for one response after another (`help` lists the commands); from a pipe it takes one a line.
Several samples stand best first: by PMI, log P(instruction | response) - log P(instruction), in nats.

--input takes .json, .jsonl, .parquet, or .txt with a response a line, and writes to --output, a line for a record, all its
fields and: the best `instruction` of --num-samples with its `mean_log_prob` per token and its `pmi`, or an `error`. A
response in another field than output, response or completion is repeated as `output`; a name that is taken gets `new_`
before it. A response too long for the model gets an error here; one that is typed loses its end. Records are written 512
at a time. Stopped at any moment, the same command goes on after the last whole record; that flags or the model were
changed in between is not noticed. --score writes the scores of the pairs given instead.

Reads out/xcoax_instruct/best_checkpoint.pt, which finetune_xcoax.py writes.
"""

import sys
from dataclasses import dataclass, replace

import checkpoint
from backtranslate import STOP_IDS, TOKENS, Instructions, Scores, instruction_room, response_room, run as run_batch
from device import autocast, pick_device, pick_dtype
from repl import SEPARATOR, Controls, draw_samples, loop, note, prepare_streams, show
from score import weigh
from settings import parse, run


@dataclass
class Settings:
    model_path: str = "out/xcoax_instruct/best_checkpoint.pt"
    """checkpoint of finetune_xcoax.py; it holds the tokenizer too"""
    response: str | None = None
    """a response to write instructions for; without it responses are asked for, or read from a pipe"""
    input: str | None = None
    """a file of responses, each of which gets an instruction: .json, .jsonl, .parquet, or .txt with one a line"""
    output: str | None = None
    """the .jsonl file that --input is written to; what it holds already is not done again"""
    response_field: str | None = None
    """field of the response; without it output, response, completion, text or messages, whichever a record has"""
    score: bool = False
    """with --input: score the pairs it holds instead of writing instructions"""
    num_samples: int = 1
    """instructions for each response, 1 to 64; a file gets the best of them"""
    temperature: float = 0.8
    """0 always takes the likeliest token; the higher, the bolder"""
    top_k: int = 200
    """choose among the k likeliest tokens; 0 is off"""
    top_p: float | None = None
    """choose among the fewest tokens that together are this likely"""
    min_p: float | None = None
    """drop tokens less than this many times as likely as the likeliest"""
    tokens: int = TOKENS
    """the most tokens that an instruction may get; beside a long response fewer, but at least a quarter of the block"""
    seed: int | None = None
    """the same seed gives the same instructions; None draws a fresh one for each response, and is 1 for --input"""
    batch_size: int | None = None
    """with --input: instructions that are written at the same time; None is 64 on a CPU, 256 elsewhere"""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1 or mps; auto takes the fastest there is"""
    dtype: str = "auto"
    """auto, float32 or bfloat16: the numbers in which the model computes; scores are in float32, but for --input without
    --score, where bfloat16 changes a PMI by some hundredths"""


def check_flags(settings):
    """Raise ValueError for flags that mean nothing together."""
    if (settings.input is None) != (settings.output is None):
        raise ValueError("--input and --output go together: a file of responses, and the .jsonl file to write")
    if settings.input is None:
        for name in ("score", "response_field", "batch_size"):
            if getattr(settings, name):
                raise ValueError(f"--{name.replace('_', '-')} is for files: it needs --input and --output")
    elif settings.response is not None:
        raise ValueError("--response is one response, --input a file of them. Give one of the two.")
    if settings.response is not None and not settings.response.strip():
        raise ValueError("--response is empty. Give it what the instruction should lead to.")
    if settings.batch_size is not None and settings.batch_size < 1:
        raise ValueError("--batch-size must be at least 1")


def write_instructions(model, tokenizer, response, controls, context):
    """Print instructions for one response, best first; return False if Ctrl-C stopped it. context() is autocast's."""
    block_size = model.config.block_size
    prompt, shortened = tokenizer.encode_response(response, response_room(controls.tokens, block_size))
    if shortened:
        whole, template = (len(tokenizer.encode_response(text)[0]) for text in (response, ""))
        note(f"This response has {whole - template:,} tokens; the model reads its first {len(prompt) - template:,}.")
    limit = instruction_room(controls.tokens, block_size, prompt)
    with context():
        samples = draw_samples(model, prompt, replace(controls, tokens=limit), STOP_IDS,
                               lambda new: [(tokenizer.to_text(new), False)])
    [candidates] = weigh(model, tokenizer, [prompt], [samples.rows])
    for i, candidate in enumerate(candidates):
        if i and not sys.stdout.isatty():
            print(SEPARATOR)
        show([("Generated Instruction: ", False), (candidate.instruction, True)])
        times = f", {candidate.count} of {controls.n} samples" if controls.n > 1 else ""
        note(f"PMI {candidate.score.pmi:.2f}, {candidate.score.mean_log_prob:.2f} per token{times}")
    if not candidates:
        note("The model wrote no words. Try again, or raise temp=.")
    note(samples.summary("complete"))
    return not samples.stopped


def write_file(model, tokenizer, settings, controls, batch_size, context):
    """Write --output from --input and say what came of it."""
    if settings.score:
        work = Scores(model, tokenizer, settings.response_field)
    else:
        work = Instructions(model, tokenizer, controls, settings.response_field, batch_size, context)
    try:
        total, errors, kept = run_batch(work, settings.input, settings.output, progress=sys.stderr.isatty())
    except KeyboardInterrupt:
        note(f"Stopped. The same command goes on after the last whole record of {settings.output}.")
        raise
    fields = ", ".join(f"{name} of {count:,}" for name, count in work.fields.items())
    note((f"Response: {fields}. " if fields else "") + f"{settings.output}: {total:,} records"
         + (f", {kept:,} of them were there already" if kept else "")
         + (f"; {errors:,} have an `error` field" if errors else ""))


def main():
    prepare_streams()
    settings = parse(Settings, __doc__)
    check_flags(settings)
    controls = Controls(temp=settings.temperature, top_k=settings.top_k, top_p=settings.top_p, min_p=settings.min_p,
                        tokens=settings.tokens, seed=settings.seed, n=settings.num_samples)
    device = pick_device(settings.device)
    dtype = pick_dtype(settings.dtype, device)
    content = checkpoint.load(settings.model_path, kind="instruct")
    if content["direction"] != "reverse":
        raise ValueError(f"{settings.model_path} writes forward, and instructions are written backward, from the response. "
                         "Fine-tune a model that was trained on text made by preprocess_xcoax.py without --direction forward.")
    model, tokenizer = checkpoint.build(content, device)

    def context():
        return autocast(device, dtype)

    if settings.input is not None:
        if controls.seed is None:
            controls = replace(controls, seed=1)
        batch_size = settings.batch_size or (64 if device.type == "cpu" else 256)
        write_file(model, tokenizer, settings, controls, batch_size, context)
        return

    def answer(response, controls):
        return write_instructions(model, tokenizer, response, controls, context)

    if settings.response is not None:
        sys.exit(0 if answer(settings.response, controls) else 130)
    if sys.stdin.isatty():
        note(f"{settings.model_path}: {model.num_params():,} weights, on {device} in {str(dtype).removeprefix('torch.')}\n"
             f"{controls}\nWrite a response, or help, or quit.")
    sys.exit(loop("Response: ", answer, controls,
                  "takes a response; the model writes the instruction that could have led to it."))


if __name__ == "__main__":
    run(main)
