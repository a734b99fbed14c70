"""The commands that the programs recommend: pasted, they are what was meant, and the script that they name is there."""

import ast
import dataclasses
import doctest
import importlib
import math
import shlex
import tomllib
import typing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from program import commands
from tests.support.runs import settings_class
from tests.support.texts import fewer

ROOT = Path(__file__).resolve().parents[2]
STEPS = {"preprocess": commands.preprocess, "train": commands.train, "sample": commands.sample}


def test_the_examples_in_the_docstrings_hold():
    outcome = doctest.testmod(commands)
    assert outcome.attempted >= 2 and not outcome.failed


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("kind", commands.KINDS)
def test_every_script_named_is_there(kind, step):
    python, script = STEPS[step](kind).split()
    assert python == "python" and (ROOT / script).is_file()


def test_no_two_steps_have_the_same_script():
    scripts = [STEPS[step](kind) for kind in commands.KINDS for step in STEPS]
    assert len(set(scripts)) == len(scripts) == 6


@fewer
@given(st.text())
def test_a_value_of_a_flag_arrives_as_it_is_when_the_command_is_pasted(value):
    assert shlex.split(commands.train("base", dataset=value))[2:] == ["--dataset", value]


def test_a_flag_that_is_true_has_no_value_and_one_that_is_none_is_left_out():
    assert commands.train("base", overwrite=True, data_dir=None) == "python train_xcoax.py --overwrite"


def test_arguments_stand_before_flags():
    assert commands.sample("base", "a.txt", Path("b.txt"), num_samples=3) == (
        "python sample_xcoax.py a.txt b.txt --num-samples 3")


def recommended():
    """(place, steps, flag) for every flag that a module puts into a command; steps are those that it may be for."""
    rooms = [path for room in ROOT.glob("*/__init__.py") for path in room.parent.rglob("*.py")]
    for path in [*ROOT.glob("*.py"), *rooms]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            name, arguments = ast.unparse(node.func), node.args
            if name == "partial":
                name, arguments = ast.unparse(arguments[0]), arguments[1:]
            step = "preprocess" if name in ("made_by", "make") else name.removeprefix("commands.")
            if step in STEPS and step != name:
                kinds = ("base",) if name.startswith("commands.") and not arguments else commands.KINDS
                if arguments and isinstance(arguments[0], ast.Constant):
                    kinds = (arguments[0].value,)
                place, steps = f"{path.relative_to(ROOT)}, line {node.lineno}", [(kind, step) for kind in kinds]
                yield from ((place, steps, keyword.arg) for keyword in node.keywords if keyword.arg)


def flags_of(kind, step):
    """The names of the flags of a script: the fields of its settings, and of the settings that stand among these."""
    module = importlib.import_module(commands.SCRIPTS[kind][step].removesuffix(".py"))
    return {flag for field in dataclasses.fields(settings_class(module))
            for flag in ([inner.name for inner in dataclasses.fields(typing.get_args(field.type)[0])]
                         if "OmitArgPrefixes" in str(field.type) else [field.name])}


def test_every_flag_of_a_recommended_command_is_one_of_its_script():
    flags = {(kind, step): flags_of(kind, step) for kind in commands.KINDS for step in STEPS}
    found = list(recommended())
    assert {"data_dir", "overwrite", "dataset", "tokenizer", "model_path"} <= {flag for _, _, flag in found}
    assert [(place, flag) for place, steps, flag in found if not any(flag in flags[step] for step in steps)] == []


# ---- which model suits a corpus


def settings_of(name):
    return tomllib.loads((commands.CONFIG / name).read_text(encoding="utf-8"))


def words(*arguments):
    return commands.train_on(*arguments).removeprefix("python train_xcoax.py").split()


@pytest.mark.parametrize("dataset, data_dir, tokens, expected", [
    ("fineweb", "data/xcoax", 7e9, []),
    ("fineweb", "data/other", 7e9, ["--data-dir", "data/other", "--out-dir", "out/other"]),
    ("fineweb", "data/xcoax", 8e6, ["config/small.toml", "--data-dir", "data/xcoax", "--out-dir", "out/xcoax"]),
    ("mine/*.txt", "data/small", 2e6, ["config/small.toml"]),
    ("mine/*.txt", "/a/b/", 2e6, ["config/small.toml", "--data-dir", "/a/b", "--out-dir", "out/b"]),
    ("mine/*.txt", "data/mine", 5e9, ["--data-dir", "data/mine", "--out-dir", "out/mine"]),
    ("tales", "data/tales", 7e6, ["config/tales.toml"]),
    ("tales", "data/xcoax", 7e6, ["config/tales.toml", "--data-dir", "data/xcoax", "--out-dir", "out/xcoax"]),
    ("tinystories", "data/tinystories", 4e8, ["config/tinystories.toml"]),
    ("tinystories", "data/some", 2e6, ["config/small.toml", "--data-dir", "data/some", "--out-dir", "out/some"]),
])
def test_the_size_of_a_corpus_decides_which_model_is_recommended(dataset, data_dir, tokens, expected):
    assert words(data_dir, dataset, tokens, 10**5) == expected


def test_the_large_model_is_for_what_it_reads_a_few_times_at_most():
    large = settings_of("xcoax.toml")
    read = math.prod(large[name] for name in ("max_iters", "batch_size", "block_size", "gradient_accumulation_steps"))
    assert words("data/xcoax", "a.txt", read / 16, 2000) == []
    assert words("data/xcoax", "a.txt", read / 16 - 1, 2000)[0] == "config/small.toml"


def test_a_model_is_recommended_only_where_it_finds_a_window():
    needed = commands.smallest_window()
    assert needed == settings_of("small.toml")["block_size"] + 1
    assert words("data/xcoax", "a.txt", 7e9, 1024)[0] == "config/small.toml"
    for dataset in ("a.txt", "tales", "tinystories", "fineweb"):
        assert commands.train_on("data/a", dataset, 7e9, needed) is not None
        assert commands.train_on("data/a", dataset, 7e9, needed - 1) is None


@pytest.mark.parametrize("tokens, block_size, expected", [
    (50_000_000, 1024, []),
    (1_000_000, 1024, ["--gradient-accumulation-steps", "1", "--max-iters", "244", "--warmup-iters", "24"]),
    (5_000_000, 256, ["config/instruct_small.toml"]),
    (1_000_000, 256, ["config/instruct_small.toml", "--max-iters", "1953"]),
    (5_000, 256, ["config/instruct_small.toml", "--max-iters", "50", "--warmup-iters", "5"]),
])
def test_few_examples_are_read_a_few_times_and_a_small_model_learns_at_higher_rates(tokens, block_size, expected):
    config = settings_of("instruct_small.toml" if block_size == 256 else "instruct.toml")
    found = commands.tune_on(config["data_dir"], config["model_path"], "a.jsonl", tokens, block_size)
    assert found.split()[2:] == expected


def test_a_command_to_fine_tune_names_the_model_unless_its_settings_do():
    assert commands.tune_on("data/pairs", "out/xcoax/best_checkpoint.pt", "a.jsonl", 5_000_000, 256).split()[2:] == [
        "config/instruct_small.toml", "--data-dir", "data/pairs", "--model-path", "out/xcoax/best_checkpoint.pt",
        "--out-dir", "out/xcoax_pairs"]


def test_examples_that_have_settings_of_their_own_are_tuned_on_with_these():
    assert commands.tune_on("data/instruct_tales", "out/tales/best_checkpoint.pt", "tales", 5_000, 256) == (
        "python finetune_xcoax.py config/instruct_tales.toml")


def test_files_of_ones_own_are_of_a_kind_that_the_script_reads():
    assert [shlex.split(commands.preprocess(kind, dataset=commands.OWN))[-1] for kind in commands.KINDS] == [
        "texts/*.txt", "pairs/*.jsonl"]


@pytest.mark.parametrize("kind, path, expected", [
    ("base", "out/tales/best_checkpoint.pt", "train_xcoax.py config/tales.toml"),
    ("instruct", "out/tales_instruct/best_checkpoint.pt", "finetune_xcoax.py config/instruct_tales.toml"),
    ("base", "out/xcoax/best_checkpoint.pt", "train_xcoax.py"),
    ("instruct", "out/xcoax_instruct/best_checkpoint.pt", "finetune_xcoax.py"),
    ("base", "out/tales_instruct/best_checkpoint.pt", "train_xcoax.py"),
    ("base", "mine.pt", "train_xcoax.py"),
])
def test_a_missing_checkpoint_is_made_with_the_settings_that_write_there(kind, path, expected):
    assert commands.train_to(path, kind) == f"python {expected}"
