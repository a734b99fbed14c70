"""GGUF files, read by the library of that format and computed by a decoder that knows nothing of this project."""

import gguf as library
import numpy as np
import pytest

from checkpoint import gguf
from tests.support.exports import IDX, INSTRUCT, TOKENIZER, forward_tokenizer, logits, opened
from tests.support.numpy_llama import logits as numpy_logits
from tests.support.texts import TEXTS
from tokenizer import FIRST_BYTE_ID, MARKER_IDS


def written(folder, dtype="float32", **which):
    found, use = opened(**which)
    gguf.write(folder, found, dtype, use)
    return found, library.GGUFReader(folder / gguf.FILES[dtype])


def weights_of(file):
    """What numpy_llama computes with."""
    found = {t.name.removesuffix(".weight"): library.quants.dequantize(t.data, t.tensor_type).astype(np.float64)
             for t in file.tensors}
    count = file.get_field("llama.block_count").contents()
    names = {"norm1": "attn_norm", "q": "attn_q", "k": "attn_k", "v": "attn_v", "o": "attn_output", "norm2": "ffn_norm",
             "gate": "ffn_gate", "up": "ffn_up", "down": "ffn_down"}
    return {"embed": found["token_embd"], "norm": found["output_norm"],
            "head": found.get("output", found["token_embd"]),
            **{ours: [found[f"blk.{i}.{name}"] for i in range(count)] for ours, name in names.items()}}


@pytest.mark.parametrize("dtype, close", [("float32", 1e-4), ("float16", 0.01), ("int8", 0.2)])
@pytest.mark.parametrize("tied", [True, False])
def test_another_decoder_computes_the_same_from_the_file(tmp_path, tied, dtype, close):
    found, file = written(tmp_path, dtype, tied=tied)
    theirs = numpy_logits(weights_of(file), IDX, file.get_field("llama.attention.head_count").contents())
    ours = logits(found.model).numpy()
    assert np.abs(theirs - ours).max() < close * ours.std()


@pytest.mark.parametrize("dtype, kind", [("float32", "F32"), ("float16", "F16"), ("int8", "Q8_0")])
def test_matrices_are_stored_in_the_numbers_that_were_asked_for_and_norms_in_float32(tmp_path, dtype, kind):
    _, file = written(tmp_path, dtype)
    assert {t.tensor_type.name for t in file.tensors if "norm" not in t.name} == {kind}
    assert {t.tensor_type.name for t in file.tensors if "norm" in t.name} == {"F32"}


def test_rows_that_do_not_divide_into_groups_stay_whole(tmp_path):
    _, file = written(tmp_path, "int8", n_embd=24)
    assert {t.tensor_type.name for t in file.tensors if t.shape[0] % 32} == {"F32"}


@pytest.mark.parametrize("tied", [True, False])
def test_what_is_read_back_is_what_was_written(tmp_path, tied):
    found, _ = written(tmp_path, tied=tied)
    model, cut = gguf.read(tmp_path, "float32", TOKENIZER)
    assert (logits(model) == logits(found.model)).all()
    for name in ("english", "russian", "hindi", "chinese", "emoji"):
        ids = TOKENIZER.encode_text(TEXTS[name])
        assert cut(TOKENIZER.decode(ids)) == ids


def test_it_says_how_it_is_read(tmp_path):
    found, file = written(tmp_path, kind="instruct")
    value = {name: field.contents() for name, field in file.fields.items()}
    assert (value["general.architecture"], value["backgpt.direction"], value["backgpt.kind"]) == (
        "llama", "reverse", "instruct")
    assert (value["llama.context_length"], value["llama.vocab_size"]) == (256, 1000)
    assert value["tokenizer.ggml.add_space_prefix"] is False and value["tokenizer.ggml.add_bos_token"] is True
    assert value["tokenizer.ggml.eot_token_id"] == MARKER_IDS["<|im_end|>"]
    types = value["tokenizer.ggml.token_type"]
    assert types[1:FIRST_BYTE_ID] == [library.TokenType.CONTROL] * (FIRST_BYTE_ID - 1)
    assert types[FIRST_BYTE_ID:FIRST_BYTE_ID + 256] == [library.TokenType.BYTE] * 256
    assert set(types[FIRST_BYTE_ID + 256:]) == {library.TokenType.NORMAL}


def test_a_forward_model_says_so(tmp_path):
    _, file = written(tmp_path, tokenizer=forward_tokenizer())
    assert file.get_field("backgpt.direction").contents() == "forward"


def test_the_names_of_control_tokens_can_be_spelled_by_the_template_alone(tmp_path):
    found, file = written(tmp_path, kind="instruct")
    names = file.get_field("tokenizer.ggml.tokens").contents()[:FIRST_BYTE_ID]
    assert all(name.endswith("\u2581") for name in names) and len({*names}) == FIRST_BYTE_ID
    template = (tmp_path / "Modelfile").read_text(encoding="utf-8").split('"""')[1]
    head, middle = ("".join(names[i] for i in ids) for ids in (INSTRUCT.head[1:], INSTRUCT.middle))
    assert template == head + "{{ .Prompt }}" + middle
