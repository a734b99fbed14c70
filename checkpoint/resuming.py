"""
Going on from last_checkpoint.pt: what a run must have in common with the one that wrote it.
"""

import math
from dataclasses import asdict

from checkpoint.checking import check_weights, config_of
from checkpoint.file import load

COUNTERS = ("iter_num", "samples", "tokens", "best_val_loss")  # that every run has; others are not known here
MOMENTS = {"step", "exp_avg", "exp_avg_sq"}                    # what AdamW keeps of each weight
MOMENTUM = {"momentum_buffer"}                                 # what Muon keeps


def resume(path, model, tokenizer, optimizer, kind, same_settings, reset_optimizer=False):
    """Load the weights and the optimiser's state; return the counters and the settings of the run that wrote them.

    same_settings is {name of a setting: (its value now, what another value means)}. The optimiser keeps the settings
    with which it was made, and with reset_optimizer it begins anew where the state is another optimiser's. Raises
    ValueError where the run was another one, or its file is not whole; model and optimiser are then as they were.
    """
    content = load(path, kind)
    fresh = "Choose another --out-dir, or start anew over it with --overwrite."
    saved = asdict(config_of(path, content))
    differing = [f"{name} {saved[name]} (now {value})" for name, value in asdict(model.config).items()
                 if saved[name] != value]
    if differing:
        raise ValueError(f"{path} holds another model: {', '.join(differing)}. {fresh}")
    if content["tokenizer"] != tokenizer.model:
        raise ValueError(f"{path} was trained with another tokenizer than these shards. {fresh}")
    for name, (value, other) in same_settings.items():
        if content["settings"].get(name) != value:
            raise ValueError(f"{path} comes from {other} than this run is to have. {fresh}")
    if "optimizer" not in content:
        raise ValueError(f"{path} holds no optimiser state, so training cannot go on from it. {fresh}")
    check_weights(path, content["model"], model)
    before = _name(content["optimizer"].get("state"))
    now = "muon" if any(group.get("muon") for group in optimizer.param_groups) else "adamw"
    anew = before != now and (reset_optimizer or content["counters"].get("iter_num") == 0)
    if before != now and not anew:
        raise ValueError(f"{path} holds the state of the optimiser {before}, and this run is to use {now}. Go on with\n"
                         f"    --optimizer {before}\nor with the weights alone:\n    --reset-optimizer")
    wrong = _wrong_counters(content["counters"]) or (None if anew else _wrong_state(content, optimizer))
    if wrong:
        raise ValueError(f"{path} is incomplete, so training cannot go on from it: {wrong}. {fresh}")
    model.load_state_dict(content["model"])
    groups = optimizer.state_dict()["param_groups"]  # as this run wants them: rates, decay, and how it is computed
    if not anew:
        optimizer.load_state_dict({"state": content["optimizer"]["state"], "param_groups": groups})
    return content["counters"], content["settings"]


def _wrong_counters(counters):
    """What is wrong with them, or None."""
    for name in COUNTERS:
        if name not in counters:
            return f"the counter {name} is missing"
    for name, value in counters.items():
        number = int if name in COUNTERS[:3] else (int, float)
        if isinstance(value, bool) or not isinstance(value, number) or not 0 <= value or (
                value == math.inf and name != "best_val_loss"):  # which is infinite before the first evaluation
            return f"the counter {name} is {value!r}"
    return None


def _expected(optimizer):
    """What the optimiser keeps of each weight: {number of the weight: (weight, names of tensors)}."""
    weights = [(p, MOMENTUM if group.get("muon") else MOMENTS)
               for group in optimizer.param_groups for p in group["params"]]
    return dict(enumerate(weights))


def _name(state):
    """The optimiser whose state this is."""
    kept = state.values() if isinstance(state, dict) else ()
    return "muon" if any("momentum_buffer" in of_weight for of_weight in kept) else "adamw"


def _wrong_state(content, optimizer):
    """What does not fit in the state of the optimiser, or None: its fused update believes every shape."""
    state, expected = content["optimizer"].get("state"), _expected(optimizer)
    if _members(content["optimizer"]) != list(expected):
        return "the optimiser's groups of weights are others"
    if state == {} and content["counters"]["iter_num"] == 0:  # before the first update there is none
        return None
    if not isinstance(state, dict) or state.keys() != expected.keys():
        return "the optimiser's state is not that of these weights"
    for number, (p, names) in expected.items():
        if state[number].keys() != names:
            return f"the optimiser's state of weight {number} is not {', '.join(sorted(names))}"
        for name, tensor in state[number].items():
            if tensor.shape != (() if name == "step" else p.shape):
                return f"the optimiser's {name} of weight {number} has the shape {tuple(tensor.shape)}"
        if names is MOMENTS and (state[number]["step"] < 0 or state[number]["exp_avg_sq"].min() < 0):
            return f"the optimiser's state of weight {number} has numbers below zero"
    return None


def _members(state):
    """The numbers of the weights in an optimiser's groups, one group after another; None where something else
    stands."""
    groups = state.get("param_groups")
    numbers = [group.get("params") for group in groups if isinstance(group, dict)] if isinstance(groups, list) else []
    plain = all(isinstance(of_group, list) and all(type(n) is int for n in of_group) for of_group in numbers)
    return [n for of_group in numbers for n in of_group] if plain else None
