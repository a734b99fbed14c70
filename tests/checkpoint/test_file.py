"""What the file promises: all comes back, equal content gives equal bytes, and no stranger's code runs."""

import io
import pickle
from pathlib import Path

import pytest
import torch

import checkpoint
from checkpoint.file import FIELDS
from tests.support.checkpoints import COUNTERS, SETTINGS, TOKENIZER, rewrite, save_small, small_model, stepped


@pytest.fixture
def path(tmp_path):
    return save_small(tmp_path / "best_checkpoint.pt")


# ---- the way there and back


def test_settings_and_counters_come_back_as_they_were(path):
    content = checkpoint.load(path)
    assert (content["settings"], content["counters"], content["kind"], content["direction"]) == (
        SETTINGS, COUNTERS, "base", "reverse")


def test_the_optimisers_state_comes_back_as_it_was(tmp_path):
    model = small_model()
    optimizer = stepped(model)
    checkpoint.save(tmp_path / "last.pt", model, TOKENIZER, SETTINGS, COUNTERS, optimizer)
    state, expected = checkpoint.load(tmp_path / "last.pt")["optimizer"], optimizer.state_dict()
    assert state["param_groups"] == expected["param_groups"]
    torch.testing.assert_close(state["state"], expected["state"], rtol=0, atol=0)


def test_only_plain_values_and_tensors_are_kept(tmp_path):
    def kinds(value):
        yield type(value)
        for item in (*value, *value.values()) if isinstance(value, dict) else value if isinstance(value, list) else ():
            yield from kinds(item)

    model = small_model()
    checkpoint.save(tmp_path / "last.pt", model, TOKENIZER, SETTINGS, COUNTERS, stepped(model))
    plain = {dict, list, tuple, str, bytes, int, float, bool, type(None), torch.Tensor}
    assert set(kinds(torch.load(tmp_path / "last.pt", weights_only=True))) <= plain


# ---- equal content, equal bytes


@pytest.mark.parametrize("with_optimizer", [False, True])
def test_equal_content_gives_equal_bytes(tmp_path, with_optimizer):
    for name in ("a.pt", "b.pt"):
        model = small_model()
        optimizer = stepped(model) if with_optimizer else None
        checkpoint.save(tmp_path / name, model, TOKENIZER, SETTINGS, COUNTERS, optimizer)
    assert (tmp_path / "a.pt").read_bytes() == (tmp_path / "b.pt").read_bytes()


def test_equal_strings_give_equal_bytes_whether_they_are_one_object_or_two(tmp_path):
    one = "out/tales"
    for name, other in (("a.pt", one), ("b.pt", "".join(list(one)))):
        checkpoint.save(tmp_path / name, small_model(), TOKENIZER, {"out_dir": one, "model_path": other}, COUNTERS)
    assert (tmp_path / "a.pt").read_bytes() == (tmp_path / "b.pt").read_bytes()


@pytest.mark.parametrize("with_optimizer", [False, True])
def test_what_was_loaded_and_saved_again_gives_equal_bytes(tmp_path, with_optimizer):
    model = small_model()
    checkpoint.save(tmp_path / "a.pt", model, TOKENIZER, SETTINGS, COUNTERS, stepped(model) if with_optimizer else None)
    content, opened = checkpoint.load(tmp_path / "a.pt"), checkpoint.open_model(tmp_path / "a.pt", device="cpu")
    optimizer = torch.optim.AdamW(opened.model.parameters(), lr=1e-3) if with_optimizer else None
    if optimizer:
        optimizer.load_state_dict(content["optimizer"])
    checkpoint.save(tmp_path / "b.pt", opened.model, opened.tokenizer, content["settings"], content["counters"],
                    optimizer)
    assert (tmp_path / "a.pt").read_bytes() == (tmp_path / "b.pt").read_bytes()


def test_a_failed_save_leaves_the_old_file_whole(path):
    before = path.read_bytes()
    with pytest.raises((AttributeError, pickle.PicklingError)):
        checkpoint.save(path, small_model(1), TOKENIZER, {"not plain": lambda: 0}, COUNTERS)
    assert path.read_bytes() == before and len(list(path.parent.iterdir())) == 1


# ---- what is refused


class Creates:
    """Unpickled, it would make a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize("legacy", [False, True])
def test_code_in_a_checkpoint_is_refused_and_does_not_run(path, tmp_path, legacy):
    content = {**checkpoint.load(path), "settings": {"harmless": Creates(tmp_path / "made by a stranger")}}
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    with pytest.raises(ValueError, match="more than tensors and plain values") as error:
        checkpoint.load(path)
    assert str(path) in str(error.value) and not (tmp_path / "made by a stranger").exists()


def test_that_code_would_have_run_in_a_loader_that_trusts(tmp_path):
    file = io.BytesIO()
    torch.save(Creates(tmp_path / "made by a stranger"), file)
    file.seek(0)
    torch.load(file, weights_only=False)
    assert (tmp_path / "made by a stranger").exists()


@pytest.mark.parametrize("share", [0, 0.00003, 0.01, 0.1, 0.5, 0.9, 0.99, 0.9999])
def test_a_file_cut_short_is_refused_by_name(path, share):
    data = path.read_bytes()
    path.write_bytes(data[:int(len(data) * share)])
    with pytest.raises(ValueError) as error:
        checkpoint.load(path)
    assert str(path) in str(error.value)


@pytest.mark.parametrize("content", [b"hello world\n", b"\x80\x02.", b"PK\x03\x04" + bytes(100), bytes(1000), b".",
                                     b"[1, 2]"])
def test_a_file_of_another_kind_is_refused_by_name(path, content):
    path.write_bytes(content)
    with pytest.raises(ValueError) as error:
        checkpoint.load(path)
    assert str(path) in str(error.value)


@pytest.mark.parametrize("at", range(200, 3000, 97))
def test_a_damaged_byte_is_survived_or_named(path, at):
    data = bytearray(path.read_bytes())
    data[at] ^= 0xFF
    path.write_bytes(data)
    try:
        checkpoint.load(path)
    except ValueError as error:
        assert str(path) in str(error)


@pytest.mark.parametrize("content", [{}, {"format": "another"}, [1, 2], torch.zeros(3), {"model": {}, "iter_num": 5}])
def test_a_foreign_checkpoint_names_itself_and_the_command_that_makes_one(path, content):
    torch.save(content, path)
    with pytest.raises(ValueError, match="is not a checkpoint of this project") as error:
        checkpoint.load(path)
    assert str(path) in str(error.value) and "python train_xcoax.py" in str(error.value)


@pytest.mark.parametrize("field", [name for name in FIELDS if name != "format"])
def test_a_missing_field_is_named(path, field):
    rewrite(path, **{field: None})
    with pytest.raises(ValueError, match=f"is incomplete: {field}") as error:
        checkpoint.load(path)
    assert str(path) in str(error.value)


@pytest.mark.parametrize("field, value", [("config", [1]), ("tokenizer", "text"), ("direction", "sideways"),
                                          ("kind", "other")])
def test_a_field_of_a_wrong_type_or_value_is_refused(path, field, value):
    rewrite(path, **{field: value})
    with pytest.raises(ValueError, match="is incomplete: ") as error:
        checkpoint.load(path)
    assert str(path) in str(error.value)


@pytest.mark.parametrize("kind, command", [(None, "python train_xcoax.py"), ("base", "python train_xcoax.py"),
                                           ("instruct", "python finetune_xcoax.py")])
def test_a_missing_file_names_the_command_that_trains_one(tmp_path, kind, command):
    with pytest.raises(FileNotFoundError, match=command) as error:
        checkpoint.load(tmp_path / "best_checkpoint.pt", kind)
    assert str(tmp_path / "best_checkpoint.pt") in str(error.value)


def test_a_missing_file_lists_the_checkpoints_that_are_there(path, tmp_path, monkeypatch):
    (tmp_path / "out" / "tales").mkdir(parents=True)
    path.rename(tmp_path / "out" / "tales" / "best_checkpoint.pt")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match="--model-path; there are: out/tales/best_checkpoint.pt"):
        checkpoint.load("out/xcoax/best_checkpoint.pt")


@pytest.mark.parametrize("kind, other, command", [("base", "instruct", "python finetune_xcoax.py"),
                                                  ("instruct", "base", "python train_xcoax.py")])
def test_a_model_of_the_other_kind_is_refused_with_the_command_that_makes_the_right_one(tmp_path, kind, other, command):
    checkpoint.save(tmp_path / "a.pt", small_model(), TOKENIZER, SETTINGS, COUNTERS, kind=kind)
    assert checkpoint.load(tmp_path / "a.pt", kind)["kind"] == kind
    with pytest.raises(ValueError, match=f"the kind '{kind}', and '{other}' is needed here.*\n.*{command}"):
        checkpoint.load(tmp_path / "a.pt", other)
