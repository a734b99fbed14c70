"""What decoding.c promises: on every processor it computes what PyTorch does, each text as if it were alone, and nobody
has to have a compiler."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from model import GPT, GPTConfig
from sampling import native
from sampling.decoding import Decoder
from tests.support.network import next_logits, random_ids, tiny

COMPILER = shutil.which("cc")
KINDS = {"float32": 2e-5, "bfloat16": 0.02, "int8": 0.06}  # and how far logits may be from those of the model
CPU = Path("/proc/cpuinfo").read_text(encoding="utf-8") if sys.platform == "linux" else ""
# And what this one must have for them.
PROCESSORS = {"native": "", "x86-64-v4": " avx512vl ", "x86-64-v3": " avx2 ", "x86-64-v2": " sse4_2 "}

pytestmark = pytest.mark.skipif(COMPILER is None, reason="there is no C compiler")


def decoder_of_kind(model, kind):
    return Decoder(model, torch.float32 if kind == "float32" else torch.bfloat16, "int8" if kind == "int8" else "off")


@pytest.fixture
def cache_home(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    native.library.cache_clear()
    yield tmp_path / "backgpt"
    native.library.cache_clear()


# ---- what it computes


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("processor", PROCESSORS)
def test_on_every_processor_the_logits_are_those_of_the_model(processor, kind, monkeypatch):
    if PROCESSORS[processor] not in CPU:
        pytest.skip("this processor cannot run it")
    flags = [flag.replace("native", processor) for flag in native.FLAGS]
    library = native.load([COMPILER], flags)
    monkeypatch.setattr(native, "library", lambda: library)
    model, idx = tiny(tied=False), random_ids(6, 16)
    with torch.no_grad():
        whole = model(idx)[0]
    decoder = decoder_of_kind(model, kind)
    cache = decoder.cache(6, 16)
    found = torch.cat([decoder.logits(decoder.read(part, cache)) for part in (idx[:, :14], idx[:, 14:15], idx[:, 15:])],
                      dim=1)
    assert decoder.native and ((found - whole).norm() / whole.norm()).item() < KINDS[kind]


def test_padding_is_passed_over_and_what_counts_is_what_it_is_without():
    decoder, idx = Decoder(tiny()), random_ids(3, 16)
    counted = torch.arange(16) < torch.tensor([16, 5, 9])[:, None]
    padded, whole = decoder.cache(3, 16), decoder.cache(3, 16)
    assert torch.equal(decoder.read(idx, padded, counted)[counted], decoder.read(idx, whole)[counted])
    beside = (slice(None), ~counted[:, None].expand(-1, padded.k.size(2), -1))  # of every layer and head
    assert decoder.native and not padded.k[beside].any() and whole.k[beside].any()


@settings(deadline=None, max_examples=30)
@given(heads=st.integers(1, 3), half=st.integers(1, 9), vocab=st.integers(1, 150), texts=st.integers(1, 9),
       T=st.integers(1, 80), kind=st.sampled_from(sorted(KINDS)))
def test_no_shape_is_too_odd(heads, half, vocab, texts, T, kind):
    torch.manual_seed(1)
    model = GPT(GPTConfig(n_layer=1, n_head=heads, n_embd=2 * half * heads, vocab_size=vocab, block_size=80)).eval()
    model.wte.weight.data *= 20  # so that every logit counts
    idx = torch.randint(vocab, (texts, T), generator=torch.Generator().manual_seed(T))
    with torch.no_grad():
        whole = model(idx)[0]
    decoder = decoder_of_kind(model, kind)
    found = decoder.logits(decoder.read(idx, decoder.cache(texts, T)))
    assert (found - whole).norm() <= KINDS[kind] * whole.norm()


def test_attention_that_leaps_from_word_to_word_over_several_pieces_is_that_of_the_model():
    torch.manual_seed(1)
    model = GPT(GPTConfig(n_layer=1, n_head=2, n_embd=32, vocab_size=50, block_size=300)).eval()
    model.wte.weight.data *= 20
    model.blocks[0].attention.qkv.weight.data *= 40  # one position outweighs all others, now an early one, now a late
    model.blocks[0].attention.proj.weight.data *= 40
    idx = torch.randint(50, (1, 300))
    with torch.no_grad():
        whole = model(idx)[0]
    decoder = Decoder(model)
    found = decoder.logits(decoder.read(idx, decoder.cache(1, 300)))
    assert_close(found, whole, rtol=1e-3, atol=1e-3 * whole.std().item())


@pytest.mark.parametrize("kind", KINDS)
def test_a_text_gets_the_same_logits_to_the_last_bit_alone_beside_others_in_pieces_and_on_any_number_of_threads(kind):
    model, idx = tiny(), random_ids(6, 16)
    decoder, threads = decoder_of_kind(model, kind), torch.get_num_threads()
    together = decoder.logits(decoder.read(idx, decoder.cache(6, 16)))
    try:
        torch.set_num_threads(3)
        assert torch.equal(decoder.logits(decoder.read(idx, decoder.cache(6, 16))), together)
    finally:
        torch.set_num_threads(threads)
    cache = decoder.cache(1, 16)
    alone = torch.stack([next_logits(decoder, idx[4:5, t : t + 1], cache)[0] for t in range(16)])
    assert torch.equal(alone, together[4])


@pytest.mark.parametrize("kind", KINDS)
def test_numbers_that_are_not_finite_are_not_hidden(kind):
    model = tiny()
    decoder = decoder_of_kind(model, kind)
    with torch.no_grad():
        decoder.embedding[3, 0] = float("nan")
    assert next_logits(decoder, torch.tensor([[3]]), decoder.cache(1, 4)).isnan().all()


# ---- where it comes from


def counting_compiler(folder, command):
    """A compiler that adds a line to a file whenever it is run."""
    path = folder / "compiler"
    path.write_text(f'#!/bin/sh\necho run >> {folder}/runs\nexec {command} "$@"\n', encoding="utf-8")
    path.chmod(0o700)
    return str(path), lambda: len((folder / "runs").read_text().splitlines()) if (folder / "runs").exists() else 0


def test_it_is_compiled_once_and_then_taken_from_the_cache(cache_home, tmp_path, monkeypatch):
    compiler, runs = counting_compiler(tmp_path, COMPILER)
    monkeypatch.setenv("CC", compiler)
    assert native.library() and runs() == 1
    native.library.cache_clear()
    assert native.library() and runs() == 1
    assert [path.suffix for path in cache_home.iterdir()] == [".so"]


def test_a_compiler_that_is_stopped_in_the_middle_leaves_nothing_behind(cache_home, tmp_path, monkeypatch):
    path = tmp_path / "compiler"
    path.write_text('#!/bin/sh\nwhile [ "$1" != -o ]; do shift; done\necho half > "$2"\nexit 1\n', encoding="utf-8")
    path.chmod(0o700)
    monkeypatch.setenv("CC", str(path))
    assert native.library() is None
    assert list(cache_home.iterdir()) == []


def test_programs_that_start_together_compile_it_side_by_side(cache_home):
    command = [sys.executable, "-c", "from sampling import native; assert native.library()"]
    started = [subprocess.Popen(command, cwd=Path(native.__file__).parent.parent) for _ in range(2)]
    assert [process.wait() for process in started] == [0, 0]
    assert len(list(cache_home.iterdir())) == 1


def test_without_a_place_to_keep_it_it_is_compiled_all_the_same(cache_home):
    cache_home.parent.rmdir()
    cache_home.parent.write_text("a file", encoding="utf-8")
    assert native.library()


def test_a_compiler_without_openmp_gives_one_thread_and_the_same_logits(cache_home, tmp_path, monkeypatch):
    path = tmp_path / "compiler"
    path.write_text(f'#!/bin/sh\ncase "$*" in *-fopenmp*) exit 1;; esac\nexec {COMPILER} "$@"\n', encoding="utf-8")
    path.chmod(0o700)
    model, idx = tiny(), random_ids(2, 16)
    monkeypatch.setenv("CC", COMPILER)
    usual = Decoder(model)
    monkeypatch.setenv("CC", str(path))
    native.library.cache_clear()
    other = Decoder(model)
    assert other.native.library is not usual.native.library
    assert torch.equal(*(decoder.logits(decoder.read(idx, decoder.cache(2, 16))) for decoder in (usual, other)))


@pytest.mark.parametrize("named", [None, "no-such-compiler"])
def test_without_a_compiler_nothing_is_said_unless_one_was_named(cache_home, named, monkeypatch, capsys):
    monkeypatch.setenv("CC", named) if named else monkeypatch.delenv("CC", raising=False)
    monkeypatch.setenv("PATH", str(cache_home))
    assert native.library() is None and Decoder(tiny()).native is None
    said = capsys.readouterr().err
    assert ("no-such-compiler, is not there" in said) if named else not said


def test_a_compiler_that_cannot_do_it_is_named_with_what_it_says(cache_home, tmp_path, monkeypatch, capsys):
    path = tmp_path / "compiler"
    path.write_text("#!/bin/sh\necho 'no licence' >&2\nexit 1\n", encoding="utf-8")
    path.chmod(0o700)
    monkeypatch.setenv("CC", str(path))
    assert native.library() is None
    said = capsys.readouterr().err
    assert said.startswith(f"decoding.c could not be compiled by {path}") and said.endswith("one said: no licence\n")


def test_what_else_openmp_is_told_stays_as_it_was(cache_home, monkeypatch):
    monkeypatch.delenv("GOMP_SPINCOUNT", raising=False)
    assert native.library() and "GOMP_SPINCOUNT" not in os.environ
