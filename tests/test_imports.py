"""The rule of imports: a folder uses only what stands below it, no two modules need each other, all have a place."""

import ast
import graphlib
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

# What each folder or file of the top level may import, beside libraries and itself; CONTRIBUTING.md shows it too.
MAY_IMPORT = {
    "characters": set(),
    "program": set(),
    "model": set(),
    "reverse": {"characters"},
    "tokenizer": {"reverse", "characters", "program"},
    "corpus": {"program", "characters"},
    "sampling": {"model", "program"},
    "shards": {"tokenizer", "program", "characters"},
    "checkpoint": {"model", "tokenizer", "program", "reverse", "characters"},
    "terminal": {"sampling", "program"},
    "training": {"model", "checkpoint", "shards", "program"},
    "backchat": {"sampling", "tokenizer", "corpus", "shards", "program", "reverse"},
    "evaluation": {"backchat", "sampling", "shards", "checkpoint", "tokenizer", "corpus", "reverse", "program"},
    "web": {"sampling", "tokenizer", "program", "backchat"},
}
SCRIPTS = {"preprocess_xcoax", "train_xcoax", "sample_xcoax",
           "preprocess_instruct", "finetune_xcoax", "sample_xcoax_instruct",
           "evaluate_xcoax", "export_xcoax", "serve_xcoax", "wtac"}
ON_TOP = {"bench", "tests"}  # like the scripts, they may import whatever is in the table, and nobody imports them
WITHOUT_CODE = {"config", "data", "docs", "out", "CITATION.cff", "CONTRIBUTING.md", "LICENSE", "README.md", "demo.sh",
                "pyproject.toml", "requirements.txt", "requirements-dev.txt", "test.sh", "venv.sh"}


# ---- the checks, on a tree that is given as {path: source}


def module_of(path):
    """The dotted name of a module's file; of a package's __init__.py it is the package's."""
    return path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def top_of(module):
    return module.split(".")[0]


def imports(path, tree):
    """Pairs (line, dotted name) of what the module at path imports of this project, inside functions too."""
    modules = set(map(module_of, tree))
    tops = {*map(top_of, modules), *MAY_IMPORT, *SCRIPTS, *ON_TOP}
    package = path.split("/")[:-1]
    for node in ast.walk(ast.parse(tree[path])):
        if isinstance(node, ast.Import):
            found = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = package[:len(package) - node.level + 1] if node.level else []
            base = ".".join([*above, *(node.module.split(".") if node.module else [])])
            # A name may be a module of its own; else it stands in the module that it is taken from.
            found = [name if (name := f"{base}.{alias.name}") in modules else base for alias in node.names]
        else:
            continue
        yield from ((node.lineno, name) for name in found if top_of(name) in tops)


def forbidden(tree):
    """What the table does not allow, as sentences; and the modules that have no place in it."""
    found = []
    for path in sorted(tree):
        here = top_of(module_of(path))
        if here not in {*MAY_IMPORT, *SCRIPTS, *ON_TOP}:
            found.append(f"{path}: {here} has no place in the table")
        for line, name in imports(path, tree):
            there = top_of(name)
            if there == here and here not in SCRIPTS or name.startswith("tests.support.") and here == "bench":
                continue  # the longer attacks of a benchmark are those of the tests
            if there not in MAY_IMPORT or here in MAY_IMPORT and there not in MAY_IMPORT[here]:
                found.append(f"{path}, line {line}: {here} may not import {name}")
    return found


def circle(tree):
    """The files of a circle of imports, the first again at its end; None where there is no circle.

    A module of another folder is never there without the __init__.py of that folder, which is needed with it.
    """
    def and_above(module):
        parts = module.split(".")
        return {".".join(parts[:n + 1]) for n in range(len(parts))}

    files = {module_of(path): path for path in tree}
    graph = {}
    for path in tree:
        needed = {module for _, name in imports(path, tree)
                  for module in {name} | and_above(name) - and_above(module_of(path))}
        graph[path] = {files[module] for module in needed if module in files}
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        return error.args[1][::-1]


# ---- this project


def tracked(*arguments):
    """Paths that git knows, in this folder; skips the test where this is no checkout."""
    try:
        listed = subprocess.run(["git", "ls-files", "-z", *arguments], cwd=ROOT, capture_output=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout")
    return [path for path in listed.stdout.decode().split("\0") if path and (ROOT / path).is_file()]


def read(paths):
    return {str(path): (ROOT / path).read_text(encoding="utf-8") for path in paths}


def project():
    """The modules of the scripts, of every folder in the table, and of bench."""
    folders = [name for name in [*MAY_IMPORT, "bench"] if (ROOT / name).is_dir()]
    found = [*ROOT.glob("*.py"), *(path for name in folders for path in (ROOT / name).rglob("*.py"))]
    return read(path.relative_to(ROOT) for path in found)


PROJECT = project()


def test_the_checks_see_the_modules_of_this_project_and_what_they_import():
    assert {top_of(module_of(path)) for path in PROJECT} == {*MAY_IMPORT, *SCRIPTS, "bench"}
    assert "training.loop" in {name for _, name in imports("train_xcoax.py", PROJECT)}
    assert "corpus.tales" in {name for _, name in imports("corpus/documents.py", PROJECT)}


def test_every_module_imports_only_what_its_folder_may():
    assert forbidden(PROJECT) == []


def test_no_module_needs_one_that_needs_it():
    assert circle(PROJECT) is None


def test_the_table_has_no_circle():
    list(graphlib.TopologicalSorter(MAY_IMPORT).static_order())


@pytest.mark.parametrize("folder", ["characters", "program"])
def test_folders_whose_files_have_nothing_in_common_give_nothing_of_their_own(folder):
    assert PROJECT[f"{folder}/__init__.py"] == ""


def test_every_folder_of_modules_has_a_place_in_the_table():
    paths = tracked("--cached", "--others", "--exclude-standard", "*.py")
    assert {path.split("/")[0] for path in paths if "/" in path} - {*MAY_IMPORT, *ON_TOP} == set()


def test_the_top_level_holds_the_programs_the_two_ideas_the_folders_and_nothing_else():
    names = {path.split("/")[0] for path in tracked()}
    code = {name if (ROOT / name).is_dir() else f"{name}.py" for name in {*MAY_IMPORT, *SCRIPTS, *ON_TOP}}
    assert {name for name in names if not name.startswith(".")} == code | WITHOUT_CODE


def test_the_table_in_contributing_is_this_one():
    page = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (`.*`) \| ([a-z, ]+) \|$", page.partition("## The direction of imports")[2], re.M)
    shown = {re.sub(r"/$|\.py$", "", name): set(allowed.split(", ")) - {"nothing"}
             for names, allowed in rows for name in re.findall("`(.+?)`", names)}
    assert shown == MAY_IMPORT


# What prints: the messages, the texts of the samplers, two programs whose output is text for others, and the programs
# that an export shows to strangers.
PRINTS = {"program/starting.py", "program/streams.py", "terminal/screen.py", "corpus/tales/__main__.py", "wtac.py",
          "checkpoint/card.py"}


def printing(tree):
    """The files that write to a standard stream by themselves."""
    written = re.compile(r"\b(print|tqdm\.write|(stdout|stderr)(\.buffer)?\.write)\(")
    return {path for path, source in tree.items() if written.search(source)}


def test_whatever_reaches_a_person_is_printed_where_it_is_made_visible():
    assert {path for path in printing(PROJECT) if top_of(module_of(path)) != "bench"} == PRINTS


# ---- the checks can fail


def test_a_file_that_prints_by_itself_is_found():
    assert printing({"a.py": "pprint(1)", "b.py": "print(1)", "c.py": "sys.stderr.write('x')"}) == {"b.py", "c.py"}


SMALL = {"reverse.py": "import re\nfrom characters import classes", "characters/__init__.py": "",
         "characters/classes.py": "", "program/__init__.py": "", "program/files.py": "import os",
         "corpus/__init__.py": "", "corpus/hub.py": "from program import files",
         "corpus/documents.py": "from corpus.hub import find\nfrom corpus import tales",
         "corpus/tales/__init__.py": "from corpus.tales.telling import story", "corpus/tales/telling.py": "import json",
         "training/__init__.py": "", "training/loop.py": "import program.files",
         "train_xcoax.py": "from corpus.hub import find\nfrom training.loop import train\nimport reverse",
         "sample_xcoax.py": "", "bench/bench_text.py": "from corpus import documents"}


def test_a_tree_that_keeps_the_rule_has_no_faults():
    assert forbidden(SMALL) == [] and circle(SMALL) is None


@pytest.mark.parametrize("path, source, fault", [
    ("corpus/hub.py", "from training.loop import train", "corpus/hub.py, line 1: corpus may not import training.loop"),
    ("corpus/hub.py", "import os, training.loop as loop", "corpus/hub.py, line 1: corpus may not import training.loop"),
    ("corpus/hub.py", "from training import loop", "corpus/hub.py, line 1: corpus may not import training.loop"),
    ("corpus/hub.py", "from training import Loop", "corpus/hub.py, line 1: corpus may not import training"),
    ("corpus/tales/telling.py", "def f():\n    if 1:\n        import training",
     "corpus/tales/telling.py, line 3: corpus may not import training"),
    ("program/files.py", "from characters import classes",
     "program/files.py, line 1: program may not import characters.classes"),
    ("reverse.py", "import program.files", "reverse.py, line 1: reverse may not import program.files"),
    ("training/loop.py", "import train_xcoax", "training/loop.py, line 1: training may not import train_xcoax"),
    ("sample_xcoax.py", "from train_xcoax import main",
     "sample_xcoax.py, line 1: sample_xcoax may not import train_xcoax"),
    ("sample_xcoax.py", "import bench.bench_text",
     "sample_xcoax.py, line 1: sample_xcoax may not import bench.bench_text"),
    ("training/loop.py", "from tests import texts", "training/loop.py, line 1: training may not import tests"),
    ("bench/bench_text.py", "import train_xcoax", "bench/bench_text.py, line 1: bench may not import train_xcoax"),
    ("games/pages.py", "", "games/pages.py: games has no place in the table"),
    ("serve.py", "", "serve.py: serve has no place in the table"),
])
def test_what_the_table_does_not_allow_is_reported_with_its_line(path, source, fault):
    assert forbidden({**SMALL, path: source}) == [fault]


@pytest.mark.parametrize("changed, expected", [
    ({"corpus/hub.py": "from corpus import documents"}, {"corpus/hub.py", "corpus/documents.py"}),
    ({"corpus/hub.py": "def f():\n    from .documents import cut"}, {"corpus/hub.py", "corpus/documents.py"}),
    ({"corpus/tales/telling.py": "from corpus.tales import story"},
     {"corpus/tales/telling.py", "corpus/tales/__init__.py"}),
    ({"corpus/tales/telling.py": "from . import story"}, {"corpus/tales/telling.py", "corpus/tales/__init__.py"}),
    ({"program/files.py": "import corpus.hub"}, {"program/files.py", "corpus/hub.py"}),
    ({"corpus/documents.py": "import corpus.tales.telling", "corpus/tales/__init__.py": "from corpus import documents"},
     {"corpus/documents.py", "corpus/tales/__init__.py"}),
    ({"corpus/hub.py": "import corpus.hub"}, {"corpus/hub.py"}),
])
def test_a_circle_is_reported_with_its_files(changed, expected):
    found = circle({**SMALL, **changed})
    assert found and found[0] == found[-1] and set(found) == expected
