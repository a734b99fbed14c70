"""Comparing an export with its checkpoint, and what lies beside it for strangers."""

import copy
import importlib.util
import math

import pytest
import torch
from hypothesis import given

from characters.seams import space_before
from checkpoint import card
from checkpoint.exporting import compare
from corpus.languages import LANGUAGES
from reverse import reverse
from tests.support.exports import TOKENIZER, forward_tokenizer, opened
from tests.support.texts import any_text, fewer

SAMPLE = list(LANGUAGES.values())


def ours(text):
    return TOKENIZER.encode(text)


def changed(change):
    model = copy.deepcopy(opened()[0].model)
    with torch.no_grad():
        change(model)
    return model


# ---- the comparison


def test_a_model_is_equal_to_itself():
    found, _ = opened()
    assert compare(found, found.model, ours, "float32", SAMPLE, exact=True) == (0.0, 0.0, 0, 0.0)


@pytest.mark.parametrize("change", [
    lambda model: model.blocks[0].attention.qkv.weight.copy_(model.blocks[0].attention.qkv.weight.flip(0)),
    lambda model: model.blocks[1].mlp.proj.weight.mul_(1.01),
    lambda model: model.norm.weight.fill_(math.nan),
    lambda model: model.wte.weight.copy_(model.wte.weight.roll(1, 0)),
])  # fmt: skip
def test_another_model_is_an_error(change):
    found, model = opened()[0], changed(change)
    if all(map(torch.equal, found.model.parameters(), model.parameters())):
        pytest.fail("nothing was changed")
    with pytest.raises(ValueError, match="not the checkpoint"):
        compare(found, model, ours, "float32", SAMPLE)


def test_fewer_bits_explain_a_small_difference_and_no_large_one():
    def coarser(model):
        for p in model.parameters():
            p.copy_(p.bfloat16().float())

    found, model = opened()[0], changed(coarser)
    assert 0 < compare(found, model, ours, "bfloat16", SAMPLE).share < 0.1
    with pytest.raises(ValueError, match="not the checkpoint"):
        compare(found, model, ours, "float32", SAMPLE)


def test_another_vocabulary_is_an_error():
    with pytest.raises(ValueError, match="ids of 1,000"):
        compare(opened()[0], opened(vocab_size=1001)[0].model, ours, "float32", SAMPLE)


def test_other_ids_are_an_error_where_they_have_to_be_ours_and_else_they_are_counted_and_priced():
    def by_characters(text):
        return [i for character in text for i in TOKENIZER.encode(character)]

    found, _ = opened()
    with pytest.raises(ValueError, match="21 texts its tokenizer cuts 13 otherwise"):
        compare(found, found.model, by_characters, "float32", SAMPLE, exact=True)
    told = compare(found, found.model, by_characters, "float32", SAMPLE)
    assert told.differ == 13 and told.bits_per_byte > 0


def test_a_space_in_front_is_no_difference_but_has_its_price():
    found, _ = opened()
    told = compare(found, found.model, lambda text: TOKENIZER.encode(" ") + ours(text), "float32", SAMPLE, prefix=" ")
    assert told.differ == 0 and told.bits_per_byte != 0


# ---- what lies beside it


@pytest.fixture(scope="module")
def reversal(tmp_path_factory):
    path = tmp_path_factory.mktemp("card") / "reversal.py"
    path.write_text(card.reversal(), encoding="utf-8")
    spec = importlib.util.spec_from_file_location("reversal", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@fewer
@given(any_text)
def test_the_function_that_goes_with_an_export_reverses_as_we_do(reversal, text):
    assert reversal.reverse(text) == reverse(text)
    assert reversal.reversed_ending(text) == reverse(" " * space_before(text) + text)


@pytest.mark.parametrize("text", SAMPLE)
def test_it_does_so_in_every_language(reversal, text):
    assert reversal.reverse(text) == reverse(text) and reversal.reverse(reverse(text)) == text


def test_it_needs_nothing_of_this_project():
    assert "import" not in card.reversal().replace("import re\n", "")


@pytest.mark.parametrize("format, file", [("hf", "model.safetensors"), ("gguf", "a.gguf"), ("llama2c", "model.bin")])
def test_a_card_begins_with_what_strangers_get_wrong(format, file):
    text = card.readme(opened()[0], format, file, opened()[1])
    assert text.splitlines()[2].startswith("**Its text is reversed, on the way in and on the way out.**")
    forward = card.readme(opened(tokenizer=forward_tokenizer())[0], format, file, opened()[1])
    assert "reverse(" not in forward and "reversed" not in forward
