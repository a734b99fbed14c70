"""What opening promises: the same model and tokenizer again, or what does not fit together."""

from dataclasses import asdict

import pytest
import torch

import checkpoint
from model import GPTConfig
from tests.support.checkpoints import (
    COUNTERS,
    IDX,
    SETTINGS,
    TOKENIZER,
    rewrite,
    save_small,
    small_model,
)
from tests.support.texts import TEXTS


@pytest.fixture
def path(tmp_path):
    return save_small(tmp_path / "best_checkpoint.pt")


@pytest.fixture
def opened(path):
    return checkpoint.open_model(path, device="cpu")


# ---- what is opened


@torch.no_grad()
def test_a_loaded_model_gives_the_same_logits(opened):
    assert torch.equal(opened.model(IDX)[0], small_model()(IDX)[0])


@torch.no_grad()
def test_another_model_would_give_other_logits(opened):
    assert not torch.allclose(opened.model(IDX)[0], small_model(seed=1)(IDX)[0])


def test_a_loaded_model_is_in_eval_mode_and_has_no_weight_without_a_value(opened):
    model = opened.model
    assert not model.training and not any(tensor.is_meta for tensor in [*model.parameters(), *model.buffers()])


def test_a_loaded_tokenizer_is_the_same(opened):
    assert opened.tokenizer.sha256 == TOKENIZER.sha256
    for text in TEXTS.values():
        assert opened.tokenizer.encode_text(text) == TOKENIZER.encode_text(text)


def test_it_says_what_was_opened_and_where_it_computes(path):
    opened = checkpoint.open_model(path, device="cpu", dtype="bfloat16")
    assert (opened.path, opened.kind, opened.device, opened.dtype) == (
        str(path), "base", torch.device("cpu"), torch.bfloat16)
    weights = sum(p.numel() for p in small_model().parameters())
    assert str(opened) == f"{path}: {weights:,} weights, on cpu in bfloat16"


@pytest.mark.parametrize("name", ["float32", "bfloat16"])
def test_the_weights_stay_float32_whatever_the_model_is_to_compute_in(path, name):
    opened = checkpoint.open_model(path, device="cpu", dtype=name)
    assert opened.dtype == getattr(torch, name)
    assert {p.dtype for p in opened.model.parameters()} == {torch.float32}


def test_a_change_of_the_shape_s_settings_reaches_the_model_and_not_the_file(path):
    assert checkpoint.open_model(path, device="cpu", dropout=0.25).model.config.dropout == 0.25
    assert checkpoint.load(path)["config"] == asdict(small_model().config)


def test_the_tokenizer_alone_comes_with_the_block_size_of_its_model(path):
    tokenizer, block_size = checkpoint.open_tokenizer(path)
    assert (tokenizer.sha256, block_size) == (TOKENIZER.sha256, 8)


# ---- what is refused


@pytest.mark.parametrize("kind, other, command", [("base", "instruct", "python finetune_xcoax.py"),
                                                  ("instruct", "base", "python train_xcoax.py")])
def test_only_a_model_of_the_kind_that_is_needed_is_opened(tmp_path, kind, other, command):
    checkpoint.save(tmp_path / "a.pt", small_model(), TOKENIZER, SETTINGS, COUNTERS, kind=kind)
    assert checkpoint.open_model(tmp_path / "a.pt", kind, device="cpu").kind == kind
    with pytest.raises(ValueError, match=command):
        checkpoint.open_model(tmp_path / "a.pt", other, device="cpu")


def test_the_tokenizer_alone_is_that_of_a_base_model(tmp_path):
    """Since it is asked for to make examples, and only a base model can be tuned on them."""
    checkpoint.save(tmp_path / "a.pt", small_model(), TOKENIZER, SETTINGS, COUNTERS, kind="instruct")
    with pytest.raises(ValueError, match="python train_xcoax.py"):
        checkpoint.open_tokenizer(tmp_path / "a.pt")


def test_a_tokenizer_of_another_size_does_not_fit_the_model(tmp_path):
    path = save_small(tmp_path / "a.pt", vocab_size=999)
    with pytest.raises(ValueError, match=r"1,000 pieces, reverse.* is not its model's \(999 pieces") as error:
        checkpoint.open_model(path)
    assert str(path) in str(error.value)


def test_a_tokenizer_of_another_direction_does_not_fit_the_model(path):
    rewrite(path, direction="forward")
    with pytest.raises(ValueError, match="1,000 pieces, reverse.* is not its model's .*forward") as error:
        checkpoint.open_model(path)
    assert str(path) in str(error.value)


@pytest.mark.parametrize("changes", [
    {"model": {}}, {"tokenizer": b"junk"},
    {"config": {**asdict(small_model().config), "n_layer": 2}},
    {"config": {**asdict(small_model().config), "n_embd": 16}},
    {"config": {**asdict(small_model().config), "n_layer": 10**9}},
    {"config": {**asdict(small_model().config), "n_embd": 2 * 10**9, "n_head": 10**9}},
], ids=["no weights", "junk tokenizer", "another depth", "another width", "endless depth",
        "endless width"])
def test_parts_that_do_not_fit_together_are_refused(path, changes):
    rewrite(path, **changes)
    with pytest.raises(ValueError, match="do not fit together") as error:
        checkpoint.open_model(path)
    assert str(path) in str(error.value)


def test_a_depth_of_weights_that_hold_nothing_is_refused_before_a_block_is_built(path, monkeypatch):
    monkeypatch.setattr("checkpoint.checking.GPT", lambda config: pytest.fail("it was built"))
    empty = {f"blocks.{number}.norm1.weight": torch.empty(0) for number in range(1000)}
    rewrite(path, model={**checkpoint.load(path)["model"], **empty},
            config={**asdict(small_model().config), "n_layer": 1000})
    with pytest.raises(ValueError, match="do not fit together: n_layer 1,000"):
        checkpoint.open_model(path)


def test_a_block_too_long_for_any_weights_is_refused_before_its_tables_are_made(path):
    rewrite(path, config={**asdict(small_model().config), "block_size": 10**8})
    with pytest.raises(ValueError, match="block_size 100,000,000 with heads of 4 makes rotary tables of more than"):
        checkpoint.open_model(path)


@pytest.mark.parametrize("value", [True, "8", 8.0, None, -8])
def test_a_shape_in_other_values_than_numbers_is_refused_by_name(path, value):
    rewrite(path, config={**asdict(small_model().config), "n_embd": value})
    with pytest.raises(ValueError, match="there is no model of the shape it names. n_embd is") as error:
        checkpoint.open_model(path)
    assert str(path) in str(error.value)


def test_a_field_of_the_shape_that_an_older_version_did_not_have_takes_its_default(path):
    config = asdict(small_model().config)
    rewrite(path, config={name: config[name] for name in config if name not in ("norm_eps", "dropout")})
    assert asdict(checkpoint.open_model(path, device="cpu").model.config) == config
    rewrite(path, config={name: config[name] for name in config if name != "block_size"})
    assert checkpoint.open_tokenizer(path)[1] == GPTConfig().block_size


@pytest.mark.parametrize("open_it", [checkpoint.open_model, checkpoint.open_tokenizer])
def test_a_field_of_the_shape_from_a_newer_version_is_named(path, open_it):
    rewrite(path, config={**asdict(small_model().config), "n_experts": 4})
    with pytest.raises(ValueError, match="is from a newer version of this project: n_experts .*git pull") as error:
        open_it(path)
    assert str(path) in str(error.value)


@pytest.mark.parametrize("junk", [b"junk", b"\x0a\x03abc" * 50])
def test_a_junk_tokenizer_is_refused_by_the_name_of_its_file(path, junk):
    rewrite(path, tokenizer=junk)
    with pytest.raises(ValueError, match="its tokenizer is not one of this project") as error:
        checkpoint.open_tokenizer(path)
    assert str(path) in str(error.value)

