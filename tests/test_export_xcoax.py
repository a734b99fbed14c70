"""export_xcoax.py as a user runs it."""

import json
import re
import resource
import subprocess
import sys

import pytest

import checkpoint
import export_xcoax
import sample_xcoax
import train_xcoax
from checkpoint import llama2c
from tests.support.checkpoints import COUNTERS, SETTINGS
from tests.support.exports import TOKENIZER, opened
from tests.support.runs import call
from tests.support.tiny import SHAPE, make_shards, run, tiny_model


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    """Checkpoints {kind: path}."""
    folder = tmp_path_factory.mktemp("out")
    found = {kind: folder / f"{kind}.pt" for kind in ("base", "instruct")}
    for kind, path in found.items():
        checkpoint.save(path, opened(kind)[0].model, TOKENIZER, SETTINGS, COUNTERS, kind=kind)
    return found


@pytest.fixture
def few_texts(monkeypatch):
    monkeypatch.setattr(export_xcoax, "TEXTS", 50)


def export(path, output, *arguments):
    call(export_xcoax, "--model-path", path, "--output", output, *arguments)


FILES = {"hf": {"README.md", "reversal.py", "config.json", "generation_config.json", "model.safetensors",
                "tokenizer.json", "tokenizer_config.json", "tokenizer.model"},
         "gguf": {"README.md", "reversal.py", "Modelfile", "model-float32.gguf"},
         "llama2c": {"README.md", "reversal.py", "model.bin", "tokenizer.bin"}}


@pytest.mark.parametrize("kind", ["base", "instruct"])
@pytest.mark.parametrize("format", FILES)
def test_a_checkpoint_becomes_a_folder_that_was_compared_with_it(paths, tmp_path, few_texts, capsys, format, kind):
    export(paths[kind], tmp_path / "new", "--format", format)
    assert {path.name for path in (tmp_path / "new").iterdir()} == FILES[format]
    said = capsys.readouterr().out
    assert "Logits differ by 0 at most" in said and "50 texts in 21 languages" in said
    assert [path.name for path in tmp_path.iterdir()] == ["new"]


def test_a_thousand_texts_are_compared(paths, tmp_path):
    status, out, err = run("export_xcoax.py", "--model-path", paths["base"], "--format", "llama2c", "--dtype", "int8",
                           "--output", tmp_path / "new")
    assert status == 0, err
    assert re.search(r"of 1,000 texts in 21 languages otherwise than ours, and puts a space in front of each: ", out)


@pytest.mark.parametrize("kind", ["base", "instruct"])
def test_the_code_on_the_card_runs_in_its_folder(paths, tmp_path, few_texts, kind):
    export(paths[kind], tmp_path / "new")
    card = (tmp_path / "new" / "README.md").read_text(encoding="utf-8")
    [code] = re.findall(r"```python\n(.*?)```", card, re.S)
    code = code.replace("model.generate(inputs)", "model.generate(inputs, max_new_tokens=20, do_sample=False)")
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path / "new", capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    if kind == "base":
        assert done.stdout.endswith("the end.\n")


# ---- what is refused


def error(capsys, *arguments):
    with pytest.raises((SystemExit, ValueError, OSError)) as caught:
        export(*arguments)
    return str(caught.value) + capsys.readouterr().err


def test_an_output_that_exists_is_kept_without_overwrite(paths, tmp_path, few_texts, capsys):
    export(paths["base"], tmp_path / "new", "--format", "llama2c")
    before = (tmp_path / "new" / "model.bin").stat().st_ino
    assert "--overwrite" in error(capsys, paths["base"], tmp_path / "new", "--format", "llama2c")
    assert (tmp_path / "new" / "model.bin").stat().st_ino == before
    export(paths["base"], tmp_path / "new", "--format", "llama2c", "--overwrite")
    assert (tmp_path / "new" / "model.bin").stat().st_ino != before


def test_overwrite_deletes_nothing_but_exports(paths, tmp_path, few_texts, capsys):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "diary.txt").write_text("Dear diary")
    for more in ([], ["--overwrite"]):
        assert "diary.txt" in (said := error(capsys, paths["base"], tmp_path / "mine", *more)) and "--ov" not in said
    assert (tmp_path / "mine" / "diary.txt").read_text() == "Dear diary"
    assert "is a file" in error(capsys, paths["base"], tmp_path / "mine" / "diary.txt", "--overwrite")


def test_a_format_or_numbers_that_are_not_known_are_listed(paths, tmp_path, capsys):
    said = error(capsys, paths["base"], tmp_path / "new", "--format", "onnx")
    assert all(name in said for name in FILES)
    said = error(capsys, paths["base"], tmp_path / "new", "--format", "gguf", "--dtype", "bfloat16")
    assert "float32, float16, int8" in said and not list(tmp_path.iterdir())


def test_a_checkpoint_cut_short_is_an_error_that_names_it(paths, tmp_path, capsys):
    short = tmp_path / "short.pt"
    short.write_bytes(paths["base"].read_bytes()[:20_000])
    assert "short.pt" in error(capsys, short, tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_an_export_that_is_not_the_checkpoint_leaves_nothing(paths, tmp_path, few_texts, capsys, monkeypatch):
    monkeypatch.setattr(llama2c, "pairs_side_by_side", lambda weight, n_head: weight)
    assert "not the checkpoint" in error(capsys, paths["base"], tmp_path / "new", "--format", "llama2c")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("format", FILES)
def test_a_full_disk_leaves_nothing_and_is_named(paths, tmp_path, format):
    output = tmp_path / "new"
    status, _, err = run("export_xcoax.py", "--model-path", paths["base"], "--format", format, "--output", output,
                         preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000)))
    assert status == 1 and f"could not write {output}" in err and not list(tmp_path.iterdir())


# ---- taken back


def test_a_folder_writes_what_the_checkpoint_writes(paths, tmp_path, few_texts, capsys):
    export(paths["base"], tmp_path / "new")
    texts = []
    for path in (paths["base"], tmp_path / "new"):
        capsys.readouterr()
        with pytest.raises(SystemExit):
            call(sample_xcoax, "--model-path", path, "--prompt", "the end.", "--temperature", "0", "--tokens", "30",
                 "--plain")
        texts.append(capsys.readouterr().out)
    assert texts[0] == texts[1] and "the end." in texts[0]


def test_training_begins_with_the_weights_of_a_folder(tmp_path, few_texts, capsys):
    tokenizer = make_shards(tmp_path / "data")
    model = tiny_model(block_size=32, vocab_size=400)
    checkpoint.save(tmp_path / "base.pt", model, tokenizer, SETTINGS, COUNTERS)
    export(tmp_path / "base.pt", tmp_path / "new")
    losses = {}
    for name in ("new", "base.pt", None):
        call(train_xcoax, "--data-dir", tmp_path / "data", "--out-dir", tmp_path / f"out-{name}", *SHAPE, "--max-iters",
             "2", "--n-layer", "3" if name else "2", *(["--init-from", tmp_path / name] if name else []))
        rows = [json.loads(line) for line in (tmp_path / f"out-{name}" / "metrics.jsonl").read_text().splitlines()]
        losses[name] = [row["val_loss"] for row in rows if "val_loss" in row]
    assert losses["new"] == losses["base.pt"] != losses[None]


def test_weights_of_another_tokenizer_are_refused(paths, tmp_path):
    make_shards(tmp_path / "data")
    with pytest.raises(ValueError, match="another tokenizer"):
        call(train_xcoax, "--data-dir", tmp_path / "data", "--out-dir", tmp_path / "out", *SHAPE, "--init-from",
             paths["base"])
