"""
Going on from last_checkpoint.pt: what a run must have in common with the one that wrote it.
"""

from dataclasses import asdict

from checkpoint.file import load


def resume(path, model, tokenizer, optimizer, kind, same_settings):
    """Load the weights and the optimiser's state; return the counters and the settings of the run that wrote them.

    same_settings is {name of a setting: (its value now, what another value means)}. Raises ValueError where the run was
    another one.
    """
    content = load(path, kind)
    fresh = "Choose another --out-dir, or start anew over it with --no-resume."
    differing = [f"{name} {content['config'][name]} (now {value})" for name, value in asdict(model.config).items()
                 if content["config"][name] != value]
    if differing:
        raise ValueError(f"{path} holds another model: {', '.join(differing)}. {fresh}")
    if content["tokenizer"] != tokenizer.model:
        raise ValueError(f"{path} was trained with another tokenizer than these shards. {fresh}")
    for name, (value, other) in same_settings.items():
        if content["settings"].get(name) != value:
            raise ValueError(f"{path} comes from {other} than this run is to have. {fresh}")
    if "optimizer" not in content:
        raise ValueError(f"{path} holds no optimiser state, so training cannot go on from it. {fresh}")
    model.load_state_dict(content["model"])
    optimizer.load_state_dict(content["optimizer"])
    return content["counters"], content["settings"]
