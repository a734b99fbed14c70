"""What a decoder promises: it computes what the model computes, in one piece or token by token, within the error of the
numbers it keeps."""

import pytest
import torch
from torch.testing import assert_close

from sampling import native
from sampling.cache import KVCache
from sampling.choosing import NOT_FINITE
from sampling.decoding import Decoder
from tests.support.network import next_logits, random_ids, tiny

FORMS = {"float32": (dict(), 1e-5), "16 bits": (dict(dtype=torch.bfloat16), 0.02),
         "8 bits": (dict(quantize="int8"), 0.06)}


def model_and_logits(**changes):
    """A model, ids (3, 16), and the logits that it computes for them."""
    model, idx = tiny(**changes), random_ids(3, 16)
    with torch.no_grad():
        for p in model.parameters():
            if p.dim() == 1:
                p.uniform_(0.5, 2.0)  # the norms' weights, which are ones in a new model
        whole = model(idx)[0]
    assert whole.std() > 0.1
    return model, idx, whole


def distance(a, b):
    return ((a - b).norm() / b.norm()).item()


# ---- the same logits


@pytest.mark.parametrize("tied", [True, False])
def test_in_one_piece_token_by_token_and_several_in_mid_text_the_logits_are_those_of_the_model(tied):
    model, idx, whole = model_and_logits(tied=tied)
    decoder = Decoder(model)
    cache = decoder.cache(3, 16)
    assert_close(decoder.logits(decoder.read(idx[:, :5], cache)), whole[:, :5], rtol=1e-4, atol=1e-4)
    for t in range(5, 12):
        assert_close(next_logits(decoder, idx[:, t : t + 1], cache), whole[:, t], rtol=1e-4, atol=1e-4)
    assert_close(next_logits(decoder, idx[:, 12:], cache), whole[:, 15], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("form", FORMS)
def test_in_fewer_bits_they_are_those_of_the_model_within_the_error_of_the_bits(form):
    options, error = FORMS[form]
    model, idx, whole = model_and_logits(tied=False)
    decoder = Decoder(model, **options)
    cache = decoder.cache(3, 16)
    parts = [decoder.logits(decoder.read(idx[:, :9], cache))]  # 27 rows at once
    parts += [decoder.logits(decoder.read(idx[:, t : t + 1], cache)) for t in range(9, 16)]  # three
    assert distance(torch.cat(parts, dim=1), whole) < error
    alone = decoder.cache(1, 16)
    parts = [decoder.logits(decoder.read(idx[:1, t : t + 1], alone)) for t in range(16)]
    assert distance(torch.cat(parts, dim=1), whole[:1]) < error


@pytest.mark.parametrize("form", FORMS)
def test_a_text_beside_others_gets_the_logits_that_it_gets_alone(form):
    model, idx, _ = model_and_logits()
    decoder = Decoder(model, **FORMS[form][0])
    together, alone = decoder.cache(3, 16), decoder.cache(1, 16)
    for t in range(16):
        a, b = next_logits(decoder, idx[:, t : t + 1], together), next_logits(decoder, idx[:1, t : t + 1], alone)
        assert_close(a[:1], b, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("form", FORMS)
def test_without_a_c_compiler_pytorch_computes_the_same(form, monkeypatch):
    model, idx, whole = model_and_logits()
    monkeypatch.setattr(native, "library", lambda: None)
    options, error = FORMS[form]
    decoder = Decoder(model, **options)
    cache = decoder.cache(3, 16)
    found = torch.cat([decoder.logits(decoder.read(part, cache)) for part in (idx[:, :12], idx[:, 12:13], idx[:, 13:])],
                      dim=1)
    assert decoder.native is None and distance(found, whole) < error


def test_8_bits_change_no_weight_by_more_than_a_254th_of_the_largest_in_its_row():
    weight = torch.randn(40, 64, generator=torch.Generator().manual_seed(1)) * torch.logspace(-3, 1, 40)[:, None]
    whole, steps = native.rounded(weight)
    kept = whole * steps[:, None]
    assert whole.dtype == torch.int8 and (kept != weight).any()
    assert ((kept - weight).abs() <= weight.abs().amax(dim=1, keepdim=True) / 254 * (1 + 1e-5)).all()


@pytest.mark.parametrize("compiler", [True, False])
def test_training_further_leaves_a_decoder_s_matrices_as_they_are(compiler, monkeypatch):
    if not compiler:
        monkeypatch.setattr(native, "library", lambda: None)
    model, idx, whole = model_and_logits(tied=False)
    decoder = Decoder(model)
    with torch.no_grad():
        for block in model.blocks:
            block.mlp.proj.weight.zero_()
    assert_close(decoder.logits(decoder.read(idx, decoder.cache(3, 16))), whole, rtol=1e-4, atol=1e-4)


# ---- what is refused


def test_unknown_bits_are_refused_by_name():
    with pytest.raises(ValueError, match="--quantize int3 is not known; it takes off, int8"):
        Decoder(tiny(), quantize="int3")


def test_damaged_weights_are_not_rounded_to_good_ones():
    model = tiny()
    with torch.no_grad():
        model.blocks[0].mlp.proj.weight[0, 0] = float("nan")
    with pytest.raises(FloatingPointError) as error:
        Decoder(model, quantize="int8")
    assert str(error.value) == NOT_FINITE


def test_more_tokens_than_a_cache_has_places_for_are_refused():
    decoder = Decoder(tiny())
    cache = decoder.cache(1, 4)
    decoder.read(random_ids(1, 3), cache)
    with pytest.raises(ValueError, match="5 tokens do not fit into 4 positions"):
        decoder.read(random_ids(1, 2), cache)


# ---- the cache


def test_rows_of_different_lengths_share_a_cache():
    model, idx, _ = model_and_logits()
    decoder, lengths = Decoder(model), [10, 4, 1]
    x, cache = decoder.prefill([row[:n].tolist() for row, n in zip(idx, lengths)], 16)
    logits = decoder.logits(x)
    for T in (0, 1, 2, 3):
        lengths = [n + T for n in lengths]
        if T:
            logits = next_logits(decoder, torch.stack([row[n - T : n] for row, n in zip(idx, lengths)]), cache)
        assert cache.lengths == lengths
        for b, n in enumerate(lengths):
            with torch.no_grad():
                assert_close(logits[b], model(idx[b : b + 1, :n])[0][0, -1], rtol=1e-4, atol=1e-4)


def test_a_row_of_a_cache_given_to_another_text_leaves_no_trace_of_the_old_one():
    model, idx = tiny(), random_ids(4, 16)
    decoder = Decoder(model)
    _, cache = decoder.prefill([row[:n].tolist() for row, n in zip(idx, (12, 3, 7))], 16)
    _, others = decoder.prefill([idx[3, :2].tolist(), idx[1, :5].tolist()], 16)
    cache.replace([0, 2], others)
    logits = next_logits(decoder, torch.stack([idx[3, 2], idx[1, 3], idx[1, 5]])[:, None], cache)
    with torch.no_grad():
        for row, end in zip(logits, (idx[3, :3], idx[1, :4], idx[1, :6])):
            assert_close(row, model(end[None])[0][0, -1], rtol=1e-4, atol=1e-4)


def test_a_cache_of_level_rows_keeps_its_tensors_from_step_to_step():
    decoder = Decoder(tiny())
    cache = decoder.cache(2, 16)
    where = cache.k.data_ptr(), cache.v.data_ptr()
    for _ in range(16):
        decoder.read(random_ids(2, 1), cache)
    assert (cache.k.data_ptr(), cache.v.data_ptr()) == where and isinstance(cache, KVCache)
