"""
The language model: a GPT in Llama's form, with a key/value cache, sampling and generation.

    model = GPT(GPTConfig(vocab_size=8888))
    _, loss = model(idx, targets)                       # training: ids (B, T) in, mean loss out
    for token in model.generate([1, 42], 100): ...      # sampling: a list of ids in, ids out one at a time

RMSNorm (arXiv:1910.07467), rotary positions (arXiv:2104.09864), SwiGLU (arXiv:2002.05202), no biases, output weights tied
to the token embedding. Which way the text runs is not known here: the model predicts the next id of whatever it is given.

Weights and rotary tables are float32. For bfloat16 wrap the calls in torch.autocast, as the trainer and samplers do.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn as nn
import torch.nn.functional as F


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

    def __post_init__(self):
        for name in ("block_size", "vocab_size", "n_layer", "n_head", "n_embd", "rope_theta", "norm_eps"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} is {getattr(self, name)}; set it above zero.")
        if self.n_embd % self.n_head:
            raise ValueError(
                f"n_embd {self.n_embd} does not divide into {self.n_head} heads. Make n_embd a multiple of n_head."
            )
        if self.head_dim % 2:
            raise ValueError(
                f"Rotary positions turn pairs of features, but n_embd {self.n_embd} / n_head {self.n_head} gives heads of "
                f"{self.head_dim}. Make n_embd a multiple of 2 * n_head."
            )
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout is {self.dropout}; set it to at least 0 (off) and below 1.")

    @property
    def head_dim(self):
        return self.n_embd // self.n_head

    @property
    def hidden_dim(self):
        """Width of the MLP: 8/3 of n_embd, so that its three matrices weigh as much as the usual two, up to a multiple of 256."""
        return 256 * -(-8 * self.n_embd // (3 * 256))


def rotary_tables(T, head_dim, theta=10000.0):
    """Cosines and sines of the angle for each position and feature pair: two float32 tensors (T, head_dim // 2)."""
    # In float64: float32 would be off by about 1e-4 radians at position 1000.
    frequency = theta ** (-torch.arange(0, head_dim, 2, dtype=torch.float64, device="cpu") / head_dim)
    angle = torch.outer(torch.arange(T, dtype=torch.float64, device="cpu"), frequency)
    return angle.cos().float(), angle.sin().float()


def apply_rotary(x, cos, sin):
    """Rotate feature pairs of x by an angle proportional to position (RoPE, arXiv:2104.09864).

    x is (B, n_head, T, head_dim); cos and sin are (T, head_dim // 2), one row per position in x. Feature i is paired with
    feature i + head_dim // 2. The result has the type of x.
    """
    x1, x2 = x.chunk(2, dim=-1)  # each (B, n_head, T, head_dim // 2)
    return torch.cat((x1 * cos - x2 * sin, x1 * sin + x2 * cos), dim=-1).to(x.dtype)


class KVCache:
    """Keys and values of the positions seen so far, for every layer: two tensors (n_layer, B, n_head, max_len, head_dim).

    A position is an index into the cache. Rotary scores depend on distances alone, so rows of different lengths are padded on
    the LEFT, and row b hides its first padding[b] positions (padding is (B,) integers, None when there are none).
    """

    def __init__(self, config, max_len, padding=None):
        self.config, self.max_len, self.length = config, max_len, 0
        self.k = self.v = None  # allocated by the first write, which knows batch, device and type
        self.visible = None  # (B, 1, 1, max_len)
        if padding is not None:
            self.visible = (torch.arange(max_len, device=padding.device) >= padding[:, None])[:, None, None]

    def write(self, layer, k, v):
        """Append k and v, each (B, n_head, T, head_dim), to one layer; return all its keys and values up to there."""
        if self.k is None:
            B, n_head, _, head_dim = k.shape
            shape = (self.config.n_layer, B, n_head, self.max_len, head_dim)
            self.k, self.v = k.new_empty(shape), v.new_empty(shape)
        end = self.length + k.size(2)
        self.k[layer, :, :, self.length : end] = k
        self.v[layer, :, :, self.length : end] = v
        return self.k[layer, :, :, :end], self.v[layer, :, :, :end]

    def mask(self, T):
        """What T new positions may see, as (B or 1, 1, T, length + T) booleans; None when plain causal attention will do."""
        end = self.length + T
        if T == 1:
            return None if self.visible is None else self.visible[..., :end]
        if self.visible is None and self.length == 0:
            return None
        device = (self.k if self.visible is None else self.visible).device
        i, j = torch.arange(self.length, end, device=device)[:, None], torch.arange(end, device=device)
        seen = (j <= i)[None, None]
        if self.visible is not None:
            seen = seen & self.visible[..., :end] | (i == j)  # padding sees itself: a row of nothing would become NaN
        return seen

    def select(self, rows):
        """Keep the rows that a list names, in its order; a row may be named more than once, or not at all."""
        rows = torch.tensor(rows, device=self.k.device)
        self.k, self.v = self.k.index_select(1, rows), self.v.index_select(1, rows)
        if self.visible is not None:
            self.visible = self.visible[rows]


def plain_attention(q, k, v, dropout=0.0):
    """Causal attention written out; q, k, v and the result are (B, n_head, T, head_dim).

    For short bfloat16 training on a CPU, where PyTorch's fused kernel takes nearly three times as long at 256 positions
    (measured forward and backward on Zen 5). The price is memory for (B, n_head, T, T) scores; at 1024 positions it is slower.
    """
    T, head_dim = q.shape[-2:]
    hidden = q.new_full((T, T), -math.inf).triu(1)
    scores = torch.baddbmm(hidden, q.flatten(0, 1), k.flatten(0, 1).mT, alpha=head_dim**-0.5)  # (B * n_head, T, T)
    return F.dropout(scores.softmax(dim=-1).view(*q.shape[:2], T, T), dropout) @ v


class Attention(nn.Module):
    def __init__(self, config, layer):
        super().__init__()
        self.layer, self.n_head, self.head_dim, self.dropout = layer, config.n_head, config.head_dim, config.dropout
        self.qkv = nn.Linear(config.n_embd, 3 * config.n_embd, bias=False)  # rows: all of q, then k, then v
        self.proj = nn.Linear(config.n_embd, config.n_embd, bias=False)

    def forward(self, x, cos, sin, cache=None, mask=None):
        B, T, C = x.shape
        qkv = self.qkv(x).view(B, T, 3 * self.n_head, self.head_dim).transpose(1, 2)  # (B, 3 * n_head, T, head_dim)
        q, k, v = qkv.chunk(3, dim=1)  # each (B, n_head, T, head_dim)
        q, k = apply_rotary(q, cos, sin), apply_rotary(k, cos, sin)
        if cache is not None:
            k, v = cache.write(self.layer, k, v)
        dropout = self.dropout if self.training else 0.0
        if cache is None and q.device.type == "cpu" and q.dtype == torch.bfloat16 and T <= 256:
            y = plain_attention(q, k, v, dropout)
        else:
            y = F.scaled_dot_product_attention(q, k, v, mask, dropout, is_causal=mask is None and T > 1)
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
    def __init__(self, config, layer):
        super().__init__()
        self.norm1 = nn.RMSNorm(config.n_embd, eps=config.norm_eps)
        self.attention = Attention(config, layer)
        self.norm2 = nn.RMSNorm(config.n_embd, eps=config.norm_eps)
        self.mlp = MLP(config)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x, cos, sin, cache=None, mask=None):
        x = x + self.dropout(self.attention(self.norm1(x), cos, sin, cache, mask))
        return x + self.dropout(self.mlp(self.norm2(x)))


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
        self.wte = nn.Embedding(config.vocab_size, config.n_embd)  # read at the bottom, and again as the output weights
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = nn.ModuleList(Block(config, layer) for layer in range(config.n_layer))
        self.norm = nn.RMSNorm(config.n_embd, eps=config.norm_eps)
        cos, sin = rotary_tables(config.block_size, config.head_dim, config.rope_theta)
        self.register_buffer("cos", cos, persistent=False)  # follows from the config, so no checkpoint needs it
        self.register_buffer("sin", sin, persistent=False)
        self.init_weights()

    def init_weights(self):
        """Normal with deviation 0.02; the two projections into the residual stream smaller, by the root of their number.

        So the stream's variance does not grow with depth. Zero would go wrong here: the stream would be the embedding alone, and
        with tied weights the model would begin by predicting the very token it has just read.
        """
        for name, p in self.named_parameters():
            if name.endswith("proj.weight"):
                nn.init.normal_(p, std=0.02 / math.sqrt(2 * self.config.n_layer))
            elif p.dim() == 2:
                nn.init.normal_(p, std=0.02)
            else:
                nn.init.ones_(p)

    def forward(self, idx, targets=None, loss_mask=None):
        """Return (logits, loss) for ids idx (B, T), each position predicting the next id from itself and those before.

        Without targets: logits (B, T, vocab_size), and loss is None. With targets (B, T): logits is None (they are never held
        all at once, see OutputLoss), and loss is the float32 mean cross-entropy in nats over the positions where
        loss_mask (B, T) is true, all if it is None; 0 where it is true nowhere.
        """
        x = self.hidden(idx)  # (B, T, n_embd)
        if targets is None:
            return F.linear(x, self.wte.weight), None
        if loss_mask is None:
            x, targets = x.flatten(0, 1), targets.flatten()  # (B * T, n_embd) and (B * T,)
        else:
            counted = loss_mask.bool()
            x, targets = x[counted], targets[counted]  # the output layer is run for the counted positions only
            more = -len(x) % 64  # a CPU compiles its kernels for every number of rows: few numbers, and no growing memory
            x, targets = F.pad(x, (0, 0, 0, more)), F.pad(targets, (0, more), value=-1)
        return None, OutputLoss.apply(x, self.wte.weight, targets, torch.is_grad_enabled())

    def hidden(self, idx, cache=None):
        """What the output layer reads for ids idx (B, T): (B, T, n_embd).

        With a cache, the ids come after those that it holds and are appended to it; it must have room.
        """
        T, start = idx.size(1), 0 if cache is None else cache.length
        if start + T > (self.config.block_size if cache is None else cache.max_len):
            raise ValueError(f"{start + T} tokens do not fit into block_size {self.config.block_size}. Cut the input.")
        cos, sin = self.cos[start : start + T], self.sin[start : start + T]
        mask = None if cache is None else cache.mask(T)
        x = self.dropout(self.wte(idx))
        for block in self.blocks:
            x = block(x, cos, sin, cache, mask)
        if cache is not None:
            cache.length += T
        return self.norm(x)

    def step(self, idx, cache):
        """Append ids idx (B, T) to the cache; return the logits (B, vocab_size) that follow the last of them.

        A prompt is one call with many ids, each token generated after it is a call with one. The cache must have room.
        """
        return F.linear(self.hidden(idx, cache)[:, -1], self.wte.weight)

    def prefill(self, prompts, room):
        """Read prompts, lists of ids, into a new cache with room for that many more ids, as far as the block allows.

        Returns what the output layer reads for the last id of each, (B, n_embd), and the cache. Equal prompts are read once.
        """
        device, longest = self.wte.weight.device, max(map(len, prompts))
        row_of = {}  # prompt: its row among the different ones
        order = [row_of.setdefault(tuple(prompt), len(row_of)) for prompt in prompts]
        padding = [longest - len(prompt) for prompt in row_of]
        idx = torch.tensor([[0] * n + list(prompt) for n, prompt in zip(padding, row_of)], device=device)
        cache = KVCache(self.config, min(self.config.block_size, longest + room),
                        torch.tensor(padding, device=device) if any(padding) else None)
        x = self.hidden(idx, cache)[:, -1]
        if len(row_of) < len(order):
            cache.select(order)
            x = x[torch.tensor(order, device=device)]
        return x, cache

    def generate(self, idx, max_new_tokens, **options):
        """Continue ONE prompt, a list of ids; an iterator of ints. For everything else see generate_batch."""
        return (step[0] for step in self.generate_batch([idx], max_new_tokens, **options))

    def generate_batch(
        self, prompts, max_new_tokens, *,
        temperature=1.0, top_k=None, top_p=None, min_p=None, generator=None, uniform=None, stop_ids=(),
    ):  # fmt: skip
        """Continue prompts, a list of lists of ids that may differ in length; an iterator over steps.

        A step is a list with one new id per row, None for a row that has ended. A row ends BEFORE its stop id, which is never
        yielded, or after max_new_tokens, a number or a list with one for each row; the iteration ends when all rows have.
        For the other options see sample_next; uniform is (B, steps) here, as many steps as the longest row may take, so
        that what a row draws does not depend on the other rows.

        The model is in eval mode from the first step to the end of the iterator, then in its former mode again.

        A prompt longer than block_size keeps its last block_size tokens. A row that has filled the block goes on from its last
        block_size // 2 tokens, which are read in anew: one reading per half block, so the price per token stays level. What a row
        reads does not depend on the other rows. Equal prompts are read once, so n samples are generate_batch([idx] * n, ...).
        """
        prompts = [[int(i) for i in prompt] for prompt in prompts]
        if not prompts or not all(prompts):
            raise ValueError("A prompt has no tokens. Begin it with the tokenizer's bos_id.")
        for i in (i for prompt in prompts for i in prompt):
            if not 0 <= i < self.config.vocab_size:
                raise ValueError(f"Token {i} is outside the model's vocabulary of {self.config.vocab_size:,}.")
        limits = [max_new_tokens] * len(prompts) if isinstance(max_new_tokens, int) else list(max_new_tokens)
        assert len(limits) == len(prompts) and (uniform is None or uniform.size(1) >= max(limits))
        filters = dict(temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p)
        check_filters(**filters)
        return self._generate(prompts, limits, uniform, dict(filters, generator=generator), frozenset(stop_ids))

    def _generate(self, prompts, limits, uniform, options, stop_ids):
        block_size = self.config.block_size
        rows = [prompt[-block_size:] for prompt in prompts]  # what each row can see
        live = [b for b, limit in enumerate(limits) if limit > 0]  # rows that have not ended
        held = list(live)  # rows in the cache: those that have ended leave it when they are half of it
        cache, was_training = None, self.training
        self.eval()
        try:
            for t in range(max(limits)):
                with torch.inference_mode():  # closed before each yield, or the consumer would run in it
                    if cache is None:
                        held = list(live)
                        x, cache = self.prefill([rows[b] for b in held], max(limits[b] for b in held) - t)
                        logits = F.linear(x, self.wte.weight)
                    else:
                        logits = self.step(ids[:, None], cache)
                    ids = sample_next(logits, **options, uniform=None if uniform is None else uniform[held, t])  # (B,)
                    new = dict(zip(held, ids.tolist()))
                live = [b for b in live if new[b] not in stop_ids]
                if not live:
                    return
                for b in live:
                    rows[b].append(new[b])
                shown = set(live)
                yield [new[b] if b in shown else None for b in range(len(rows))]
                live = [b for b in live if limits[b] > t + 1]
                if not live:
                    return
                if cache.length == block_size:
                    half = max(1, block_size // 2)
                    rows = [row if len(row) <= block_size else row[-half:] for row in rows]
                    cache = None
                elif 2 * len(live) <= len(held):
                    kept = [held.index(b) for b in live]
                    held = list(live)
                    with torch.inference_mode():
                        cache.select(kept)
                        ids = ids[torch.tensor(kept, device=ids.device)]
        finally:
            self.train(was_training)

    def optimizer_groups(self, weight_decay):
        """Parameter groups for AdamW: matrices decay, the norms' scales do not."""
        matrices = [p for p in self.parameters() if p.dim() >= 2]
        scales = [p for p in self.parameters() if p.dim() < 2]
        return [{"params": matrices, "weight_decay": weight_decay}, {"params": scales, "weight_decay": 0.0}]

    def num_params(self):
        """Number of weights; the tied embedding counts once."""
        return sum(p.numel() for p in self.parameters())

    def flops_per_token(self):
        """Floating point operations per trained token, forward and backward (PaLM, arXiv:2204.02311, appendix B).

        Six per weight (the tied embedding multiplies once, as output), and 12 * n_layer * n_embd * block_size for attention,
        counted as if every position saw the whole block, as is the custom.
        """
        c = self.config
        return 6 * self.num_params() + 12 * c.n_layer * c.n_embd * c.block_size


def check_filters(temperature=1.0, top_k=None, top_p=None, min_p=None):
    """Raise ValueError for settings that sample_next cannot follow."""
    if not 0 <= temperature < math.inf:
        raise ValueError(f"temperature is {temperature}; set it to 0 (always the likeliest token) or above.")
    if top_k is not None and top_k < 1:
        raise ValueError(f"top_k is {top_k}; set it to at least 1, or leave it out to keep every token.")
    for name, p in (("top_p", top_p), ("min_p", min_p)):
        if p is not None and not 0 <= p <= 1:
            raise ValueError(f"{name} is {p}; set it between 0 and 1, or leave it out to keep every token.")


def sample_next(logits, temperature=1.0, top_k=None, top_p=None, min_p=None, generator=None, uniform=None):
    """Draw one id per row from logits (B, vocab_size); return ids (B,) on the same device.

    Temperature 0 takes the likeliest id. Otherwise logits are divided by the temperature, then
    top_k keeps the k likeliest ids (a k above the vocabulary keeps all),
    top_p keeps of these the fewest likeliest ids whose probabilities sum to at least p (arXiv:1904.09751),
    min_p drops ids less than p times as likely as the likeliest (arXiv:2407.01082).
    The likeliest id always survives. The draw is in float32 on the device of generator, on that of logits if it is None.
    uniform, numbers (B,) from 0 to below 1, decides the draws in place of a generator, in float64 and on its device.
    """
    check_filters(temperature, top_k, top_p, min_p)
    if temperature == 0:
        return logits.argmax(dim=-1)
    logits = logits.float()
    logits = (logits - logits.amax(dim=-1, keepdim=True)) / temperature  # the likeliest is at 0: no temperature overflows
    order = None
    if top_k is not None or top_p is not None or min_p is not None:
        logits, order = logits.topk(min(top_k or logits.size(-1), logits.size(-1)), dim=-1)  # likeliest first
    p = logits.softmax(dim=-1)
    if top_p is not None and top_p < 1:  # at 1 rounding must not cut the tail
        before = p.cumsum(dim=-1) - p  # what the likelier ids already sum to: exactly 0 for the first
        p = p.masked_fill((before >= top_p) & (before > 0), 0.0)
    if min_p is not None:
        p = p.masked_fill(p < min_p * p[:, :1], 0.0)
    if uniform is not None:
        total = p.to(uniform.device).double().cumsum(dim=-1)
        point = (1 - uniform[:, None].double()) * total[:, -1:]  # above 0, up to the sum: never where p is 0
        choice = torch.searchsorted(total, point).to(logits.device)  # (B, 1)
    else:
        if generator is not None and generator.device.type != p.device.type:
            p = p.to(generator.device)
        choice = torch.multinomial(p, 1, generator=generator).to(logits.device)  # (B, 1)
    return (choice if order is None else order.gather(-1, choice)).squeeze(-1)
