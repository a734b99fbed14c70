"""The files of llama2.c, read by a reader and computed by a decoder that know nothing of this project."""

import dataclasses

import numpy as np
import pytest
import torch

from checkpoint import llama2c
from tests.support.exports import IDX, INSTRUCT, TOKENIZER, logits, opened
from tests.support.numpy_llama import logits as numpy_logits
from tests.support.numpy_llama import read_llama2c
from tests.support.texts import TEXTS
from tokenizer import EOS_ID, FIRST_BYTE_ID, MARKER_IDS

KINDS = [("base", True), ("base", False), ("instruct", True), ("instruct", False)]
ROWS = llama2c._order(TOKENIZER)
THEIRS = {ours: theirs for theirs, ours in enumerate(ROWS)}


def written(folder, kind, tied, dtype):
    found, use = opened(kind, tied)
    llama2c.write(folder, found, dtype, use)
    return found


@pytest.mark.parametrize("dtype, close", [("float32", 1e-4), ("int8", 0.2)])
@pytest.mark.parametrize("kind, tied", KINDS)
def test_another_decoder_computes_the_same_from_the_file(tmp_path, kind, tied, dtype, close):
    found = written(tmp_path, kind, tied, dtype)
    weights, n_head, _ = read_llama2c(tmp_path / llama2c.FILES[dtype])
    theirs = numpy_logits(weights, [THEIRS[i] for i in IDX], n_head)
    ours = logits(found.model).numpy()[:, ROWS]
    if kind == "instruct":  # 1 and the end of an instruction change places in what is drawn
        places = [1, THEIRS[MARKER_IDS["<|im_end|>"]]]
        theirs[:, places] = theirs[:, places[::-1]]
    assert np.abs(theirs - ours).max() < close * ours.std()


@pytest.mark.parametrize("kind, tied", KINDS)
def test_what_is_read_back_is_what_was_written(tmp_path, kind, tied):
    found = written(tmp_path, kind, tied, "float32")
    model, _ = llama2c.read(tmp_path, "float32", TOKENIZER)
    assert torch.equal(logits(model), logits(found.model))


def test_in_8_bits_every_weight_is_within_half_a_step(tmp_path):
    found = written(tmp_path, "base", True, "int8")
    model, _ = llama2c.read(tmp_path, "int8", TOKENIZER)
    for name, right in found.model.named_parameters():
        read = dict(model.named_parameters())[name]
        step = right.abs().max() / 127 if right.dim() == 2 else 0
        assert (read - right).abs().max() <= step / 2 * 1.001
        assert right.dim() == 1 or not torch.equal(read, right)


def test_beginning_end_and_bytes_have_the_ids_that_the_program_knows():
    assert ROWS[:4] == [0, 1, EOS_ID, FIRST_BYTE_ID] and sorted(ROWS) == list(range(TOKENIZER.vocab_size))
    assert ROWS[3:259] == list(range(FIRST_BYTE_ID, FIRST_BYTE_ID + 256))


@pytest.mark.parametrize("name", TEXTS)
def test_the_pieces_of_a_text_print_that_text(tmp_path, name):
    written(tmp_path, "base", True, "float32")
    pieces = [piece for piece, _ in llama2c._read_tokenizer(tmp_path / "tokenizer.bin")]
    ids = [1, *(THEIRS[i] for i in TOKENIZER.encode_text(TEXTS[name])), EOS_ID]
    printed = b"".join(bytes([int(pieces[i][3:5], 16)]) if 3 <= i < 259 else pieces[i] for i in ids[1:])
    reversed_text = TOKENIZER.decode(TOKENIZER.encode_text(TEXTS[name]))
    assert printed.replace(b"\0", b"") == reversed_text.encode("utf-8", "surrogatepass").replace(b"\0", b"")


def test_no_special_id_prints_anything_but_a_tab_where_the_answer_begins(tmp_path):
    written(tmp_path, "instruct", True, "float32")
    pieces = [piece for piece, _ in llama2c._read_tokenizer(tmp_path / "tokenizer.bin")]
    shown = {i: pieces[THEIRS[i]] for i in range(FIRST_BYTE_ID)}
    assert shown.pop(MARKER_IDS["<|instruction|>"]) == b"\v" and shown.pop(1)  # it stops before 1 would be printed
    assert all(len(piece) == 1 and piece < b" " and not piece.isspace() for piece in shown.values())


def test_what_stands_before_a_text_cannot_be_joined_with_it(tmp_path):
    written(tmp_path, "instruct", True, "float32")
    pieces = [piece for piece, _ in llama2c._read_tokenizer(tmp_path / "tokenizer.bin")]
    for i in (*INSTRUCT.head, *INSTRUCT.middle):
        piece = pieces[THEIRS[i]]
        assert piece.rstrip(b"\0") and not any(other != piece and other.startswith(piece) for other in pieces)


def test_a_prompt_of_the_template_is_spelled_by_control_characters(tmp_path):
    written(tmp_path, "instruct", True, "float32")
    pieces = [piece for piece, _ in llama2c._read_tokenizer(tmp_path / "tokenizer.bin")]
    spelled = llama2c.spelled([*INSTRUCT.head[1:], *INSTRUCT.middle]).encode().decode("unicode_escape").encode()
    assert [ROWS[pieces.index(bytes([byte]))] for byte in spelled] == [*INSTRUCT.head[1:], *INSTRUCT.middle]


def test_it_puts_a_space_in_front_of_a_prompt_and_cuts_the_rest_as_we_do(tmp_path):
    written(tmp_path, "base", True, "float32")
    _, cut = llama2c.read(tmp_path, "float32", TOKENIZER)
    for name in ("english", "russian", "hindi", "chinese", "emoji"):
        ids = TOKENIZER.encode_text(TEXTS[name])
        assert cut(TOKENIZER.decode(ids)) == [*TOKENIZER.encode(" "), *ids]


def test_a_model_that_it_would_compute_otherwise_is_refused(tmp_path):
    found, use = opened()
    other, _ = opened(rope_theta=50_000.0)
    with pytest.raises(ValueError, match="--format gguf"):
        llama2c.write(tmp_path, dataclasses.replace(found, model=other.model), "float32", use)
    assert not list(tmp_path.iterdir())
