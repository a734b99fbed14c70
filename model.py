"""
The language model: a GPT in Llama's form.

    model = GPT(GPTConfig(vocab_size=8888))
    logits, _ = model(idx)                              # ids (B, T) in, logits (B, T, vocab_size) out
    _, loss = model(idx, targets)                       # training: mean loss out

How texts are drawn from it is told in sampling/: `sampling.generate(model, ids, 100)`, which has a way of its own
through these weights, with a key/value cache (sampling/decoding.py).

RMSNorm (arXiv:1910.07467), rotary positions (arXiv:2104.09864), SwiGLU (arXiv:2002.05202), no biases, output weights
tied to the token embedding or of their own. Which way the text runs is not known here: the model predicts the next id
of whatever it is given.

Weights and rotary tables are float32. For bfloat16 wrap the calls in torch.autocast, as training does.
"""

import contextlib
import math
from dataclasses import dataclass, fields

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.checkpoint import checkpoint

# The most that the rotary tables may hold, 64 MB: a block of 131,072 tokens with heads of 128. No weight depends on
# block_size, so nothing else would bound what a checkpoint may ask for.
ROTARY_NUMBERS = 2**24
WEIGHT_STD = 0.02    # of first weights, unless init_weights() says otherwise
EMBEDDING_STD = 1.0  # of an embedding that is not the output layer, too


@dataclass
class GPTConfig:
    """Shape of the model, in plain values only: a checkpoint stores asdict(config). Contradictions raise ValueError."""

    block_size: int = 1024
    vocab_size: int = 8888
    n_layer: int = 12
    n_head: int = 16
    n_embd: int = 1024
    dropout: float = 0.0
    rope_theta: float = 10000.0
    norm_eps: float = 1e-5
    tied: bool = True  # the output layer shares the embedding's weights

    def __post_init__(self):
        for field in fields(self):
            value = getattr(self, field.name)
            if field.type is bool:
                if not isinstance(value, bool):
                    raise ValueError(f"{field.name} is {value!r}; set it to true or false.")
                continue
            if isinstance(value, bool) or not isinstance(value, int if field.type is int else (int, float)):
                whole = "whole " if field.type is int else ""
                raise ValueError(f"{field.name} is {value!r}; set it to a {whole}number.")
            if not (0 < value < math.inf or field.name == "dropout"):
                raise ValueError(f"{field.name} is {value}; set it above zero.")
        if self.n_embd % self.n_head:
            raise ValueError(
                f"n_embd {self.n_embd} does not divide into {self.n_head} heads. Make n_embd a multiple of n_head."
            )
        if self.head_dim % 2:
            raise ValueError(
                f"Rotary positions turn pairs of features, but n_embd {self.n_embd} / n_head {self.n_head} gives heads "
                f"of {self.head_dim}. Make n_embd a multiple of 2 * n_head."
            )
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout is {self.dropout}; set it to at least 0 (off) and below 1.")
        if self.block_size * self.head_dim > ROTARY_NUMBERS:
            raise ValueError(f"block_size {self.block_size:,} with heads of {self.head_dim:,} makes rotary tables of "
                             f"more than {ROTARY_NUMBERS:,} numbers; set it lower.")

    @property
    def head_dim(self):
        return self.n_embd // self.n_head

    @property
    def hidden_dim(self):
        """Width of the MLP: 8/3 of n_embd, so that its three matrices weigh as much as the usual two, up to a multiple
        of 256."""
        return 256 * -(-8 * self.n_embd // (3 * 256))


def rotary_tables(T, head_dim, theta=10000.0):
    """Cosines and sines of the angle for each position and feature pair: two float32 tensors (T, head_dim // 2)."""
    # In float64: float32 would be off by about 1e-4 radians at position 1000.
    frequency = theta ** (-torch.arange(0, head_dim, 2, dtype=torch.float64, device="cpu") / head_dim)
    angle = torch.outer(torch.arange(T, dtype=torch.float64, device="cpu"), frequency)
    return angle.cos().float(), angle.sin().float()


def apply_rotary(x, cos, sin):
    """Rotate feature pairs of x by an angle proportional to position (RoPE, arXiv:2104.09864).

    x is (B, n_head, T, head_dim); cos and sin are (T, head_dim // 2). Feature i is paired with feature i + head_dim //
    2. The result has the type of x.
    """
    x1, x2 = x.chunk(2, dim=-1)  # each (B, n_head, T, head_dim // 2)
    return torch.cat((x1 * cos - x2 * sin, x1 * sin + x2 * cos), dim=-1).to(x.dtype)


def pairs_side_by_side(weight, n_head):
    """A query or key weight (n_head * head_dim, n_embd) with its rows in another order: the features that are turned
    together, i and i + head_dim // 2, become neighbours. Who turns neighbours gets the same scores from it."""
    return weight.unflatten(0, (n_head, 2, -1)).transpose(1, 2).flatten(0, 2)


def pairs_apart(weight, n_head):
    """The weight that pairs_side_by_side() had."""
    return weight.unflatten(0, (n_head, -1, 2)).transpose(1, 2).flatten(0, 2)


def plain_attention(q, k, v, dropout=0.0):
    """Causal attention written out; q, k, v and the result are (B, n_head, T, head_dim).

    For short bfloat16 training on a CPU, where PyTorch's fused kernel takes nearly three times as long at 256 positions
    (measured forward and backward on Zen 5). The price is memory for (B, n_head, T, T) scores; at 1024 positions it is
    slower.
    """
    T, head_dim = q.shape[-2:]
    hidden = q.new_full((T, T), -math.inf).triu(1)
    scores = torch.baddbmm(hidden, q.flatten(0, 1), k.flatten(0, 1).mT, alpha=head_dim**-0.5)  # (B * n_head, T, T)
    return F.dropout(scores.softmax(dim=-1).view(*q.shape[:2], T, T), dropout) @ v


class Attention(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.n_head, self.head_dim, self.dropout = config.n_head, config.head_dim, config.dropout
        self.qkv = nn.Linear(config.n_embd, 3 * config.n_embd, bias=False)  # rows: all of q, then k, then v
        self.proj = nn.Linear(config.n_embd, config.n_embd, bias=False)

    def forward(self, x, cos, sin):
        B, T, C = x.shape
        qkv = self.qkv(x).view(B, T, 3 * self.n_head, self.head_dim).transpose(1, 2)  # (B, 3 * n_head, T, head_dim)
        q, k, v = qkv.chunk(3, dim=1)  # each (B, n_head, T, head_dim)
        q, k = apply_rotary(q, cos, sin), apply_rotary(k, cos, sin)
        dropout = self.dropout if self.training else 0.0
        if q.device.type == "cpu" and q.dtype == torch.bfloat16 and T <= 256:
            y = plain_attention(q, k, v, dropout)
        else:
            y = F.scaled_dot_product_attention(q, k, v, None, dropout, is_causal=True)
        return self.proj(y.transpose(1, 2).reshape(B, T, C))


class MLP(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.gate_up = nn.Linear(config.n_embd, 2 * config.hidden_dim, bias=False)  # rows: all of gate, then up
        self.proj = nn.Linear(config.hidden_dim, config.n_embd, bias=False)

    def forward(self, x):
        gate, up = self.gate_up(x).chunk(2, dim=-1)  # each (B, T, hidden_dim)
        return self.proj(F.silu(gate) * up)


class Block(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.norm1 = nn.RMSNorm(config.n_embd, eps=config.norm_eps)
        self.attention = Attention(config)
        self.norm2 = nn.RMSNorm(config.n_embd, eps=config.norm_eps)
        self.mlp = MLP(config)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x, cos, sin):
        x = x + self.dropout(self.attention(self.norm1(x), cos, sin))
        return x + self.dropout(self.mlp(self.norm2(x)))


@contextlib.contextmanager
def evaluating(model):
    """The model in eval mode; afterwards it is in its former mode again."""
    was_training = model.training
    model.eval()
    try:
        yield model
    finally:
        model.train(was_training)


class OutputLoss(torch.autograd.Function):
    """Mean cross-entropy of the output layer, in float32, a slice of rows at a time: loss and gradients in one pass.

    x is (N, n_embd), weight (vocab_size, n_embd), targets (N,); a target below zero does not count. All logits together
    would be the largest tensors of the model, written and read many times; a slice of them stays in the processor's
    cache. For a small model on a CPU, forward and backward together take a fifth less time.
    """

    @staticmethod
    def forward(ctx, x, weight, targets, with_gradients):
        device = x.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype
        n, w = 512 if device == "cpu" else 8192, weight.to(dtype)
        scale = 1 / (targets >= 0).sum().clamp(min=1)
        loss = torch.zeros((), device=x.device)
        if with_gradients:
            dx, dw = torch.empty_like(x), torch.zeros_like(weight)
        for start in range(0, x.size(0), n):
            rows, ids = x[start : start + n].to(dtype), targets[start : start + n, None]
            share, ids = scale * (ids >= 0), ids.clamp(min=0)  # both (n, 1)
            logits = (rows @ w.T).float()  # (n, vocab_size)
            total = logits.logsumexp(dim=-1, keepdim=True)
            loss += ((total - logits.gather(1, ids)) * share).sum()
            if with_gradients:
                p = logits.sub_(total).exp_()  # the gradient is p - 1 at the target, p elsewhere, over N
                p.scatter_add_(1, ids, torch.full_like(ids, -1, dtype=p.dtype))
                p = p.mul_(share).to(dtype)
                dx[start : start + n] = p @ w
                dw += p.T @ rows
        if with_gradients:
            ctx.save_for_backward(dx, dw)
        return loss

    @staticmethod
    def backward(ctx, gradient):
        dx, dw = ctx.saved_tensors
        return dx * gradient, dw * gradient, None, None


class GPT(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config = config
        self.wte = nn.Embedding(config.vocab_size, config.n_embd)
        if not config.tied:
            self.head = nn.Linear(config.n_embd, config.vocab_size, bias=False)
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.n_layer))
        self.norm = nn.RMSNorm(config.n_embd, eps=config.norm_eps)
        self.activation_checkpointing = False  # in training: less memory for more time
        cos, sin = rotary_tables(config.block_size, config.head_dim, config.rope_theta)
        self.register_buffer("cos", cos, persistent=False)  # follows from the config, so no checkpoint needs it
        self.register_buffer("sin", sin, persistent=False)
        self.init_weights()

    def init_weights(self, zero_projections=False):
        """Normal with deviation 0.02; the two projections into the residual stream smaller, by the root of their
        number, so that the stream's variance does not grow with depth, or zero, as suits Muon, whose steps do not
        depend on the size of a gradient.

        An output layer of its own begins at zero, and every token as likely as any other; the embedding is then of
        deviation EMBEDDING_STD, for nothing but the first norm reads it.
        """
        for name, p in self.named_parameters():
            if name == "head.weight" or name.endswith("proj.weight") and zero_projections:
                nn.init.zeros_(p)
            elif name.endswith("proj.weight"):
                nn.init.normal_(p, std=WEIGHT_STD / math.sqrt(2 * self.config.n_layer))
            elif name == "wte.weight" and not self.config.tied:
                nn.init.normal_(p, std=EMBEDDING_STD)
            elif p.dim() == 2:
                nn.init.normal_(p, std=WEIGHT_STD)
            else:
                nn.init.ones_(p)

    def forward(self, idx, targets=None, loss_mask=None):
        """Return (logits, loss) for ids idx (B, T), each position predicting the next id from itself and those before.

        Without targets: logits (B, T, vocab_size), and loss is None. With targets (B, T): logits is None (they are
        never held all at once, see OutputLoss), and loss is the float32 mean cross-entropy in nats over the positions
        where loss_mask (B, T) is true, all if it is None; 0 where it is true nowhere. Give the mask on the CPU: its
        positions are counted there, and nothing waits for the device.
        """
        x = self.hidden(idx)  # (B, T, n_embd)
        if targets is None:
            return self.logits(x), None
        if loss_mask is None:
            x, targets = x.flatten(0, 1), targets.flatten()  # (B * T, n_embd) and (B * T,)
        else:
            counted = loss_mask.flatten().nonzero().squeeze(1).to(x.device, non_blocking=True)
            # The output layer is run for the counted positions only.
            x, targets = (t.flatten(0, 1).index_select(0, counted) for t in (x, targets))
            more = -len(x) % 64  # a CPU compiles its kernels for every number of rows: few numbers, level memory
            x, targets = F.pad(x, (0, 0, 0, more)), F.pad(targets, (0, more), value=-1)
        return None, OutputLoss.apply(x, self.output_weight, targets, torch.is_grad_enabled())

    def hidden(self, idx):
        """What the output layer reads for ids idx (B, T): (B, T, n_embd)."""
        T = idx.size(1)
        if T > self.config.block_size:
            raise ValueError(f"{T} tokens do not fit into block_size {self.config.block_size}. Cut the input.")
        cos, sin = self.cos[:T], self.sin[:T]
        x = self.dropout(self.wte(idx))
        for block in self.blocks:
            if self.activation_checkpointing and self.training:
                x = checkpoint(block, x, cos, sin, use_reentrant=False)
            else:
                x = block(x, cos, sin)
        return self.norm(x)

    def logits(self, x):
        """The output layer: logits (…, vocab_size) for what hidden() gives, (…, n_embd)."""
        return F.linear(x, self.output_weight)

    @property
    def output_weight(self):
        """(vocab_size, n_embd)"""
        return self.wte.weight if self.config.tied else self.head.weight

    def num_params(self):
        """Number of weights; a tied embedding counts once."""
        return sum(p.numel() for p in self.parameters())

    def activation_bytes(self, tokens, size=2):
        """Bytes of activations that a forward pass over so many tokens keeps for the backward pass, roughly: what each
        block's matrices and norms read, in numbers of `size` bytes."""
        c = self.config
        return size * tokens * c.n_layer * (9 * c.n_embd + 4 * c.hidden_dim)

    def flops_per_token(self):
        """Floating point operations per trained token, forward and backward (PaLM, arXiv:2204.02311, appendix B).

        Six per weight (an embedding multiplies only where it is the output layer, too), and 12 * n_layer * n_embd *
        block_size for attention, counted as if every position saw the whole block, as is the custom.
        """
        c = self.config
        multiplying = self.num_params() - (0 if c.tied else self.wte.weight.numel())
        return 6 * multiplying + 12 * c.n_layer * c.n_embd * c.block_size
