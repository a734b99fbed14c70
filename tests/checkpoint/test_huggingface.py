"""A folder for transformers, opened by transformers; and taken back."""

import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import checkpoint
from backchat.template import encode_response
from checkpoint import huggingface
from corpus.languages import LANGUAGES
from reverse import reverse
from sampling import generate
from tests.support.exports import IDX, TOKENIZER, forward_tokenizer, logits, opened
from tests.support.texts import AWKWARD, any_text, fewer
from tokenizer import BOS_ID, FIRST_BYTE_ID, MARKER_IDS
from tokenizer.codec import AS_BYTES

transformers = pytest.importorskip("transformers")

KINDS = [("base", True), ("base", False), ("instruct", False)]


def written(folder, dtype="float32", **which):
    folder.mkdir(exist_ok=True)
    found, use = opened(**which)
    huggingface.write(folder, found, dtype, use)
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hf")
    written(folder, kind="instruct")
    return folder


@pytest.fixture(scope="module")
def theirs(folder):
    return transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)


# ---- the model


@pytest.mark.parametrize("dtype, close", [("float32", 1e-4), ("float16", 0.03), ("bfloat16", 0.2)])
@pytest.mark.parametrize("kind, tied", KINDS)
def test_transformers_computes_the_same_logits(tmp_path, kind, tied, dtype, close):
    found = written(tmp_path, dtype, kind=kind, tied=tied)
    model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, local_files_only=True, dtype=torch.float32)
    with torch.no_grad():
        difference = (model(torch.tensor([IDX])).logits[0] - logits(found.model)).abs().max()
    assert type(model).__name__ == "LlamaForCausalLM" and difference < close


def test_transformers_writes_the_same_greedy_text_over_200_tokens(tmp_path):
    found = written(tmp_path)
    model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, local_files_only=True)
    ids = TOKENIZER.encode_ending("the end.")
    ours = list(generate(found.model, ids, 200, temperature=0))
    said = model.generate(torch.tensor([ids]), do_sample=False, max_new_tokens=200, eos_token_id=None,
                          temperature=None, top_k=None, top_p=None)[0].tolist()
    assert said == [*ids, *ours] and len({*ours}) > 1


def test_what_ends_a_text_is_known(folder, tmp_path):
    written(tmp_path)
    found = [transformers.GenerationConfig.from_pretrained(path, local_files_only=True) for path in (tmp_path, folder)]
    assert found[0].eos_token_id == [2, 1] and MARKER_IDS["<|im_end|>"] in found[1].eos_token_id
    assert all(config.temperature == 0.8 and config.top_k == 200 for config in found)


# ---- the tokenizer


@pytest.mark.parametrize("name", {**LANGUAGES, **AWKWARD})
def test_ids_are_ours_in_every_language(theirs, name):
    text = AS_BYTES.sub("", {**LANGUAGES, **AWKWARD}[name])
    ids = [BOS_ID, *TOKENIZER.encode_text(text)]
    assert theirs(reverse(text)).input_ids == ids
    assert theirs.decode(ids, skip_special_tokens=True) == reverse(text)


@fewer
@given(any_text.filter(lambda text: not AS_BYTES.search(text)))
def test_ids_are_ours_for_every_text(theirs, text):
    assert theirs(reverse(text)).input_ids == [BOS_ID, *TOKENIZER.encode_text(text)]


@fewer
@given(st.lists(st.sampled_from(["a", "Hello", " ", "  ", ".", ",", "-", "'", "3", "\n", "é", "船", "👍", "\t"])))
def test_ids_of_a_forward_model_are_ours(text):
    text = "".join(text)
    assert FORWARD.encode(text, add_special_tokens=False).ids == forward_tokenizer().encode_text(text)


FORWARD = huggingface._fast_tokenizer(forward_tokenizer())


def test_no_text_spells_a_control_token(theirs):
    for marker in (*MARKER_IDS, "<s>", "<|endoftext|>", "<unk>"):
        ids = theirs(f"a{marker}b {marker} {marker}").input_ids
        assert min(ids[1:]) >= FIRST_BYTE_ID


def test_the_chat_template_makes_the_prompt_that_was_trained_on(theirs):
    response = "Hello, <|im_end|> world.\n\nIt's 3.14!"
    text = theirs.apply_chat_template([{"role": "user", "content": reverse(response)}], tokenize=False)
    assert theirs(text, add_special_tokens=False).input_ids == encode_response(TOKENIZER, response)[0]


# ---- taken back


@pytest.mark.parametrize("kind, tied", KINDS)
def test_a_folder_is_opened_as_the_checkpoint_was(tmp_path, kind, tied):
    found = written(tmp_path, kind=kind, tied=tied)
    back = checkpoint.open_model(tmp_path, device="cpu")
    assert torch.equal(logits(back.model), logits(found.model))
    assert (back.kind, back.tokenizer.sha256, back.model.config) == (kind, TOKENIZER.sha256, found.model.config)
    assert (back.settings, back.counters) == (found.settings, found.counters)


def test_a_forward_folder_comes_back_forward(tmp_path):
    written(tmp_path, tokenizer=forward_tokenizer())
    assert checkpoint.open_model(tmp_path, device="cpu").tokenizer.direction == "forward"


def test_a_folder_in_fewer_bits_comes_back_in_float32(tmp_path):
    found = written(tmp_path, "bfloat16")
    back = checkpoint.open_model(tmp_path, device="cpu")
    assert {p.dtype for p in back.model.parameters()} == {torch.float32}
    assert torch.equal(back.model.wte.weight, found.model.wte.weight.bfloat16().float())


def test_a_model_has_the_digest_of_its_weights(folder):
    found = checkpoint.identity(folder)
    assert found["model"] == str(folder) and len(found["model_sha256"]) == 64


def spoiled_values(path):
    values = json.loads(path.read_text())
    return [json.dumps({name: value for name, value in values.items() if name != left_out})
            for left_out in ("backgpt", "hidden_size", "num_hidden_layers", "tie_word_embeddings")] + [
        json.dumps({**values, **change}) for change in (
            {"num_hidden_layers": 10**9}, {"num_hidden_layers": 3}, {"hidden_size": 128}, {"vocab_size": 999},
            {"backgpt": []}, {"rope_theta": "much"}, {"backgpt": {**values["backgpt"], "kind": "x"}})] + ["", "[]"]


@pytest.mark.parametrize("number", range(13))
def test_a_folder_whose_description_is_wrong_is_an_error_that_names_it(tmp_path, number):
    written(tmp_path, kind="instruct")
    path = tmp_path / "config.json"
    path.write_text(spoiled_values(path)[number])
    with pytest.raises(ValueError, match=str(tmp_path)):
        checkpoint.open_model(tmp_path, device="cpu")


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.model"])
@pytest.mark.parametrize("how", ["gone", "cut", "empty"])
def test_a_folder_that_lacks_something_is_an_error_that_names_it(tmp_path, name, how):
    written(tmp_path)
    path = tmp_path / name
    data = path.read_bytes()
    path.unlink()
    if how != "gone":
        path.write_bytes(data[:len(data) // 2] if how == "cut" else b"")
    with pytest.raises(ValueError, match=str(tmp_path)):
        checkpoint.open_model(tmp_path, device="cpu")
