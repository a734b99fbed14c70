"""What settings promise: defaults, then a file, then flags; a wrong name or type is an error wherever it stands."""

import importlib
import re
import shlex
import subprocess
import sys
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest
import tyro

from program import settings
from tests.support.runs import settings_class
from training.settings import LoopSettings

ROOT = Path(__file__).resolve().parents[2]


@dataclass
class Inner:
    """Settings that stand in others."""

    strength: float | None = 1.0


@dataclass
class Example:
    """Settings of every type that the scripts use."""

    learning_rate: float = 1e-3
    """Step size."""
    max_iters: int = 10
    compile: bool = False
    data_dir: Path = Path("data/xcoax")
    dataset: str = "tales"
    seed: int | None = None
    side: Literal["left", "right"] = "left"
    inner: tyro.conf.OmitArgPrefixes[Inner] = field(default_factory=lambda: Inner(strength=0.5))

    def __post_init__(self):
        if self.max_iters < 1:
            raise ValueError(f"max_iters is {self.max_iters}; it must be at least 1")


@pytest.fixture(autouse=True)
def inside(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def parse(*args, file=None, **kwargs):
    """Parse flags, with a file run.toml of this content before them."""
    if file is not None:
        Path("run.toml").write_text(file, encoding="utf-8")
        args = ("run.toml", *args)
    return settings.parse(Example, "An example.", args, **kwargs)


def complaint(capsys, *args, **kwargs):
    """What is printed before the program ends with an error."""
    with pytest.raises(SystemExit) as error:
        parse(*args, **kwargs)
    assert error.value.code == 2
    printed = capsys.readouterr()
    assert not printed.out
    return " ".join(re.sub("[│╭╮╰╯─]", " ", printed.err).split())


# ---- which value wins


def test_without_file_and_flags_the_defaults_hold():
    assert parse() == Example()


def test_entries_of_a_file_override_defaults():
    assert parse(file="max_iters = 1_000\ndataset = 'my texts'") == Example(max_iters=1000, dataset="my texts")


def test_flags_override_the_file():
    assert parse("--max-iters", "7", file="max_iters = 5\nlearning_rate = 1") == Example(max_iters=7, learning_rate=1.0)


@pytest.fixture
def config(tmp_path, monkeypatch):
    """A folder in the place of config/, with a file default.toml; not the folder that the program runs in."""
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    (folder / "default.toml").write_text("max_iters = 5\nseed = 3")
    monkeypatch.setattr(settings, "CONFIG", folder)
    return folder


def test_a_default_file_is_read_when_none_is_named(config):
    assert parse(default_file="default.toml") == Example(max_iters=5, seed=3)


def test_a_file_named_takes_the_place_of_the_default_file(config):
    assert parse(file="max_iters = 6", default_file="default.toml") == Example(max_iters=6)


def test_flags_override_the_default_file(config):
    assert parse("--max-iters", "7", default_file="default.toml") == Example(max_iters=7, seed=3)


@pytest.mark.parametrize("file, flags, expected", [
    ("compile = true", [], True), ("compile = false", [], False),
    ("", ["--compile"], True), ("", ["--no-compile"], False),
    ("compile = true", ["--no-compile"], False), ("compile = false", ["--compile"], True),
])
def test_booleans_are_true_and_false_in_files_and_a_pair_of_flags(file, flags, expected):
    assert parse(*flags, file=file).compile is expected


@pytest.mark.parametrize("name", ["max_iters", "max-iters"])
def test_underscores_and_dashes_are_the_same(name):
    assert parse(file=f"{name} = 5") == parse(f"--{name}", "5") == Example(max_iters=5)


@pytest.mark.parametrize("value", ["", "-x", "--seed", "a b", "é'\"", "=", "[1]"])
def test_any_string_of_a_file_arrives_as_it_is(value):
    assert parse(file="dataset = '''" + value + "'''").dataset == value


@pytest.mark.parametrize("file, expected", [("learning_rate = 3e-4", 3e-4), ("learning_rate = 2", 2.0)])
def test_numbers_of_a_file_arrive_as_numbers(file, expected):
    assert parse(file=file).learning_rate == expected


def test_settings_that_stand_in_others_are_read_from_flags_and_files_like_these():
    assert parse().inner == Inner(0.5)
    assert parse(file="strength = 2").inner == Inner(2.0)
    assert parse("--strength", "3", file="strength = 2").inner == Inner(3.0)


def test_settings_are_made_once_and_what_follows_from_them_is_derived_once():
    calls = []

    @dataclass
    class Counted:
        seed: int = 1

        def __post_init__(self):
            calls.append(f"made with {self.seed}")

        def derive(self):
            calls.append(f"derived from {self.seed}")

    Path("run.toml").write_text("seed = 2")
    settings.parse(Counted, "", ["run.toml", "--seed", "3"])
    assert calls == ["made with 3", "derived from 3"]


def test_help_shows_the_values_of_the_file(capsys):
    with pytest.raises(SystemExit) as error:
        parse("--help", file="max_iters = 4321")
    assert error.value.code == 0 and "4321" in capsys.readouterr().out


# ---- errors


@pytest.mark.parametrize("key", ["lerning_rate", "lerning-rate"])
def test_a_misspelt_name_in_a_file_is_told_as_written_with_its_line_and_the_nearest(capsys, key):
    said = complaint(capsys, file=f"# mine\nmax_iters = 5\n{key} = 1.0")
    assert "run.toml, line 3: " in said and f"no setting {key}; did you mean learning_rate?" in said


def test_a_misspelt_flag_names_the_nearest(capsys):
    said = complaint(capsys, "--lerning-rate", "1.0")
    assert "lerning-rate" in said and "--learning-rate" in said


@pytest.mark.parametrize("entry, takes", [
    ("max_iters = 'many'", "a whole number"), ("max_iters = 1.5", "a whole number"),
    ("max_iters = True", "a whole number"), ("learning_rate = '1e'", "a number"), ("compile = 1", "true or false"),
    ("compile = 'yes'", "true or false"), ("seed = [1, 2]", "a whole number"), ("dataset = 5", "words in quotes"),
    ("data_dir = 5", "a path in quotes"), ("side = 'up'", "'left' or 'right'"), ("strength = 'much'", "a number")])
def test_a_wrong_type_in_a_file_is_told_with_line_key_value_and_what_is_taken(capsys, entry, takes):
    said = complaint(capsys, file=f"\n  {entry}".replace("True", "true"))
    assert f"run.toml, line 2: {entry} does not fit; it takes {takes}" in said


def test_a_number_too_large_for_its_type_is_an_error_that_names_the_file(capsys):
    assert "run.toml, line 1: learning_rate = 1000" in complaint(capsys, file=f"learning_rate = 1{'0' * 400}")


@pytest.mark.parametrize("value", ["0", "-5"])
def test_a_value_out_of_range_names_the_file_if_it_stands_there(capsys, value):
    assert f"run.toml: max_iters is {value}; it must be at least 1" in complaint(capsys, file=f"max_iters = {value}")
    said = complaint(capsys, "--max-iters", value, file="max_iters = 5")
    assert f"max_iters is {value}; it must be at least 1" in said and "run.toml" not in said


def test_nan_in_a_file_names_the_file(tmp_path, capsys):
    (tmp_path / "mine.toml").write_text("learning_rate = nan")
    with pytest.raises(SystemExit):
        settings.parse(LoopSettings, "", [str(tmp_path / "mine.toml")])
    assert "mine.toml: learning_rate is nan" in capsys.readouterr().err


def test_what_a_file_switches_off_is_off(tmp_path):
    (tmp_path / "mine.toml").write_text('max_minutes = "off"')
    assert settings.parse(LoopSettings, "", [str(tmp_path / "mine.toml")]).max_minutes is None


def test_flags_may_mend_a_value_of_a_file_that_is_out_of_range():
    assert parse("--max-iters", "5", file="max_iters = 0").max_iters == 5


def test_a_settings_file_after_the_flags_is_told_where_it_belongs(capsys):
    assert "A settings file stands before the flags." in complaint(capsys, "--max-iters", "5", "run.toml")


@pytest.mark.parametrize("flags", [("--max-iters", "many"), ("--max-iters", "1.5"), ("--learning-rate", "1e")])
def test_a_wrong_type_of_a_flag_is_an_error_that_names_the_flag(capsys, flags):
    assert flags[0] in complaint(capsys, *flags)


def test_an_error_in_a_file_is_found_even_where_a_flag_overrides_it(capsys):
    assert "run.toml" in complaint(capsys, "--max-iters", "5", file="max_iters = 'many'")


def test_a_table_in_a_file_is_an_error(capsys):
    assert "run.toml" in complaint(capsys, file="[training]\nmax_iters = 5")


def test_the_ending_of_a_file_may_be_left_out():
    Path("small.toml").write_text("max_iters = 5")
    assert parse("small", "--seed", "3") == Example(max_iters=5, seed=3)


@pytest.mark.parametrize("content", ["max_iters == 5", "x = " + "[" * 3000, f"max_iters = {'9' * 5000}"])
def test_a_file_that_is_no_toml_names_itself(capsys, content):
    assert "run.toml is not valid TOML" in complaint(capsys, file=content)


def test_a_file_that_is_no_text_names_itself(capsys):
    Path("run.toml").write_bytes(b"\xff\xfe")
    assert "run.toml is not valid TOML" in complaint(capsys, "run.toml")


def test_a_first_word_that_names_no_file_is_told_the_nearest_and_all_that_suit(capsys, config):
    (config / "small.toml").write_text("max_iters = 5")
    (config / "other.toml").write_text("n_layer = 5")
    (config / "broken.toml").write_text("n_layer")
    for word in ("smal", "config/smal.toml"):
        said = complaint(capsys, word, "--seed", "3")
        assert f'"{word}" names no settings file. Did you mean elsewhere/small.toml?' in said
        assert "There are: elsewhere/default.toml, elsewhere/small.toml. " in said and "--help" in said


def test_a_first_word_that_is_far_from_every_file_is_told_that_flags_exist(capsys):
    said = complaint(capsys, "and they lived happily ever after. " * 20)
    assert "names no settings file" in said and "flags" in said


def test_a_corpus_or_a_model_in_the_place_of_a_settings_file_is_told_its_flag(tmp_path, capsys):
    @dataclass
    class Reads:
        """What a script reads."""

        dataset: str = ""
        model_path: str = ""

    for name, flag in (("my texts", "dataset"), ("a.pt", "model-path")):
        (tmp_path / name).write_text("x")
        with pytest.raises(SystemExit):
            settings.parse(Reads, "", [str(tmp_path / name)])
        told = shlex.split(capsys.readouterr().err.splitlines()[1])
        assert told == [f"--{flag}", str(tmp_path / name)]


@pytest.mark.parametrize("word", ["small", "small.toml", "elsewhere/small", "elsewhere/small.toml"])
def test_a_file_in_config_goes_by_its_name_wherever_the_program_runs(config, word):
    (config / "small.toml").write_text("max_iters = 7")
    assert parse(word, "--seed", "3") == Example(max_iters=7, seed=3)


def test_a_file_here_comes_before_one_of_its_name_in_config(config):
    (config / "small.toml").write_text("max_iters = 7")
    Path("small.toml").write_text("max_iters = 8")
    assert parse("small").max_iters == 8


def script_of(config):
    """The script that a file in config/ says it is for, in the last command of its comments."""
    return re.findall(r"^#.*python (\w+)\.py", config.read_text(encoding="utf-8"), re.M)[-1]


@pytest.mark.parametrize("config", sorted(ROOT.glob("config/*.toml")), ids=lambda path: path.name)
def test_every_file_in_config_parses_for_its_script(config):
    script = importlib.import_module(script_of(config))
    run = settings.parse(settings_class(script), "", [str(config)])
    entries = tomllib.loads(config.read_text(encoding="utf-8"))
    assert entries
    assert {name: str(getattr(run, name)) for name in entries} == {name: str(value) for name, value in entries.items()}


def test_a_script_ends_with_the_message_of_the_settings():
    done = subprocess.run([sys.executable, ROOT / "train_xcoax.py", "--lerning-rate", "1"],
                          capture_output=True, text=True)
    assert done.returncode == 2 and "--learning-rate" in done.stdout + done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize("error", [ValueError, OSError, FileNotFoundError, MemoryError, FloatingPointError])
def test_what_the_user_can_mend_ends_with_its_message_alone(error, monkeypatch):
    monkeypatch.delenv("TRACEBACK", raising=False)

    def main():
        raise error("do this instead")

    with pytest.raises(SystemExit, match="^Error: do this instead$"):
        settings.launch(main)


@pytest.mark.parametrize("error", [TypeError, AssertionError, RuntimeError])
def test_a_programmers_mistake_keeps_its_traceback(error):
    def main():
        raise error

    with pytest.raises(error):
        settings.launch(main)


@pytest.mark.parametrize("error, said", [
    (FileNotFoundError(2, "No such file or directory", "data/x"), "Error: data/x: No such file or directory"),
    (MemoryError(), "Error: MemoryError"), (OSError("do this"), "Error: do this"),
    (ValueError("\x1b[31mred"), "Error: ␛[31mred")])
def test_a_message_is_in_words_and_harmless(error, said, monkeypatch):
    monkeypatch.delenv("TRACEBACK", raising=False)

    def main():
        raise error

    with pytest.raises(SystemExit) as ended:
        settings.launch(main)
    assert ended.value.code == said


def test_too_little_memory_is_no_mistake_of_the_program():
    def main():
        import torch
        torch.empty(10**15)

    with pytest.raises(SystemExit, match="not enough memory"):
        settings.launch(main)


def test_a_program_that_was_interrupted_ends_with_130():
    def main():
        raise KeyboardInterrupt

    with pytest.raises(SystemExit) as ended:
        settings.launch(main)
    assert ended.value.code == 130
