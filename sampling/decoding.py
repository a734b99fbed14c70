"""
A model made ready for writing: it reads a token or a whole text at a time, into a cache, as fast as its weights can be
read.

    decoder = Decoder(model, torch.bfloat16)            # or quantize="int8"
    x, cache = decoder.prefill([[1, 42, 7]], max_len=512)
    logits = decoder.logits(x)                           # (1, vocab_size)

What it computes is what model.py computes, within rounding. One token is a product of each matrix with one vector: its
time goes into reading weights, and into calling kernels. So matrices are laid out once as the processor's kernels want
them, the norms' weights are multiplied into the matrices that follow, and keys are turned as complex numbers.
"""

import torch
import torch.nn.functional as F

from model import GPT, pairs_side_by_side, rotary_tables
from sampling import native
from sampling.cache import KVCache

QUANTIZED = ("off", "int8")
_FEW_ROWS = 8  # up to so many, PyTorch multiplies 8-bit weights as they are


class Decoder:
    """A GPT for inference alone. Its matrices are copies: training the model further leaves them as they are.

    dtype is the numbers of the matrices, and on a GPU of keys and values; all else is float32.

    quantize="int8" keeps 8 bits of each weight, on a CPU: a row of a matrix is divided by a 127th of its largest number
    and rounded, which changes no weight by more than a 254th of that number. Vectors are rounded in the same way where
    they are multiplied by decoding.c, and to bfloat16 else. bench/bench_sampling.py tells what it costs in bits per
    byte.
    """

    @torch.no_grad()
    def __init__(self, model, dtype=torch.float32, quantize="off"):
        self.config, self.device = model.config, model.wte.weight.device
        self.dtype, self.quantize = dtype, quantize
        self.kind = "int8" if quantize == "int8" else str(dtype).removeprefix("torch.")  # of numbers
        if quantize not in QUANTIZED:
            raise ValueError(f"--quantize {quantize} is not known; it takes {', '.join(QUANTIZED)}")
        if quantize != "off" and self.device.type != "cpu":
            raise ValueError(f"--quantize {quantize} is for the CPU, and the model is on {self.device}. Leave it out.")
        size = self.config.n_embd

        def normed(weight, norm):  # a norm divides by the length of a vector, and multiplies by norm.weight
            return weight * norm.weight * size**0.5

        self.embedding = model.wte.weight.detach()
        layers = ((normed(_pairs_side_by_side(block.attention.qkv.weight, self.config), block.norm1),
                   block.attention.proj.weight, normed(block.mlp.gate_up.weight, block.norm2), block.mlp.proj.weight)
                  for block in model.blocks)  # made one at a time
        head, shortest = normed(model.output_weight, model.norm), (size * self.config.norm_eps) ** 0.5
        cos, sin = rotary_tables(self.config.block_size, self.config.head_dim, self.config.rope_theta)
        self.turns = torch.complex(cos, sin).to(self.device)  # (block_size, head_dim // 2)
        library = native.library() if self.device.type == "cpu" else None
        if library:
            self.native = native.NativeDecoder(library, self.config, self.embedding, layers, head, self.turns, shortest,
                                               self.kind)
        else:
            self.native = None
            self.layers = [[_matrix(weight, dtype, quantize) for weight in layer] for layer in layers]
            self.head, self.shortest = _matrix(head, dtype, quantize), torch.tensor(shortest, device=self.device)
        # One query over bfloat16 keys takes PyTorch's CPU kernel many times as long as over float32 ones.
        self.cache_dtype = torch.float32 if self.device.type == "cpu" else dtype

    def cache(self, rows, max_len):
        """An empty KVCache for so many texts of up to max_len tokens."""
        return KVCache(self.config, rows, max_len, self.device, self.cache_dtype)

    @torch.inference_mode()
    def read(self, idx, cache, counted=None):
        """Append ids idx (rows, T) to what the cache holds; return what the output layer reads, (rows, T, n_embd).

        Where counted (rows, T) is false there is padding on the right, which is passed over in C: what is returned for
        it means nothing.
        """
        (B, T), H = idx.shape, self.config.n_head
        cache.begin(T)
        if self.native:
            return self.native.read(idx, cache, counted)
        turns = self.turns[cache.positions]  # (T, head_dim // 2), or (B, T, head_dim // 2)
        turns = turns[:, None] if cache.level else turns[:, :, None]
        x = F.embedding(idx.flatten(), self.embedding)  # (B * T, n_embd)
        for layer, (qkv, proj, gate_up, down) in enumerate(self.layers):
            qk, v = qkv(self.normed(x)).view(B, T, 3 * H, -1).split((2 * H, H), dim=2)
            qk = torch.view_as_complex(qk.unflatten(-1, (-1, 2))) * turns  # (B, T, 2 * n_head, head_dim // 2)
            q, k = torch.view_as_real(qk).flatten(-2).transpose(1, 2).chunk(2, dim=1)  # each (B, n_head, T, head_dim)
            k, v = cache.write(layer, k, v.transpose(1, 2))
            y = F.scaled_dot_product_attention(q.to(k.dtype), k, v, cache.mask, is_causal=cache.causal)
            x = x + proj(y.transpose(1, 2).reshape(B * T, -1))
            gate, up = gate_up(self.normed(x)).chunk(2, dim=-1)  # each (B * T, hidden_dim)
            x = x + down(F.silu(gate) * up)
        return x.view(B, T, -1)

    def normed(self, x):
        """x (…, n_embd) at length 1: RMSNorm, but for what stands in the matrix that follows. Few operations, since a
        small model spends as much time on calling them as on its matrices."""
        return x / torch.hypot(torch.linalg.vector_norm(x, dim=-1, keepdim=True), self.shortest)

    @torch.inference_mode()
    def logits(self, x):
        """The output layer, behind its norm: float32 logits (…, vocab_size) for what read() gives, (…, n_embd)."""
        rows = x.flatten(0, -2)
        return (self.native.logits(rows) if self.native else self.head(self.normed(rows))).unflatten(0, x.shape[:-1])

    def prefill(self, prompts, max_len):
        """Read prompts, lists of ids, into a new cache of max_len positions, in one piece.

        Returns what the output layer reads for the last id of each, (B, n_embd), and the cache. Equal prompts are read
        once.
        """
        row_of = {}  # prompt: its row among the different ones
        order = [row_of.setdefault(tuple(prompt), len(row_of)) for prompt in prompts]
        longest, lengths = max(map(len, row_of)), [len(prompt) for prompt in row_of]
        idx = torch.tensor([[*prompt, *[0] * (longest - len(prompt))] for prompt in row_of], device=self.device)
        cache = self.cache(len(row_of), max_len)
        ends = torch.tensor(lengths, device=self.device)
        x = self.read(idx, cache, torch.arange(longest, device=self.device) < ends[:, None])
        cache.lengths = lengths  # without the padding on the right, which nothing has seen
        x = x[torch.arange(len(row_of)), ends - 1]
        if len(row_of) < len(order):
            cache.select(order)
            x = x[order]
        return x, cache


def decoder_of(model):
    """A Decoder of a GPT, in float32; a Decoder as it is."""
    return Decoder(model) if isinstance(model, GPT) else model


def _pairs_side_by_side(qkv, config):
    """The rows of a qkv weight (3 * n_embd, n_embd) with the pairs of queries and keys side by side."""
    q, k, v = qkv.chunk(3)
    return torch.cat([*(pairs_side_by_side(weight, config.n_head) for weight in (q, k)), v])


def _matrix(weight, dtype, quantize):
    """A function from float32 x (N, in) to float32 x @ weight.T (N, out), for weight (out, in), by PyTorch."""
    if quantize != "int8":
        weight = weight.to(dtype, copy=True)
        return lambda x: F.linear(x.to(dtype), weight).float()
    whole, steps = native.rounded(weight.float())
    in_few_bits = steps.bfloat16()

    def product(x):
        if len(x) <= _FEW_ROWS:
            return torch._weight_int8pack_mm(x.bfloat16(), whole, in_few_bits).float()
        return F.linear(x.bfloat16(), whole.bfloat16()).float() * steps

    return product
