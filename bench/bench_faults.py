"""
The programs attacked: odd strings, damaged files, files of strangers, kills, full disks, rivals.

    python bench/bench_faults.py                                    # everything, a quarter of an hour
    python bench/bench_faults.py --attacks checkpoints --share 0.1  # a tenth of one
    python bench/bench_faults.py --attacks kills ranks              # training and the rest killed, one process and two

What must hold: no traceback, nothing damaged or strange taken in silence, nothing lost, no hang. What was stopped or
refused goes on with the same command and ends with the same bytes as an unbroken run. tests/ holds the same laws on a
small number of cases; the cases are made by the same functions (tests/support/damage*.py). Prints a row for each attack
and every fault with what is needed to repeat it; ends with status 1 if there was one.
"""

import contextlib
import hashlib
import itertools
import json
import os
import random
import resource
import secrets
import shutil
import signal
import string
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from program.processes import children
from program.settings import launch, parse
from program.streams import say

SECONDS = 60           # that opening one damaged or strange file may take
STAGE_SECONDS = 300    # that one run of a script may take: all are tiny here
REFUSED = (ValueError, OSError, MemoryError, FloatingPointError)  # what launch() prints without a traceback


@dataclass
class BenchSettings:
    attacks: tuple[str, ...] = ()
    """Which: strings, shards, checkpoints, records, kills, ranks, disks, rivals; none named is all."""
    share: float = 1.0
    """Of the cases of each."""
    seed: int = 1
    """Other cases."""


class Attack:
    """Counts how the cases of one attack went, and keeps the faults."""

    def __init__(self, name, cases):
        self.name, self.outcomes, self.faults = name, Counter(), []
        self.bar = tqdm(total=cases, desc=name, dynamic_ncols=True, disable=None, leave=False)

    def went(self, outcome):
        """A case went as it should."""
        self.outcomes[outcome] += 1
        self.bar.update()

    def fault(self, what):
        self.outcomes["FAULT"] += 1
        self.faults.append(what)
        self.bar.update()

    def report(self):
        self.bar.close()
        counted = ", ".join(f"{count:,} {outcome}" for outcome, count in sorted(self.outcomes.items()))
        say(f"{self.name:<12} {sum(self.outcomes.values()):>10,}   {counted}")
        for what in self.faults[:50]:
            say(f"    {what}")


# ---- strings, in this process


POOLS = [string.ascii_letters + "    ", " \n\t\r.,'’-_\"«»()<|>\\/", "0123456789., ", "語ひカ한。、",
         "\U0001f468\u200d\U0001f469\U0001f3fd\ufe0f\u20e3\U0001f1e9\U0001f1ea",
         "\u0301\u093f\u0651\u200c\u200d\u2060\u00ad", "\0\x1f\x1b\x7f\x85\u2028\u00a0\u3000\ufeff\u2581\ufffd",
         "\ud800\udbff\udc00\udfff", "العربية שלום кот λόγος ไทย"]


def odd_string(rng):
    """A string of up to 60 characters from one pool, several, or all of Unicode."""
    pool = "".join(rng.sample(POOLS, rng.choice((1, 2, 3))))
    draw = rng.choice((lambda: rng.choice(pool), lambda: chr(rng.randrange(0x110000)) if rng.random() < 0.3
                       else rng.choice(pool)))
    return "".join(draw() for _ in range(rng.randrange(60)))


def strings(settings, folder):
    """Reversal and tokenizer give back every string."""
    from reverse import reverse, segments, units
    from tests.support.texts import TEXTS
    from tokenizer import Tokenizer, train_tokenizer

    attack, rng = Attack("strings", cases := int(1_000_000 * settings.share)), random.Random(settings.seed)
    codecs = [Tokenizer(train_tokenizer(TEXTS.values(), 1000, direction)) for direction in ("reverse", "forward")]
    for _ in range(cases):
        text = odd_string(rng)
        backward = reverse(text)
        held = ("".join(segments(text)) == text == reverse(backward) and "".join(units(text)) == backward
                and all(codec.to_text(codec.encode_text(text)) == text for codec in codecs))
        attack.went("restored") if held else attack.fault(f"strings: {text!r} does not come back")
    attack.report()
    return attack


# ---- damaged and strange files, each opened in a process that may die


def judge(open_it, whole=None):
    """How opening went, as (outcome, fault): refused, or read, and then as the undamaged one where that is given."""
    started = time.monotonic()
    try:
        found = open_it()
    except REFUSED as error:
        outcome, fault = "refused", "" if len(str(error)) > 20 else f"refused without a word: {error!r}"
    except BaseException as error:
        outcome, fault = "FAULT", f"{type(error).__name__}: {str(error)[:200]}"
    else:
        outcome = "read" if whole is None else "read as it was"
        fault = "" if whole in (None, found) else "taken in silence, and not as it was"
    seconds = time.monotonic() - started
    return outcome, fault or (f"took {seconds:.0f} s" if seconds > SECONDS / 2 else "")


def each_in_a_child(attack, function, cases):
    """Let a child, which may die, call function(path, what else) for each of cases (what was done, path, what else)."""
    cases = iter(cases)
    what = True
    while what:
        what = None
        try:
            with children(1) as executor:
                for what, *arguments in cases:
                    outcome, fault = executor.submit(function, *arguments).result(timeout=SECONDS)
                    attack.fault(f"{attack.name}: {what}: {fault}") if fault else attack.went(outcome)
                what = None
        except TimeoutError:
            attack.fault(f"{attack.name}: {what}: no answer in {SECONDS} s")
        except OSError as error:
            attack.fault(f"{attack.name}: {what}: the process died ({error})")
    attack.report()
    return attack


def digest(value):
    """A hash of tensors, arrays, and plain values in dicts, lists and tuples."""
    if isinstance(value, dict):
        return hashlib.sha256(repr([(name, digest(item)) for name, item in value.items()]).encode()).hexdigest()
    if isinstance(value, (list, tuple)):
        return hashlib.sha256(repr(list(map(digest, value))).encode()).hexdigest()
    return hashlib.sha256(value.numpy().tobytes() if hasattr(value, "numpy") else value.tobytes() if hasattr(
        value, "tobytes") else repr(value).encode()).hexdigest()


def open_shards(folder, whole=None):
    """Everything that training reads from a folder."""
    from shards import SPLITS, Windows, read_split

    def open_it():
        return digest([Windows(read_split(folder, split), 32, split=split).tokens for split in SPLITS])

    return judge(open_it, whole) if whole else open_it()


def shards(settings, folder):
    """A damaged folder of shards is refused, or its ids are what they were."""
    from tests.support.damage_shards import damaged_folders
    from tests.support.tiny import make_shards

    make_shards(folder / "whole")
    whole, count = open_shards(folder / "whole"), int(2000 * settings.share)

    def cases():
        seeds = itertools.count(settings.seed)
        all_cases = ((f"seed {seed}: {what}", damage) for seed in seeds
                     for what, damage in damaged_folders(folder / "whole", seed))
        for number, (what, damage) in enumerate(itertools.islice(all_cases, count)):
            copied = shutil.copytree(folder / "whole", folder / str(number))
            damage(copied)
            yield what, copied, whole
            shutil.rmtree(copied)

    return each_in_a_child(Attack("shards", count), open_shards, cases())


def open_checkpoint(path, whole=None):
    """Everything that sampling and going on take from a checkpoint."""
    import torch

    import checkpoint
    from tests.support.checkpoints import TOKENIZER, small_model

    def open_it():
        opened, model = checkpoint.open_model(path, device="cpu"), small_model(seed=1)
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
        gone_on = checkpoint.resume(path, model, TOKENIZER, optimizer, "base", {})
        return digest([opened.model.state_dict(), model.state_dict(), optimizer.state_dict()["state"], gone_on])

    return judge(open_it, whole) if whole else open_it()


def checkpoints(settings, folder):
    """A damaged checkpoint is refused, or holds what it held."""
    import checkpoint
    from tests.support.checkpoints import COUNTERS, SETTINGS, TOKENIZER, small_model, stepped
    from tests.support.damage import damaged_checkpoints

    path, model, count = folder / "whole.pt", small_model(), int(1000 * settings.share)
    checkpoint.save(path, model, TOKENIZER, SETTINGS, COUNTERS, stepped(model))
    whole = open_checkpoint(path)

    def cases():
        every = max(1, int(1 / settings.share))
        for what, content in itertools.islice(damaged_checkpoints(path, settings.seed, every, bits=300), count):
            (folder / "damaged.pt").write_bytes(content)
            yield f"seed {settings.seed}: {what}", folder / "damaged.pt", whole

    return each_in_a_child(Attack("checkpoints", count), open_checkpoint, cases())


def open_file(path):
    """Everything that preprocessing and batch mode read from a file."""
    from backchat import records
    from corpus.documents import open_corpus

    def open_it():
        try:
            for _ in open_corpus(path).documents():
                pass
        finally:
            for where, record in records.read_file(path):
                with contextlib.suppress(ValueError):  # of one record: what a record lacks is not the file's fault
                    records.pair(record, where)

    return judge(open_it)


def records(settings, folder):
    """A file of a stranger is read to its end, or refused by name."""
    from tests.support.damage_files import strange_files

    count = int(3000 * settings.share)

    def cases():
        all_cases = ((f"seed {seed}: {what}", path) for seed in itertools.count(settings.seed)
                     for what, path in strange_files(tempfile.mkdtemp(dir=folder), seed))
        for what, path in itertools.islice(all_cases, count):
            yield what, path

    return each_in_a_child(Attack("records", count), open_file, cases())


# ---- the programs, killed, without room, side by side


@dataclass(frozen=True)
class Stage:
    """A run of one script, in a folder that holds what the stages before it have made."""

    name: str
    command: tuple
    makes: tuple  # folders and files
    processes: int = 1

    def start(self, folder, restarts=0, **options):
        mark, torchrun = secrets.token_hex(8), ()
        if self.processes > 1:
            torchrun = ("-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={self.processes}",
                        f"--max-restarts={restarts}")
        process = subprocess.Popen(
            [sys.executable, *torchrun, ROOT / self.command[0], *self.command[1:]], cwd=folder, start_new_session=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            env={**os.environ, "OMP_NUM_THREADS": "1", "MARK": mark}, **options)
        process.mark = f"MARK={mark}"
        return process

    def run(self, folder, **options):
        """(status, output) of a run to its end; a run that takes too long has the status None."""
        return ended(self.start(folder, **options))

    def result(self, folder):
        """{path: digest} of what it has made, without what tells of clocks and locks."""
        found = {}
        for made in self.makes:
            paths = [folder / made] if (folder / made).is_file() else sorted((folder / made).rglob("*"))
            for path in paths:
                if path.is_file() and path.suffix not in (".png", ".lock") and path.name != ".lock":
                    content = path.read_bytes()
                    if path.name == "metrics.jsonl":
                        rows = map(json.loads, content.splitlines())
                        content = repr([{name: value for name, value in row.items() if name not in (
                            "tokens_per_second", "teraflops", "seconds")} for row in rows]).encode()
                    found[str(path.relative_to(folder))] = hashlib.sha256(content).hexdigest()
        return found


SHAPE = ("--device", "cpu", "--dtype", "float32", "--no-compile", "--batch-size", "4", "--warmup-iters", "5",
         "--eval-interval", "20", "--save-interval", "5")
STAGES = (
    Stage("preprocess", ("preprocess_xcoax.py", "--dataset", "tales", "--num-chunks", "4", "--chunk-documents", "400",
                         "--vocab-size", "600", "--num-workers", "2", "--data-dir", "data"), ("data",)),
    Stage("train", ("train_xcoax.py", "--data-dir", "data", "--out-dir", "out", "--n-layer", "2", "--n-head", "2",
                    "--n-embd", "64", "--block-size", "128", "--max-iters", "120", *SHAPE), ("out",)),
    Stage("examples", ("preprocess_instruct.py", "--dataset", "tales", "--num-records", "12000", "--tokenizer",
                       "out/best_checkpoint.pt", "--data-dir", "pairs"), ("pairs",)),
    Stage("finetune", ("finetune_xcoax.py", "--model-path", "out/best_checkpoint.pt", "--data-dir", "pairs",
                       "--out-dir", "tuned", "--max-iters", "120", *SHAPE), ("tuned",)),
    Stage("write", ("sample_xcoax_instruct.py", "--model-path", "tuned/best_checkpoint.pt", "--input",
                    "responses.txt", "--output", "written.jsonl", "--tokens", "12", "--dtype", "float32"),
          ("written.jsonl",)),
)


def by_two(stage, out, *more):
    """A stage of training that two processes share, in a folder of its own."""
    return Stage(f"{stage.name} by two", (*stage.command, "--out-dir", out, *more), (out,), processes=2)


def shared_stages():
    """Both kinds of training by two processes, after the stages that they need."""
    documents, train, examples, finetune, _ = STAGES
    steps = ("--gradient-accumulation-steps", "2")
    return documents, train, by_two(train, "out2", *steps), examples, by_two(finetune, "tuned2", *steps)


def ended(process):
    try:
        output, _ = process.communicate(timeout=STAGE_SECONDS)
        return process.returncode, output.decode(errors="replace")
    except subprocess.TimeoutExpired:
        kill(process)
        return None, "no end"


def kill(process):
    """kill -9 of a program and of all processes that torchrun has started for it, each of which leads a group."""
    from tests.support.processes import ranks_of

    for group in [process.pid, *ranks_of(process.mark).values()]:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(group, signal.SIGKILL)
    process.communicate()


class Unbroken:
    """All stages once, undisturbed: what they make, and how long each takes."""

    def __init__(self, folder, stages=STAGES):
        self.folder, self.stages = folder / "unbroken", stages
        self.folder.mkdir()
        (self.folder / "responses.txt").write_text("".join(f"The cat sat on step {n}.\n" for n in range(1500)))
        self.seconds, self.results = {}, {}
        for stage in stages:
            started = time.monotonic()
            status, output = stage.run(self.folder)
            if status != 0:
                raise ValueError(f"the stage {stage.name} does not even run undisturbed: {output[-2000:]}")
            self.seconds[stage] = time.monotonic() - started
            self.results[stage] = stage.result(self.folder)

    @contextlib.contextmanager
    def before(self, stage):
        """A folder in which everything is ready for a stage."""
        folder = Path(tempfile.mkdtemp(dir=self.folder.parent))
        for path in self.folder.iterdir():
            if not any(path.name in later.makes for later in self.stages[self.stages.index(stage):]):
                (shutil.copytree if path.is_dir() else shutil.copy)(path, folder / path.name)
        yield folder
        shutil.rmtree(folder)

    def check(self, attack, stage, folder, what, cases=1):
        """The stage run to its end makes what an unbroken run makes."""
        status, output = stage.run(folder)
        if status != 0:
            attack.fault(f"{what}: does not go on: {output[-1500:]}")
        elif stage.result(folder) != self.results[stage]:
            made, wanted = stage.result(folder), self.results[stage]
            other = sorted(name for name in {*made, *wanted} if made.get(name) != wanted.get(name))
            attack.fault(f"{what}: goes on to something else in {', '.join(other)}")
        else:
            for _ in range(cases):
                attack.went("same bytes")


def kills(settings, folder):
    """kill -9 at any moment, again and again, and the same command goes on to the same bytes."""
    unbroken, rng = Unbroken(folder), random.Random(settings.seed)
    rounds, times = max(1, round(5 * settings.share)), 4
    attack = Attack("kills", len(STAGES) * rounds * times)
    for stage in STAGES:
        for turn in range(rounds):
            with unbroken.before(stage) as place:
                moments = []
                for _ in range(times):
                    process, moment = stage.start(place), rng.uniform(0, unbroken.seconds[stage])
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        process.communicate(timeout=moment)
                    kill(process)
                    moments.append(f"{moment:.2f}")
                what = f"{stage.name} killed after {', '.join(moments)} s of {unbroken.seconds[stage]:.1f}"
                unbroken.check(attack, stage, place, what, times)
    attack.report()
    return attack


def ranks(settings, folder):
    """Training by two processes: kill -9 of all of them, and the same command goes on; of one of them, and torchrun
    starts all again; both end with the bytes of an unbroken run of two."""
    unbroken, rng = Unbroken(folder, shared_stages()), random.Random(settings.seed)
    rounds, times = max(1, round(5 * settings.share)), 4
    stages = [stage for stage in unbroken.stages if stage.processes > 1]
    attack = Attack("ranks", len(stages) * rounds * times * 2)
    for stage in stages:
        for _ in range(rounds):
            with unbroken.before(stage) as place:
                moments = [rng.uniform(0, unbroken.seconds[stage]) for _ in range(times)]
                for moment in moments:
                    process = stage.start(place)
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        process.communicate(timeout=moment)
                    kill(process)
                what = f"{stage.name}, all killed after {', '.join(f'{moment:.2f}' for moment in moments)} s"
                unbroken.check(attack, stage, place, what, times)
            with unbroken.before(stage) as place:
                kill_one_of(attack, unbroken, stage, place, rng, times)
    attack.report()
    return attack


def kill_one_of(attack, unbroken, stage, folder, rng, times):
    """kill -9 of one process, again and again, where torchrun starts all again as often."""
    from tests.support.processes import ranks_of

    process, told, killed = stage.start(folder, restarts=times), [], []
    while process.poll() is None and len(killed) < times:
        moment = rng.uniform(0, unbroken.seconds[stage])
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.communicate(timeout=moment)
        training = {rank: pid for rank, pid in ranks_of(process.mark).items() if rank is not None and pid not in killed}
        if training:
            rank = rng.choice(sorted(training))
            with contextlib.suppress(ProcessLookupError):
                os.kill(training[rank], signal.SIGKILL)
            killed.append(training[rank])
            told.append(f"{rank} after {moment:.2f} s")
    status, output = ended(process)
    what = f"{stage.name}, process {', '.join(told)}"
    if status != 0:
        attack.fault(f"{what}: torchrun does not start it again: status {status}: {output[-1500:]}")
    elif stage.result(folder) != unbroken.results[stage]:
        attack.fault(f"{what}: goes on to something else")
    else:
        for number in range(times):
            attack.went("same bytes" if number < len(killed) else "not killed, as the run had ended")


def disks(settings, folder):
    """No room for a file: said, nothing lost, and the same command goes on when there is room."""
    unbroken = Unbroken(folder)
    shares = (0.1, 0.5, 0.9)[:max(1, round(3 * settings.share))]
    attack = Attack("disks", len(STAGES) * len(shares))
    for stage in STAGES:
        largest = max(path.stat().st_size for made in stage.makes for path in (
            [unbroken.folder / made] if (unbroken.folder / made).is_file() else (unbroken.folder / made).rglob("*")))
        for share in shares:
            limit = int(share * largest)
            with unbroken.before(stage) as place:
                status, output = stage.run(
                    place, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)))
                what = f"{stage.name} with room for {limit:,} bytes"
                if status != 1 or "could not write" not in output or "Traceback" in output:
                    attack.fault(f"{what}: status {status}: {output[-1500:]}")
                else:
                    unbroken.check(attack, stage, place, what)
    attack.report()
    return attack


def rivals(settings, folder):
    """Two runs of one command at once: one does the work, the other is refused by name or finds all done."""
    unbroken, rng = Unbroken(folder), random.Random(settings.seed)
    rounds = max(1, round(2 * settings.share))
    attack = Attack("rivals", len(STAGES) * rounds)
    for stage in STAGES:
        for _ in range(rounds):
            with unbroken.before(stage) as place:
                first = stage.start(place)
                time.sleep(rng.uniform(0, 0.7) * unbroken.seconds[stage])
                both = [ended(process) for process in (stage.start(place), first)]
                refused = [status for status, output in both if status == 1 and "written by another run" in output]
                done = [status for status, _ in both if status == 0]
                if not done or len(done) + len(refused) < 2:
                    attack.fault(f"rivals: {stage.name}: " + " | ".join(f"{s}: {o[-700:]}" for s, o in both))
                else:
                    unbroken.check(attack, stage, place, f"rivals: {stage.name}")
    attack.report()
    return attack


ATTACKS = {function.__name__: function
           for function in (strings, shards, checkpoints, records, kills, ranks, disks, rivals)}


def main():
    settings = parse(BenchSettings, __doc__)
    unknown = [name for name in settings.attacks if name not in ATTACKS]
    if unknown:
        raise ValueError(f"there is no attack {unknown[0]!r}; there are {', '.join(ATTACKS)}")
    say(f"{'attack':<12} {'cases':>10}   outcomes")
    done = []
    for name in settings.attacks or ATTACKS:
        with tempfile.TemporaryDirectory() as folder:
            done.append(ATTACKS[name](settings, Path(folder)))
    sys.exit(any(attack.faults for attack in done))


if __name__ == "__main__":
    launch(main)
