"""What the file promises: all comes back, equal content gives equal bytes, and no stranger's code runs."""

import io
import pickle
import zipfile
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


def test_a_save_that_the_system_refuses_names_the_file_and_the_system_s_reason(path):
    resource = pytest.importorskip("resource")
    before, limits = path.read_bytes(), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
    try:
        with pytest.raises(OSError) as error:
            save_small(path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert str(error.value).startswith(f"could not write {path} (File too large)")
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
    with pytest.raises(ValueError, match="could run a stranger's code") as error:
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


def test_the_command_names_the_flag_of_the_caller(path, tmp_path, monkeypatch):
    (tmp_path / "out" / "tales").mkdir(parents=True)
    path.rename(tmp_path / "out" / "tales" / "best_checkpoint.pt")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match="or pass --base; there are: out/tales/best_checkpoint.pt"):
        checkpoint.load("nope.pt", flag="--base")
    with pytest.raises(FileNotFoundError, match="or pass --tokenizer; there are: out/tales/best_checkpoint.pt"):
        checkpoint.open_tokenizer("nope.pt")


def test_a_folder_in_the_place_of_a_checkpoint_is_not_one(path, tmp_path, monkeypatch):
    (tmp_path / "out" / "x" / "best_checkpoint.pt").mkdir(parents=True)
    (tmp_path / "out" / "y").mkdir()
    path.rename(tmp_path / "out" / "y" / "best_checkpoint.pt")
    monkeypatch.chdir(tmp_path)
    for name in ("out/x/best_checkpoint.pt", "out/z/best_checkpoint.pt"):
        with pytest.raises(FileNotFoundError, match=f"No checkpoint at {name}(.|\n)*are: out/y/best_checkpoint.pt$"):
            checkpoint.load(name)


def test_a_list_of_the_checkpoints_that_are_there_reads_none_of_their_tensors(path, tmp_path, monkeypatch):
    (tmp_path / "out" / "x").mkdir(parents=True)
    flip(path, "data/0")  # which would be found by reading it
    path.rename(tmp_path / "out" / "x" / "best_checkpoint.pt")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match="there are: out/x/best_checkpoint.pt"):
        checkpoint.load("nope.pt")


# ---- damage, strangers, and files that cannot be read


def flip(path, member):
    """Flip a bit in the middle of a member of an archive."""
    with zipfile.ZipFile(path) as archive:
        [info] = [info for info in archive.infolist() if info.filename.endswith(member)]
    data = bytearray(path.read_bytes())
    start = info.header_offset + 30 + int.from_bytes(data[info.header_offset + 26:][:2], "little") \
        + int.from_bytes(data[info.header_offset + 28:][:2], "little")
    data[start + info.file_size // 2] ^= 1
    path.write_bytes(data)


def save_last(path):
    model = small_model()
    checkpoint.save(path, model, TOKENIZER, SETTINGS, COUNTERS, stepped(model))
    return path


def test_a_flipped_bit_in_any_tensor_or_in_the_rest_is_found(tmp_path):
    for member in ("data.pkl", *(f"data/{number}" for number in range(3 * 8 + 8))):  # weights, moments and steps
        path = save_last(tmp_path / "last_checkpoint.pt")
        flip(path, member)
        with pytest.raises(ValueError, match=f"is damaged or cut short .*{member}"):
            checkpoint.load(path)


@pytest.mark.parametrize("change", [
    lambda content: content["model"]["wte.weight"].view(-1)[7].mul_(1.001),
    lambda content: content["optimizer"]["state"][2]["exp_avg"].view(-1)[7].add_(0.001),
    lambda content: content["model"].update({"blocks.0.norm1.weight": content["model"]["blocks.0.norm2.weight"],
                                             "blocks.0.norm2.weight": content["model"]["blocks.0.norm1.weight"]}),
], ids=["a weight", "a moment", "two weights exchanged"])
def test_tensors_are_compared_with_their_sha256_even_where_the_archive_is_whole(tmp_path, change):
    path = save_last(tmp_path / "last_checkpoint.pt")
    content = torch.load(path, weights_only=True)
    change(content)
    torch.save(content, path)
    with pytest.raises(ValueError, match=f"{path} is damaged: its tensors are not those that were written"):
        checkpoint.load(path)


def test_an_older_checkpoint_without_a_sha256_is_loaded(path):
    expected = checkpoint.load(path)
    rewrite(path)
    found = checkpoint.load(path)
    assert "sha256" in expected and "sha256" not in found
    torch.testing.assert_close(found["model"], expected["model"], rtol=0, atol=0)


@pytest.mark.parametrize("change, says", [
    (lambda w: w.index_put((torch.tensor(1),), torch.tensor(float("nan"))), "holds NaN or infinity"),
    (lambda w: w.index_put((torch.tensor(1),), torch.tensor(float("-inf"))), "holds NaN or infinity"),
    (lambda w: w.double(), "has the type torch.float64"), (lambda w: w.bfloat16(), "has the type torch.bfloat16"),
    (lambda w: w.to(torch.complex64), "has the type torch.complex64"),
    (lambda w: w.int(), "has the type torch.int32"), (lambda w: w[:1].expand(8), "not so many numbers"),
    (lambda w: "word", "is not a dense tensor"),
    (lambda w: torch.empty(8, device="meta"), "more than tensors and plain values"),
    (lambda w: w.to_sparse(), "more than tensors and plain values.*_rebuild_sparse_tensor")],
    ids=["NaN", "infinity", "float64", "bfloat16", "complex", "integers", "stretched", "word", "meta", "sparse"])
def test_a_weight_that_is_no_dense_finite_float32_tensor_is_refused_by_name(path, change, says):
    weights = checkpoint.load(path)["model"]
    rewrite(path, model={**weights, "blocks.0.norm1.weight": change(weights["blocks.0.norm1.weight"])})
    with pytest.raises(ValueError, match=says) as error:
        checkpoint.load(path)
    assert str(path) in str(error.value) and ("more than" in says or "blocks.0.norm1.weight" in str(error.value))


@pytest.mark.parametrize("field", ["config", "settings", "counters"])
@pytest.mark.parametrize("value", [[1], {"a": 1}, 10**400, torch.ones(2), "x" * 10**5])
def test_a_setting_that_is_no_short_plain_value_is_refused_by_name(path, field, value):
    rewrite(path, **{field: {**checkpoint.load(path)[field], "strange": value}})
    with pytest.raises(ValueError, match=f"strange in its {field} is not a plain value") as error:
        checkpoint.load(path)
    assert str(path) in str(error.value)


def test_of_a_run_s_folder_the_checkpoint_in_it_is_named(path):
    with pytest.raises(FileNotFoundError, match=f"{path.parent} is a folder.*: --model-path {path}"):
        checkpoint.load(path.parent)


def test_a_compressed_checkpoint_is_refused_however_whole_it_is(path):
    with zipfile.ZipFile(path) as archive:
        members = [(name, archive.read(name)) for name in archive.namelist()]
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members:
            archive.writestr(name, data)
    with pytest.raises(ValueError, match=f"{path} was not loaded: it is compressed"):
        checkpoint.load(path)


ENCODE = b"c_codecs\nencode\nq\x00"  # and put at 0 in the memo
ORDERED = b"ccollections\nOrderedDict\nq\x00"
WORDS = b"X\x01\x00\x00\x00aq\x01X\x06\x00\x00\x00latin1q\x02"


@pytest.mark.parametrize("pickled, says", [
    (ENCODE + b"0" + WORDS + b"00]" + b"(h\x00h\x01h\x02\x86Re" * 17, "makes more bytes than a checkpoint holds"),
    (b"](" + (ENCODE + WORDS + b"\x86R") * 17 + b"e", "makes more bytes than a checkpoint holds"),
    (ORDERED + b"]q\x01\x85R", "fills dicts in a way that torch.save does not"),
    (ORDERED + b")R" + b"h\x00]q\x01\x85R\x86", "fills dicts in a way that torch.save does not"),
], ids=["bytes by the memo", "bytes by name", "a dict", "a dict by the memo"])
def test_a_pickle_that_makes_much_of_little_is_refused(path, pickled, says):
    with zipfile.ZipFile(path) as archive:
        members = [(name, archive.read(name)) for name in archive.namelist()]
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members:
            archive.writestr(name, b"\x80\x02" + pickled + b"." if name.endswith("data.pkl") else data)
    with pytest.raises(ValueError, match=f"{path} was not loaded: its pickle {says}"):
        checkpoint.load(path)


def test_a_file_that_the_system_does_not_read_is_not_called_damaged():
    if not Path("/proc/self/mem").exists():
        pytest.skip("only Linux has a file that cannot be read whoever asks")
    with pytest.raises(OSError, match="^/proc/self/mem could not be read .Input/output error., which does not mean"):
        checkpoint.load("/proc/self/mem")


@pytest.mark.parametrize("error", [
    MemoryError(), RuntimeError("[enforce fail at alloc_cpu.cpp:128] . DefaultCPUAllocator: can't allocate memory: you "
                                "tried to allocate 4000000000000 bytes. Error code 12 (Cannot allocate memory)"),
    RuntimeError("unable to mmap 207000000 bytes from file <a.pt>: Cannot allocate memory (12)")])
def test_a_file_larger_than_the_memory_is_not_called_damaged(path, monkeypatch, error):
    def load(*arguments, **options):
        raise error

    monkeypatch.setattr(torch, "load", load)
    with pytest.raises(MemoryError, match=f"too little memory to load {path}"):
        checkpoint.load(path)
