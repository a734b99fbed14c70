"""What a loop cannot be run with is refused before anything is opened."""

import pytest

from training.settings import LoopSettings


@pytest.mark.parametrize("name, values", {
    "batch_size": [0, -1, 10**11], "gradient_accumulation_steps": [0, 10**11], "max_iters": [0, -1],
    "max_minutes": [0, -1, float("nan"), float("inf")], "learning_rate": [0, -1, float("nan"), float("inf")],
    "min_lr": [-1, float("nan"), 1], "warmup_iters": [-1], "lr_decay_iters": [0, -1],
    "weight_decay": [-1, float("nan")], "beta1": [-0.1, 1, float("nan")], "beta2": [1.5], "momentum": [1.0],
    "grad_clip": [-1, float("nan")],
    "eval_interval": [0], "eval_tokens": [0], "save_interval": [0], "seed": [-1, 10**30], "threads": [0, -1, 10**10],
}.items(), ids=str)
def test_a_value_out_of_bounds_is_named_with_its_bounds(name, values):
    for value in values:
        with pytest.raises(ValueError, match=f"{name} .*{value}.*(must be|lower it)"):
            LoopSettings(**{name: value})


def test_the_ends_of_the_bounds_are_taken():
    LoopSettings(batch_size=1, max_minutes=None, lr_decay_iters=1, warmup_iters=0, min_lr=0, weight_decay=0, beta1=0,
                 grad_clip=0, seed=0, threads=1)
