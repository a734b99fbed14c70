"""What the pages print is what the programs take, and what they name is there."""

import importlib
import re
import shlex
from pathlib import Path

import pytest
from torch.distributed.run import get_args_parser

import wtac
from program import settings
from tests.support.runs import settings_class

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(ROOT.glob("docs/*.md"))]
MODULES = [*ROOT.glob("*.py"), *ROOT.glob("bench/*.py")]
MODULES += [path for room in ROOT.glob("*/__init__.py") if room.parent.name != "tests"
            for path in room.parent.rglob("*.py")]

# A program is a script ("train_xcoax.py", "bench/bench_text.py") or a module of ours ("-m corpus.tales"); its command
# begins a line, or stands in backticks. torchrun has flags of its own before the script.
COMMAND = re.compile(r"(?:^[#$ ]*|`)(?:\.venv/bin/)?(?:python|torchrun(?: --[\w-]+(?:=\S+)?)+) "
                     r"([\w/]+\.py|-m \w+\.[\w.]+)\b([^\n`]*)", re.M)
TORCHRUN = re.compile(r"(?:^[#$ ]*|`)torchrun (--[^\n`]*)", re.M)
COMMANDS = sorted({(program, arguments.strip())
                   for page in [*PAGES, ROOT / "demo.sh", *ROOT.glob("config/*.toml"), *MODULES]
                   for program, arguments in COMMAND.findall(page.read_text(encoding="utf-8"))
                   if "{" not in arguments and "\\" not in arguments})  # those are put together by a program
TORCHRUN_COMMANDS = sorted({found for page in [*PAGES, *MODULES] for found in TORCHRUN.findall(
    page.read_text(encoding="utf-8"))})
DEFAULT_FILES = {"train_xcoax.py": "xcoax.toml", "finetune_xcoax.py": "instruct.toml"}
FENCE = re.compile(r"^```.*?^```", re.M | re.S)


def source(program):
    """The file of a program."""
    if not program.startswith("-m "):
        return ROOT / program
    path = ROOT / program.removeprefix("-m ").replace(".", "/")
    return path / "__main__.py" if path.is_dir() else path.with_name(path.name + ".py")


def imported(program):
    """The module of a program; those of bench/ are found once their folder is on the path."""
    path = source(program).relative_to(ROOT).with_suffix("")
    return importlib.import_module(path.name if path.parts[0] == "bench" else ".".join(path.parts))


def has_settings(program):
    """Whether flags become a dataclass: those of every script but the quick filter and of corpus.tales, of a benchmark
    where it has one."""
    path = source(program)
    return path.parent == ROOT and program != "wtac.py" or program == "-m corpus.tales" or (
        path.is_file() and re.search(r"^class \w*Settings\b", path.read_text(encoding="utf-8"), re.M) is not None)


def found_in_pages(pattern, pages=PAGES):
    """Pairs (name of a page, what the pattern finds) of all pages, without what stands in fences."""
    return sorted({(str(page.relative_to(ROOT)), found) for page in pages
                   for found in re.findall(pattern, FENCE.sub("", page.read_text(encoding="utf-8")))})


def anchors(page):
    """What may stand after # in a link to a page: its headings as the hosts of Markdown write them."""
    headings = re.findall(r"^#+ +(.+?) *$", FENCE.sub("", page.read_text(encoding="utf-8")), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def before_redirection(words):
    """The words before a redirection or a pipe."""
    for word in words:
        if word[0] in "<>|":
            return
        yield word


def test_there_are_commands_for_every_script():
    shown = {program for program, _ in COMMANDS}
    assert {path.name for path in ROOT.glob("*_xcoax*.py")} | {"preprocess_instruct.py", "-m corpus.tales"} <= shown


@pytest.mark.parametrize("program", sorted({program for program, _ in COMMANDS}))
def test_every_program_of_a_printed_command_is_there(program):
    assert source(program).is_file()


@pytest.mark.parametrize("program, arguments", [command for command in COMMANDS if has_settings(command[0])])
def test_every_printed_command_is_understood_by_its_script(program, arguments, monkeypatch):
    monkeypatch.chdir(ROOT)
    monkeypatch.syspath_prepend(ROOT / "bench")
    words = list(before_redirection(shlex.split(arguments, comments=True)))
    assert settings.parse(settings_class(imported(program)), "", words)


@pytest.mark.parametrize("arguments", [arguments for program, arguments in COMMANDS if program == "wtac.py"])
def test_every_printed_command_is_understood_by_the_filter(arguments):
    assert wtac.parser().parse_args(shlex.split(arguments, comments=True))


@pytest.mark.parametrize("arguments", TORCHRUN_COMMANDS)
def test_every_printed_command_is_understood_by_torchrun(arguments, monkeypatch):
    monkeypatch.chdir(ROOT)
    words = shlex.split(arguments, comments=True)
    read = get_args_parser().parse_args(words)
    assert (ROOT / read.training_script).is_file() and (read.training_script, read.training_script_args) in [
        (program, shlex.split(more, comments=True)) for program, more in COMMANDS]
    class_, default = settings_class(imported(read.training_script)), DEFAULT_FILES[read.training_script]
    steps = settings.parse(class_, "", read.training_script_args, default).gradient_accumulation_steps
    assert steps % (int(read.nnodes.rpartition(":")[2]) * int(read.nproc_per_node)) == 0  # processes share them


def test_there_are_torchrun_commands_for_one_machine_and_for_several():
    assert any("--standalone" in arguments for arguments in TORCHRUN_COMMANDS)
    assert any("--nnodes=2" in arguments for arguments in TORCHRUN_COMMANDS)


@pytest.mark.parametrize("page, path", found_in_pages(r"`([\w./-]+\.(?:py|sh|toml|md|txt|yml|cff))`"))
def test_every_file_that_a_page_names_is_there(page, path):
    assert (ROOT / path).is_file()


@pytest.mark.parametrize("page, path", found_in_pages(r"`([a-z][\w/]*/)`", PAGES[:2]))
def test_every_folder_that_the_readme_and_contributing_name_is_there(page, path):
    assert (ROOT / path).is_dir()


@pytest.mark.parametrize("page, link", found_in_pages(r"\]\(([^)\s]+)\)"))
def test_every_link_between_pages_leads_somewhere(page, link):
    if re.match(r"\w+:", link):
        return  # to another site
    path, _, anchor = link.partition("#")
    target = (ROOT / page).parent / path if path else ROOT / page
    assert target.exists()
    assert not anchor or anchor in anchors(target)


@pytest.mark.parametrize("page", sorted(page.name for page in ROOT.glob("docs/*.md")))
def test_every_page_is_linked_from_the_readme_and_links_back(page):
    assert f"](docs/{page}" in (ROOT / "README.md").read_text(encoding="utf-8")
    assert "](../README.md)" in (ROOT / "docs" / page).read_text(encoding="utf-8")
