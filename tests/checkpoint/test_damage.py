"""A damaged file, or a stranger's, is refused by name, or is as it was: never a crash, never other numbers."""

import pytest
import torch

import checkpoint
from tests.support.checkpoints import COUNTERS, SETTINGS, TOKENIZER, small_model, stepped
from tests.support.damage import damaged_checkpoints


@pytest.fixture
def path(tmp_path):
    model = small_model()
    checkpoint.save(tmp_path / "last_checkpoint.pt", model, TOKENIZER, SETTINGS, COUNTERS, stepped(model))
    return tmp_path / "last_checkpoint.pt"


def opened(path):
    """All that can be read of a file: tensors, and plain values."""
    return checkpoint.open_model(path, device="cpu").model.state_dict(), None


def gone_on(path):
    """All with which training would go on: tensors, and plain values."""
    model = small_model(seed=1)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    counters, settings = checkpoint.resume(path, model, TOKENIZER, optimizer, "base", {})
    return (model.state_dict(), optimizer.state_dict()["state"]), (counters, settings)


@pytest.mark.parametrize("use", [opened, gone_on])
def test_it_is_refused_by_name_or_it_is_as_it_was(path, tmp_path, use):
    expected, damaged, refused, count = use(path), tmp_path / "damaged.pt", 0, 0
    for count, (what, content) in enumerate(damaged_checkpoints(path, seed=1, every=16), 1):
        damaged.write_bytes(content)
        try:
            found = use(damaged)
        except (ValueError, OSError) as error:
            refused += 1
            assert str(damaged) in str(error), what
        else:
            torch.testing.assert_close(found[0], expected[0], rtol=0, atol=0, msg=what)
            assert found[1] == expected[1], what
    assert count > 60 and refused > 0.8 * count
