"""What resuming promises: weights, optimiser and counters as they were, and never those of another run."""

import pytest
import torch

import checkpoint
from tests.support.checkpoints import COUNTERS, SETTINGS, TOKENIZER, rewrite, save_small, small_model, stepped
from tests.support.texts import TEXTS
from tokenizer import Tokenizer, train_tokenizer


@pytest.fixture
def path(tmp_path):
    model = small_model()
    checkpoint.save(tmp_path / "last_checkpoint.pt", model, TOKENIZER, SETTINGS, COUNTERS, stepped(model))
    return tmp_path / "last_checkpoint.pt"


def fresh(**shape):
    """Another model, and its optimiser before any step."""
    model = small_model(seed=1, **shape)
    return model, torch.optim.AdamW(model.parameters(), lr=1e-3)


def go_on(path, tokenizer=TOKENIZER, kind="base", same_settings=None, **shape):
    model, optimizer = fresh(**shape)
    return checkpoint.resume(path, model, tokenizer, optimizer, kind, same_settings or {})


def test_weights_and_the_optimiser_s_state_are_as_they_were_and_so_is_the_next_step(path):
    model, optimizer = fresh()
    checkpoint.resume(path, model, TOKENIZER, optimizer, "base", {})
    unbroken = small_model()
    expected = stepped(unbroken)
    for step in range(2):
        torch.testing.assert_close(model.state_dict(), unbroken.state_dict(), rtol=0, atol=0)
        torch.testing.assert_close(optimizer.state_dict(), expected.state_dict(), rtol=0, atol=0)
        for a_model, an_optimizer in ((model, optimizer), (unbroken, expected)):
            for number, p in enumerate(a_model.parameters()):
                p.grad = torch.full_like(p, 0.1 * number)
            an_optimizer.step()


def test_counters_and_settings_come_back(path):
    assert go_on(path) == (COUNTERS, SETTINGS)


@pytest.mark.parametrize("shape", [{"n_layer": 2}, {"n_embd": 16}, {"block_size": 16}, {"dropout": 0.5}])
def test_another_shape_is_refused_by_name_with_the_ways_out(path, shape):
    (name, value), = shape.items()
    was = checkpoint.load(path)["config"][name]
    with pytest.raises(ValueError, match=rf"holds another model: {name} {was} .now {value}..*--out-dir.*--no-resume"):
        go_on(path, **shape)


def test_another_tokenizer_of_the_same_size_is_refused(path):
    other = Tokenizer(train_tokenizer([text for text in TEXTS.values() if text][::-1][1:], 1000))
    with pytest.raises(ValueError, match="was trained with another tokenizer.*--no-resume"):
        go_on(path, other)


def test_a_setting_that_must_stay_is_refused_by_what_another_value_means(path):
    assert go_on(path, same_settings={"max_iters": (10, "a shorter run")}) == (COUNTERS, SETTINGS)
    with pytest.raises(ValueError, match="comes from a shorter run than this run is to have.*--no-resume"):
        go_on(path, same_settings={"max_iters": (11, "a shorter run")})
    with pytest.raises(ValueError, match="comes from other examples than"):
        go_on(path, same_settings={"data": ("abc", "other examples")})  # a setting that it has not


def test_a_model_without_the_optimiser_s_state_is_refused(tmp_path):
    path = save_small(tmp_path / "best_checkpoint.pt")
    with pytest.raises(ValueError, match="holds no optimiser state.*--no-resume"):
        go_on(path)


def test_a_model_of_the_other_kind_is_refused(path):
    with pytest.raises(ValueError, match="the kind 'base', and 'instruct' is needed"):
        go_on(path, kind="instruct")


def test_what_is_refused_leaves_the_model_as_it_is(path):
    rewrite(path, settings={**SETTINGS, "data": "another"})
    model, optimizer = fresh()
    with pytest.raises(ValueError):
        checkpoint.resume(path, model, TOKENIZER, optimizer, "base", {"data": ("abc", "other examples")})
    torch.testing.assert_close(model.state_dict(), small_model(seed=1).state_dict(), rtol=0, atol=0)
    assert not optimizer.state
