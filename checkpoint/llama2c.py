"""
The files of llama2.c (github.com/karpathy/llama2.c): weights for its run and runq, and tokenizer.bin.

    model.bin       7 numbers of the shape, then all weights in float32                           ./run model.bin
    model_q80.bin   the same in 8 bits, _GROUP numbers to a scale; norms in float32               ./runq model_q80.bin
    tokenizer.bin   how long the longest piece is, then score, length and bytes of each

These programs take 1 for the beginning of a text, 2 for its end, and 3 for byte 0; so ids are put in another order, and
the rows of the embedding and of the output layer with them. They stop where 1 is drawn, and only there. After the end
of a text a base model says that another begins, which is 1; the end itself is printed as nothing. In the output layer
of a BackChat the end of an instruction therefore changes places with 1, whose row is not needed there.

Their tokenizer puts a space in front of every prompt, and knows no units: see joining.py. The markers of a template are
control characters to it, which it reads in a prompt and does not print; but `<|instruction|>` is printed, as a vertical
tab, since the answer begins there.
"""

import struct

import numpy as np
import torch

from checkpoint.joining import join
from model import GPT, GPTConfig, pairs_apart, pairs_side_by_side
from tokenizer import BOS_ID, EOS_ID, FIRST_BYTE_ID, MARKER_IDS, UNK_ID

FILES = {"float32": "model.bin", "int8": "model_q80.bin"}
PROGRAMS = {"model.bin": "run", "model_q80.bin": "runq"}
PREFIX = " "                    # stands in front of every prompt
_SHAPE = "<7i"                  # n_embd, hidden_dim, n_layer, n_head twice, vocab_size (negative: untied), block_size
_MAGIC, _HEADER = b"24ka", 256  # of the file in 8 bits
_GROUP = 64                     # weights that share a scale, or fewer, where a row does not divide into so many
_BYTES = 3                      # their id of byte 0
_NOTHING = b"\0"                # an empty string of C: it reads no file in which a piece has no bytes
_END = MARKER_IDS["<|im_end|>"]
_MARKERS = {i: chr(14 + i) for i in MARKER_IDS.values()} | {MARKER_IDS["<|instruction|>"]: "\v"}


def write(folder, opened, dtype, use):
    """Write the weights of an OpenModel in FILES[dtype], and tokenizer.bin. Raises ValueError for a model that llama2.c
    would compute differently: some of its numbers are not in the file."""
    c = opened.model.config
    if c.rope_theta != 10_000 or abs(c.norm_eps - 1e-5) > 1e-12:
        raise ValueError(f"llama2.c computes with rope_theta 10000 and norm_eps 1e-05, and {opened.path} has "
                         f"{c.rope_theta:g} and {c.norm_eps:g}. Take --format gguf.")
    markers, rows = bool(use.middle), _order(opened.tokenizer)
    head = _drawn(rows) if markers else None if c.tied else rows
    with open(folder / FILES[dtype], "wb") as file, torch.no_grad():
        (_write_float32 if dtype == "float32" else _write_int8)(file, opened.model, rows, head)
    with open(folder / "tokenizer.bin", "wb") as file:
        _write_tokenizer(file, opened.tokenizer, rows, markers)


def read(folder, dtype, tokenizer):
    """(a GPT of what stands there, how llama2.c cuts a text): both with our ids."""
    rows, pieces = _order(tokenizer), _read_tokenizer(folder / "tokenizer.bin")
    markers = pieces[rows.index(_END)][0] != _NOTHING
    model = _read_weights(folder / FILES[dtype], rows, _drawn(rows) if markers else rows)
    by_piece = {piece.decode(): i for i, (piece, _) in reversed([*enumerate(pieces)]) if rows[i] >= FIRST_BYTE_ID}
    scores = [score for _, score in pieces]

    def cut(text):
        return [rows[i] for i in join(PREFIX + text, by_piece, scores, _BYTES)]

    return model, cut


def spelled(ids):
    """Markers as a shell writes them between $' and '."""
    return "".join(ascii(_MARKERS[i])[1:-1] for i in ids)


def _order(tokenizer):
    """Our id for each of theirs: special ones, bytes, the markers, all other pieces."""
    byte = range(FIRST_BYTE_ID, FIRST_BYTE_ID + 256)
    return [UNK_ID, BOS_ID, EOS_ID, *byte, *range(EOS_ID + 1, FIRST_BYTE_ID), *range(byte.stop, tokenizer.vocab_size)]


def _drawn(rows):
    """The same for what is drawn, where 1 is to end an instruction."""
    return [{BOS_ID: _END, _END: BOS_ID}.get(i, i) for i in rows]


# ---- weights


def _tensors(model, rows, head):
    """Triples (name, float32 tensor, whether it is a matrix) in the order of the files; rows are those of the
    embedding, head those of the output layer, None where the embedding is that, too."""
    blocks, n_head = model.blocks, model.config.n_head
    qkv = [block.attention.qkv.weight.chunk(3) for block in blocks]
    gate_up = [block.mlp.gate_up.weight.chunk(2) for block in blocks]
    yield "wte", model.wte.weight[rows], True
    yield "norm1", torch.stack([block.norm1.weight for block in blocks]), False
    yield "q", torch.stack([pairs_side_by_side(q, n_head) for q, _, _ in qkv]), True
    yield "k", torch.stack([pairs_side_by_side(k, n_head) for _, k, _ in qkv]), True
    yield "v", torch.stack([v for _, _, v in qkv]), True
    yield "proj", torch.stack([block.attention.proj.weight for block in blocks]), True
    yield "norm2", torch.stack([block.norm2.weight for block in blocks]), False
    yield "gate", torch.stack([gate for gate, _ in gate_up]), True
    yield "down", torch.stack([block.mlp.proj.weight for block in blocks]), True
    yield "up", torch.stack([up for _, up in gate_up]), True
    yield "norm", model.norm.weight, False
    if head is not None:
        yield "head", model.output_weight[head], True


def _shape(c, vocab_size):
    return struct.pack(_SHAPE, c.n_embd, c.hidden_dim, c.n_layer, c.n_head, c.n_head, vocab_size, c.block_size)


def _rotary_bytes(c):
    return 4 * c.block_size * c.head_dim  # tables in front of the output layer that are not read any more


def _float32(tensor):
    return tensor.float().cpu().numpy().astype("<f4").tobytes()


def _write_float32(file, model, rows, head):
    c = model.config
    file.write(_shape(c, c.vocab_size if head is None else -c.vocab_size))
    for name, tensor, _ in _tensors(model, rows, head):
        file.write(_float32(tensor))
        if name == "norm":
            file.write(bytes(_rotary_bytes(c)))


def _write_int8(file, model, rows, head):
    c, group = model.config, _group_of(model.config)
    header = _MAGIC + struct.pack("<i", 2) + _shape(c, c.vocab_size) + struct.pack("<Bi", head is None, group)
    file.write(header.ljust(_HEADER, b"\0"))
    for _, tensor, is_matrix in _tensors(model, rows, head):
        if not is_matrix:
            file.write(_float32(tensor))
    for _, tensor, is_matrix in _tensors(model, rows, head):
        for matrix in (tensor if tensor.dim() == 3 else [tensor]) if is_matrix else []:
            groups = matrix.float().reshape(-1, group)
            scale = groups.abs().amax(dim=1) / 127
            whole = (groups / scale.clamp(min=torch.finfo(torch.float32).tiny)[:, None]).round()
            file.write(whole.to(torch.int8).cpu().numpy().tobytes() + _float32(scale))


def _group_of(c):
    """How many weights share a scale: rows are divided evenly."""
    group = _GROUP
    while c.n_embd % group or c.hidden_dim % group:
        group //= 2
    return group


@torch.no_grad()
def _read_weights(path, rows, head):
    data = np.fromfile(path, dtype=np.uint8)
    int8 = data[:4].tobytes() == _MAGIC
    n_embd, hidden_dim, n_layer, n_head, _, vocab_size, block_size = struct.unpack_from(_SHAPE, data, 8 if int8 else 0)
    at = 8 * int8 + struct.calcsize(_SHAPE)
    tied, group = struct.unpack_from("<Bi", data, at) if int8 else (vocab_size > 0, None)
    model = GPT(GPTConfig(block_size=block_size, vocab_size=abs(vocab_size), n_layer=n_layer, n_head=n_head,
                          n_embd=n_embd, tied=bool(tied))).eval()
    if model.config.hidden_dim != hidden_dim:
        raise ValueError(f"{path}: hidden_dim is {hidden_dim}, and {model.config.hidden_dim} in a model of this width")
    at = _HEADER if int8 else at

    def take(dtype, count):
        nonlocal at
        found = np.frombuffer(data, dtype, count, at)
        at += found.nbytes
        return torch.from_numpy(found.astype(np.float32))

    def matrix(numel):
        whole = take(np.int8, numel).view(-1, group)
        return (whole * take("<f4", len(whole))[:, None]).flatten()

    head, found = None if tied else head, {}
    places = [(name, tensor.shape, is_matrix) for name, tensor, is_matrix in _tensors(model, rows, head)]
    for name, shape, is_matrix in sorted(places, key=lambda place: int8 and place[2]):  # in 8 bits the norms come first
        if int8 and is_matrix:
            parts = [matrix(shape[-2:].numel()) for _ in range(shape[0] if len(shape) == 3 else 1)]
            found[name] = torch.cat(parts).view(shape)
        else:
            found[name] = take("<f4", shape.numel()).view(shape)
        at += _rotary_bytes(model.config) if name == "norm" and not int8 else 0
    model.wte.weight[rows] = found["wte"]
    if head is not None:
        model.head.weight[head] = found["head"]
    _fill(model, found)
    return model


def _fill(model, found):
    """Put what _tensors() names, but for the rows, into a model."""
    model.norm.weight.copy_(found["norm"])
    for i, block in enumerate(model.blocks):
        q, k = (pairs_apart(found[name][i], model.config.n_head) for name in "qk")
        block.attention.qkv.weight.copy_(torch.cat([q, k, found["v"][i]]))
        block.attention.proj.weight.copy_(found["proj"][i])
        block.mlp.gate_up.weight.copy_(torch.cat([found["gate"][i], found["up"][i]]))
        block.mlp.proj.weight.copy_(found["down"][i])
        block.norm1.weight.copy_(found["norm1"][i])
        block.norm2.weight.copy_(found["norm2"][i])


# ---- the tokenizer


def _pieces(tokenizer, rows, markers):
    """Pairs (bytes, score) of their ids: what each prints. Special ones print nothing; but 1 has a name, though it is
    never printed: it stands before a prompt, and nothing joined with a space would be that space."""
    for i in rows:
        if i == BOS_ID:
            yield tokenizer.name(i).encode(), 0.0
        elif FIRST_BYTE_ID <= i < FIRST_BYTE_ID + 256:
            yield b"<0x%02X>" % (i - FIRST_BYTE_ID), 0.0
        elif i < FIRST_BYTE_ID:
            yield _MARKERS[i].encode() if markers and i in _MARKERS else _NOTHING, 0.0
        else:
            yield tokenizer.decode([i]).encode(), tokenizer.score(i)


def _write_tokenizer(file, tokenizer, rows, markers):
    found = list(_pieces(tokenizer, rows, markers))
    file.write(struct.pack("<i", max(len(piece) for piece, _ in found)))
    for piece, score in found:
        file.write(struct.pack("<fi", score, len(piece)) + piece)


def _read_tokenizer(path):
    """Pairs (bytes, score)."""
    data, at, found = path.read_bytes(), 4, []
    while at < len(data):
        score, length = struct.unpack_from("<fi", data, at)
        found.append((data[at + 8:at + 8 + length], score))
        at += 8 + length
    return found
