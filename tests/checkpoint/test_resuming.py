"""What resuming promises: weights, optimiser and counters as they were, and never those of another run."""

import math

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
    with pytest.raises(ValueError, match=rf"holds another model: {name} {was} .now {value}..*--out-dir.*--overwrite"):
        go_on(path, **shape)


def test_another_tokenizer_of_the_same_size_is_refused(path):
    other = Tokenizer(train_tokenizer([text for text in TEXTS.values() if text][::-1][1:], 1000))
    with pytest.raises(ValueError, match="was trained with another tokenizer.*--overwrite"):
        go_on(path, other)


def test_a_setting_that_must_stay_is_refused_by_what_another_value_means(path):
    assert go_on(path, same_settings={"max_iters": (10, "a shorter run")}) == (COUNTERS, SETTINGS)
    with pytest.raises(ValueError, match="comes from a shorter run than this run is to have.*--overwrite"):
        go_on(path, same_settings={"max_iters": (11, "a shorter run")})
    with pytest.raises(ValueError, match="comes from other examples than"):
        go_on(path, same_settings={"data": ("abc", "other examples")})  # a setting that it has not


def test_a_model_without_the_optimiser_s_state_is_refused(tmp_path):
    path = save_small(tmp_path / "best_checkpoint.pt")
    with pytest.raises(ValueError, match="holds no optimiser state.*--overwrite"):
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


def test_the_optimiser_keeps_the_settings_with_which_this_run_made_it(path):
    model = small_model(seed=1)
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3, betas=(0.8, 0.9), weight_decay=0.3, fused=True)
    checkpoint.resume(path, model, TOKENIZER, optimizer, "base", {})
    [group] = optimizer.param_groups
    assert (group["lr"], group["betas"], group["weight_decay"], group["fused"]) == (5e-3, (0.8, 0.9), 0.3, True)
    assert optimizer.state[group["params"][0]]["step"] == 1


def test_a_field_of_the_shape_that_an_older_version_did_not_have_takes_its_default(path):
    config = checkpoint.load(path)["config"]
    rewrite(path, config={name: config[name] for name in config if name != "norm_eps"})
    assert go_on(path) == (COUNTERS, SETTINGS)
    with pytest.raises(ValueError, match="holds another model: norm_eps 1e-05 .now 0.001."):
        go_on(path, norm_eps=1e-3)


@pytest.mark.parametrize("name", ["iter_num", "samples", "tokens", "best_val_loss"])
def test_a_missing_counter_is_named(path, name):
    rewrite(path, counters={other: value for other, value in COUNTERS.items() if other != name})
    with pytest.raises(ValueError, match=f"is incomplete, .*: the counter {name} is missing.*--overwrite"):
        go_on(path)


@pytest.mark.parametrize("name, value", [("iter_num", -1), ("samples", 2.5), ("tokens", True), ("tokens", None),
                                         ("best_val_loss", math.nan), ("best_val_loss", -1.0), ("seconds", math.inf),
                                         ("iter_num", math.inf), ("samples", "48")])
def test_a_counter_that_counts_nothing_is_named(path, name, value):
    rewrite(path, counters={**COUNTERS, name: value})
    with pytest.raises(ValueError, match=f"the counter {name} is {value!r}.*--overwrite"):
        go_on(path)


def test_before_the_first_evaluation_the_best_loss_is_infinite_and_before_the_first_update_there_is_no_state(tmp_path):
    model, counters = small_model(), {"iter_num": 0, "samples": 0, "tokens": 0, "best_val_loss": math.inf}
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    checkpoint.save(tmp_path / "last.pt", model, TOKENIZER, SETTINGS, counters, optimizer)
    assert go_on(tmp_path / "last.pt") == (counters, SETTINGS)
    rewrite(tmp_path / "last.pt", counters={**counters, "iter_num": 5})
    with pytest.raises(ValueError, match="the optimiser's state is not that of these weights"):
        go_on(tmp_path / "last.pt")


def spoilt(content, how):
    """The optimiser of a checkpoint with something wrong in it."""
    state, groups = content["optimizer"]["state"], content["optimizer"]["param_groups"]
    entry = state[2]
    if how == "shape":
        return {"state": {**state, 2: {**entry, "exp_avg": torch.ones(3, 5)}}, "param_groups": groups}
    if how == "shape of another":
        other = {name: tensor.clone() for name, tensor in state[0].items()}
        return {"state": {**state, 2: other}, "param_groups": groups}
    if how == "no moment":
        return {"state": {**state, 2: {"step": entry["step"]}}, "param_groups": groups}
    if how == "negative":
        return {"state": {**state, 2: {**entry, "exp_avg_sq": -entry["exp_avg_sq"] - 1}}, "param_groups": groups}
    if how == "no weight":
        return {"state": {number: state[number] for number in state if number != 2}, "param_groups": groups}
    if how == "NaN":
        return {"state": {**state, 2: {**entry, "exp_avg": entry["exp_avg"] * math.nan}}, "param_groups": groups}
    if how == "no state":
        return {"param_groups": groups}
    return {"state": state, "param_groups": []}


@pytest.mark.parametrize("how, says", [
    ("shape", r"the optimiser's exp_avg of weight 2 has the shape \(3, 5\)"),
    ("shape of another", "the optimiser's exp_avg of weight 2 has the shape"),
    ("no moment", "the optimiser's state of weight 2 is not exp_avg, exp_avg_sq, step"),
    ("negative", "the optimiser's state of weight 2 has numbers below zero"),
    ("no weight", "the optimiser's state is not that of these weights"),
    ("no state", "the optimiser's state is not that of these weights"),
    ("no groups", "the optimiser's groups of weights are others"),
    ("NaN", "the optimiser's exp_avg of weight 2 holds NaN or infinity")])
def test_a_state_that_does_not_fit_is_named_before_it_is_used(path, how, says):
    rewrite(path, optimizer=spoilt(checkpoint.load(path), how))
    model, optimizer = fresh()
    with pytest.raises(ValueError, match=says) as error:
        checkpoint.resume(path, model, TOKENIZER, optimizer, "base", {})
    assert str(path) in str(error.value) and not optimizer.state
    torch.testing.assert_close(model.state_dict(), small_model(seed=1).state_dict(), rtol=0, atol=0)


def test_weights_that_do_not_fit_the_shape_are_named_and_none_is_taken(path):
    weights = checkpoint.load(path)["model"]
    rewrite(path, model={**weights, "norm.weight": torch.ones(3)})
    model, optimizer = fresh()
    with pytest.raises(ValueError, match=r"norm.weight is \(3,\), needed is \(8,\)"):
        checkpoint.resume(path, model, TOKENIZER, optimizer, "base", {})
    torch.testing.assert_close(model.state_dict(), small_model(seed=1).state_dict(), rtol=0, atol=0)
