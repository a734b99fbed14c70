"""
decoding.c from Python: compiled for this processor where there is a C compiler, kept in the user's cache, and called.

    ~/.cache/backgpt/decoding-….so, or below $XDG_CACHE_HOME

The compiler is `cc`, or what $CC names. Compiling takes about a second, once.
"""

import ctypes
import functools
import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
from ctypes import POINTER, Structure, c_float, c_int, c_int32, c_int64, c_void_p
from pathlib import Path

import torch

from program.files import user_folder
from program.streams import complain
from sampling.choosing import NOT_FINITE

SOURCE = Path(__file__).with_name("decoding.c")
# The last two let sums be taken in any order, and thereby in vectors; numbers that are not finite stay what they are.
FLAGS = ["-O3", "-march=native", "-fPIC", "-shared", "-fno-math-errno", "-fno-trapping-math", "-fassociative-math",
         "-fno-signed-zeros"]
_OPENMP = "-fopenmp"  # several threads; Apple's compiler does not know it
# Rounds in which a thread without work looks for some before it sleeps: a few microseconds. Beside other programs,
# longer waits would take the time that the other thread needs.
_SPIN = "1000"
_TILE = 64                                                        # rows of a tile, as in decoding.c
_KINDS = {"float32": (0, 1), "bfloat16": (1, 2), "int8": (2, 4)}  # the number of a kind, and columns in 32 bits


class _Matrix(Structure):
    _fields_ = [("tiles", c_void_p), ("steps", c_void_p), ("sums", c_void_p), ("kind", c_int32), ("rows", c_int32),
                ("columns", c_int32)]


class _Layer(Structure):
    _fields_ = [(name, _Matrix) for name in ("qkv", "proj", "gate_up", "down")]


class _Model(Structure):
    _fields_ = [*((name, c_int32) for name in ("n_layer", "n_head", "head_dim", "n_embd", "hidden_dim")),
                ("shortest", c_float), ("embedding", c_void_p), ("turns", c_void_p), ("layers", POINTER(_Layer)),
                ("head", _Matrix)]


class NativeDecoder:
    """What decoding.Decoder computes, by decoding.c: its read() and logits().

    layers is a list of four weights each, (out, in), head one weight, with the norms multiplied in; turns are complex
    (block_size, head_dim // 2). kind is "float32", "bfloat16" or "int8".
    """

    def __init__(self, library, config, embedding, layers, head, turns, shortest, kind):
        self.library, self.config = library, config
        embedding, turns = embedding.float().contiguous(), torch.view_as_real(turns).contiguous()
        self.kept = [embedding, turns]  # what C points to
        layers = [_Layer(*[self.matrix(weight, kind) for weight in layer]) for layer in layers]
        self.model = _Model(config.n_layer, config.n_head, config.head_dim, config.n_embd, config.hidden_dim, shortest,
                            embedding.data_ptr(), turns.data_ptr(), (_Layer * len(layers))(*layers),
                            self.matrix(head, kind))

    def matrix(self, weight, kind):
        number, in_word = _KINDS[kind]
        rows, columns = weight.shape
        weight = torch.nn.functional.pad(weight.float(), (0, -columns % in_word, 0, -rows % _TILE))
        steps, sums = torch.empty(0), torch.empty(0)
        if kind == "int8":
            weight, steps = rounded(weight)
            sums = weight.sum(dim=1, dtype=torch.int32)
        elif kind == "bfloat16":
            weight = weight.bfloat16()
        tiles = weight.view(-1, _TILE, weight.size(1) // in_word, in_word).transpose(1, 2).contiguous()
        self.kept += [tiles, steps, sums]
        return _Matrix(tiles.data_ptr(), steps.data_ptr(), sums.data_ptr(), number, rows, columns)

    def read(self, idx, cache, counted=None):
        """What the output layer reads, (B, T, n_embd), for ids idx (B, T) that stand where cache.begin() has said; only
        for those that are counted (B, T), if that is given."""
        B, T = idx.shape
        texts = torch.arange(B)[:, None].expand(B, T)
        ids, texts, positions = ((a.contiguous() if counted is None else a[counted]).flatten()
                                 for a in (idx, texts, cache.positions.expand(B, T)))
        x = torch.empty(len(ids), self.config.n_embd)
        self.call("read_tokens", len(ids), ids, texts, positions, cache.k, cache.v, c_int64(B), c_int64(cache.max_len),
                  torch.get_num_threads(), x)
        if counted is None:
            return x.view(B, T, -1)
        return x.new_zeros(B, T, x.size(1)).masked_scatter_(counted[..., None], x)

    def logits(self, x):
        """Logits (N, vocab_size) for x (N, n_embd)."""
        out = torch.empty(len(x), self.config.vocab_size)
        self.call("logits", len(x), x.contiguous(), torch.get_num_threads(), out)
        return out

    def call(self, name, n, *arguments):
        # The tensors have to outlive the call, and so their addresses do not take their place.
        addresses = [c_void_p(a.data_ptr()) if isinstance(a, torch.Tensor) else a for a in arguments]
        if getattr(self.library, name)(ctypes.byref(self.model), c_int64(n), *addresses):
            raise MemoryError(f"not enough memory to read {n:,} tokens")


def rounded(weight):
    """A weight (out, in) in 8 bits, int8, and what 1 stands for in each row, (out,): a 127th of the largest number.

    Raises FloatingPointError where a number is not finite, which rounding would hide.
    """
    if not weight.isfinite().all():
        raise FloatingPointError(NOT_FINITE)
    steps = (weight.abs().amax(dim=1) / 127).clamp(min=torch.finfo(torch.float32).tiny)
    return (weight / steps[:, None]).round().to(torch.int8), steps


@functools.cache
def library():
    """decoding.c, ready to be called; None where there is no C compiler, or one that does not get along with it, which
    is said."""
    named = os.environ.get("CC")
    compiler = shlex.split(named or "cc")
    if shutil.which(compiler[0]) is None:
        if named:
            complain(f"The C compiler that CC names, {named}, is not there: PyTorch writes alone, and more slowly.")
        return None
    try:
        return load(compiler)
    except (OSError, subprocess.CalledProcessError) as error:
        why = getattr(error, "stderr", str(error)).strip().partition("\n")[0] or "nothing"
        complain(f"{SOURCE.name} could not be compiled by {compiler[0]}: PyTorch writes alone, and more slowly. CC=gcc "
                 f"names another compiler. This one said: {why}")
        return None


def load(compiler, flags=FLAGS):
    """decoding.c by this compiler, from the user's cache if it is there. Raises OSError or CalledProcessError."""
    names = "\0".join([*compiler, *flags, platform.platform(), _processor()])
    name = f"decoding-{hashlib.sha256(SOURCE.read_bytes() + names.encode()).hexdigest()[:16]}.so"
    try:
        folder = user_folder("cache")
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not (folder / name).exists():
            with tempfile.TemporaryDirectory(dir=folder) as aside:
                os.replace(_compile(compiler, flags, Path(aside) / name), folder / name)
        return _open(folder / name)
    except (OSError, RuntimeError):  # there is no home, or nothing can be written or run there
        with tempfile.TemporaryDirectory() as aside:
            return _open(_compile(compiler, flags, Path(aside) / name))


def _compile(compiler, flags, path):
    for more in ([_OPENMP], []):
        done = subprocess.run([*compiler, *flags, *more, "-o", path, SOURCE, "-lm"], capture_output=True, text=True)
        if not done.returncode:
            return path
    done.check_returncode()


def _open(path):
    before = os.environ.get("GOMP_SPINCOUNT")  # which is read as its threads are loaded
    os.environ.setdefault("GOMP_SPINCOUNT", _SPIN)
    try:
        found = ctypes.CDLL(str(path))
    finally:
        if before is None:
            del os.environ["GOMP_SPINCOUNT"]
    found.read_tokens.argtypes = [POINTER(_Model), c_int64, *[c_void_p] * 5, c_int64, c_int64, c_int, c_void_p]
    found.logits.argtypes = [POINTER(_Model), c_int64, c_void_p, c_int, c_void_p]
    return found


def _processor():
    """What the processor can do: a home may be shared by machines that differ."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line for line in lines if line.startswith(("flags", "Features"))), "")
