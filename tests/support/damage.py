"""A checkpoint damaged in every way that disks and strangers have, for tests and for longer attacks."""

import io
import itertools
import random
import zipfile

import torch

HUGE = 10**400  # longer than Python prints
WRONG = (None, True, -1, 0, 2.5, 10**9, HUGE, float("nan"), float("-inf"), "nonsense", b"\xff", [], {}, [[1]],
         {"a": {}}, torch.ones(2))
LEFT_OUT = object()


def damaged_checkpoints(path, seed, every=1, bits=120, cuts=40):
    """Yield (what was done, bytes) for a checkpoint of this project, some 1,400 times; the same for the same seed.

    every takes one of so many. Nothing that is yielded is another good checkpoint: it may be refused, or loaded with
    the tensors, counters and settings that it had.
    """
    whole, rng = path.read_bytes(), random.Random(seed)
    content = torch.load(io.BytesIO(whole), weights_only=True)
    cases = itertools.chain(_damaged_bytes(whole, rng, bits, cuts), _damaged_archives(whole, rng),
                            _damaged_contents(content, rng))
    for what, changed in itertools.islice(cases, rng.randrange(every), None, every):
        yield what, changed if isinstance(changed, bytes) else _saved(changed)


def _saved(content):
    file = io.BytesIO()
    torch.save(content, file)
    return file.getvalue()


def _damaged_bytes(whole, rng, bits, cuts):
    """What a disk, a network or an editor does."""
    for at in (rng.randrange(len(whole)) for _ in range(bits)):
        bit = rng.randrange(8)
        yield f"bit {bit} of byte {at} flipped", whole[:at] + bytes([whole[at] ^ 1 << bit]) + whole[at + 1:]
    for end in (0, 1, 4, 30, len(whole) - 1, *(rng.randrange(len(whole)) for _ in range(cuts))):
        yield f"cut after {end} bytes", whole[:end]
    for _ in range(cuts // 2):
        a, b = sorted(rng.randrange(len(whole)) for _ in range(2))
        yield f"zeros from {a} to {b}", whole[:a] + bytes(b - a) + whole[b:]
        yield f"bytes {a} to {b} twice", whole[:b] + whole[a:]
        yield f"bytes {a} to {b} lost", whole[:a] + whole[b:]
    yield "itself behind itself", whole + whole
    yield "bytes before it", b"PK\3\4" + bytes(100) + whole
    yield "bytes behind it", whole + bytes(100)


def _archive(members, method=zipfile.ZIP_STORED):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, data in members:
            archive.writestr(name, data)
    return file.getvalue()


def _damaged_archives(whole, rng):
    """What someone does who writes archives with care, all checksums right."""
    with zipfile.ZipFile(io.BytesIO(whole)) as archive:
        members = [(name, archive.read(name)) for name in archive.namelist()]
    yield "deflated", _archive(members, zipfile.ZIP_DEFLATED)
    bomb = io.BytesIO()
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members:
            archive.writestr(name, bytes(2**24) if name.endswith("/data/0") else data)
    yield "a deflated member of 16 MB of zeros", bomb.getvalue()
    yield "another folder", _archive([(name.replace("archive", "b", 1), data) if number else (name, data)
                                      for number, (name, data) in enumerate(members)])
    for number, (name, data) in enumerate(members):
        others = members[:number] + members[number + 1:]
        essential = not name.endswith(("serialization_id", ".format_version", ".storage_alignment", "byteorder"))
        if essential:
            yield f"without {name}", _archive(others)
        if essential and not name.endswith("version"):
            other = rng.choice([other for other in members if other[1] != data])[1]
            for what, instead in (("holds what another should", other), ("is longer", data + b"\x80" * 64),
                                  ("is empty", b"")):
                yield f"{name} {what}", _archive([*members[:number], (name, instead), *members[number + 1:]])
    pickle = next(data for name, data in members if name.endswith("data.pkl"))
    rest = [(name, data) for name, data in members if not name.endswith("data.pkl")]
    large = b"\x8a\x06" + (10**11).to_bytes(6, "little") + b"\x85R."
    for what, attack in (
            ("bytearray(10**11)", b"\x80\x02c__builtin__\nbytearray\n" + large),
            ("a storage of 10**11 bytes", b"\x80\x02ctorch\nUntypedStorage\n" + large),
            ("a call of the system", b"cposix\nsystem\n(S'exit 1'\ntR."),
            ("two million lists", b"\x80\x02" + b"]" * 2_000_000 + b"."),
            ("a pickle of 20 MB", b"\x80\x02X" + (20 * 2**20).to_bytes(4, "little") + bytes(20 * 2**20) + b"."),
            ("half a pickle", pickle[: len(pickle) // 2])):
        yield what, _archive([("archive/data.pkl", attack), *rest])


def _damaged_contents(content, rng):
    """What someone does who saves another dict: fields, counters, shapes, types and numbers."""
    def with_(**changes):
        return {name: value for name, value in {**content, **changes}.items() if value is not LEFT_OUT}

    for field in content:
        for value in (LEFT_OUT, *WRONG):
            if field != "settings" and not (value is LEFT_OUT and field in ("optimizer", "sha256")):
                yield f"{field} is {_short(value)}", with_(**{field: value})
    for field in ("config", "counters", "settings"):
        for name in content[field]:
            for value in WRONG:
                if not _fits(field, name, value):
                    yield f"{name} of {field} is {_short(value)}", with_(**{field: {**content[field], name: value}})
        yield f"{field} has a number for a name", with_(**{field: {**content[field], 7: 7}})
    for name in ("n_layer", "block_size", "n_embd", "vocab_size", "n_head", "n_new"):
        yield f"{name} of config is 10**8", with_(config={**content["config"], name: 10**8})

    yield from _damaged_entries(content["model"], rng, lambda entry: with_(model=entry))
    if "optimizer" in content:
        state, groups = content["optimizer"]["state"], content["optimizer"]["param_groups"]

        def with_optimizer(**changes):
            return with_(optimizer={**content["optimizer"], **changes})

        for number in list(state)[:3]:
            yield from _damaged_entries(
                state[number], rng, lambda entry, n=number: with_optimizer(state={**state, n: entry}), f" of {number}")
        numbers = groups[0]["params"]
        for value in (*WRONG, [{}], groups * 2, *([{**groups[0], "params": other}] for other in (
                [], [torch.ones(2)], numbers[::-1], None))):
            yield f"param_groups is {_short(value)}", with_optimizer(param_groups=value)
        for value in WRONG:
            yield f"state is {_short(value)}", with_optimizer(state=value)


def _damaged_entries(entry, rng, put, of=""):
    """The same for a dict of tensors, which put(dict) puts in its place."""
    for name, tensor in entry.items():
        rest = {other: tensor for other, tensor in entry.items() if other != name}
        yield f"{name}{of} is missing", put(rest)
        yield f"{name}{of} has another name", put({**rest, "another": tensor})
        for what, value in (*_damaged_tensors(tensor), ("a word", "nonsense")):
            changed = put({**entry, name: value})
            yield f"{name}{of}: {what}", changed
            if what != "a sign changed":  # an older file has no checksum of its tensors; nothing else would notice
                yield f"{name}{of}: {what}, no checksum", {f: v for f, v in changed.items() if f != "sha256"}
    a, b = rng.sample(list(entry), 2)
    yield f"{a} and {b}{of} exchanged", put({**entry, a: entry[b], b: entry[a]})


def _fits(field, name, value):
    """Whether a value would make another good checkpoint."""
    if field == "settings":
        return value is None or type(value) in (bool, float, str) or type(value) is int and value is not HUGE
    if type(value) not in (int, float) or not 0 <= value < 2**63:
        return False
    if field == "config":
        return value == 0 and name == "dropout" or value > 0 and name in ("rope_theta", "norm_eps")
    return type(value) is int or name == "best_val_loss"


def _damaged_tensors(tensor):
    """Pairs (what, value) of what may stand in the place of a tensor."""
    yield "shape", torch.ones(3, 5)
    yield "shape ()", torch.tensor(1.0) if tensor.dim() else torch.ones(1)
    yield "one row more", torch.cat((tensor, tensor)) if tensor.dim() else torch.ones(2)
    yield "float64", tensor.double()
    yield "bfloat16", tensor.bfloat16()
    yield "integers", tensor.int()
    yield "complex", tensor.to(torch.complex64)
    yield "no numbers", torch.ones(0)
    yield "stretched over one number", torch.ones(1).expand(tensor.shape or (1,))
    yield "stretched far", torch.ones(1).expand(10**6, 10**6)
    yield "meta", torch.empty(10**6, 10**6, device="meta")
    yield "a sign changed", -tensor if tensor.any() else tensor + 1
    for what, number in (("NaN", float("nan")), ("infinity", float("inf"))):
        flat = tensor.clone().reshape(-1)
        flat[len(flat) // 2] = number
        yield what, flat.reshape(tensor.shape)
    if tensor.dim():
        yield "sparse", tensor.to_sparse()
    if tensor.dim() == 2:
        yield "transposed", tensor.T
        yield "transposed in place", tensor.T.contiguous().T


def _short(value):
    """A value in a few words."""
    names = {id(LEFT_OUT): "missing", id(HUGE): "10**400"}
    return names.get(id(value)) or repr(value)[:40].replace("\n", " ")
