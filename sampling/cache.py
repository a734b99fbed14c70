"""
What a model has read: keys and values of many texts, each in a row of its own.
"""

import torch


class KVCache:
    """Keys and values of the tokens read so far, for every layer: two tensors (n_layer, rows, n_head, max_len,
    head_dim), of one shape from beginning to end.

    Row b holds lengths[b] of them, from position 0 on. What stands behind them is never seen, so rows of different
    lengths make a batch, and a row may be given to another text at any time.
    """

    def __init__(self, config, rows, max_len, device="cpu", dtype=torch.float32):
        shape = (config.n_layer, rows, config.n_head, max_len, config.head_dim)
        # Zeros, not empty: hidden positions weigh nothing, but nothing times NaN would be NaN.
        self.k, self.v = torch.zeros(2, *shape, device=device, dtype=dtype).unbind(0)
        self.lengths, self.max_len, self.device = [0] * rows, max_len, torch.device(device)
        self.begin(0)

    def begin(self, T):
        """Make ready for reading T more tokens in each row: where they stand, and what they may see."""
        longest = max(self.lengths)
        if longest + T > self.max_len:
            raise ValueError(f"{longest + T} tokens do not fit into {self.max_len} positions. Cut the input.")
        self.level = min(self.lengths) == longest  # rows of one length need neither indices nor masks
        self.end = longest + T
        if self.level:
            self.positions = torch.arange(longest, self.end, device=self.device)  # (T,)
        else:
            starts = torch.tensor(self.lengths, device=self.device)[:, None]
            self.positions = starts + torch.arange(T, device=self.device)  # (rows, T)
        self.causal, self.mask = T > 1 and longest == 0, None
        if not self.level or T > 1 and longest:
            seen = torch.arange(self.end, device=self.device) <= self.positions[..., None]
            self.mask = seen if self.level else seen[:, None]  # (T, end) or (rows, 1, T, end)
        self.lengths = [n + T for n in self.lengths]

    def write(self, layer, k, v):
        """Put k and v, each (rows, n_head, T, head_dim), where begin() has said; return the keys and values of one
        layer up to there."""
        if self.level:
            start = self.end - k.size(2)
            self.k[layer, :, :, start : self.end], self.v[layer, :, :, start : self.end] = k, v
        else:
            rows = torch.arange(len(self.lengths), device=self.device)[:, None]
            self.k[layer][rows, :, self.positions] = k.transpose(1, 2).to(self.k.dtype)  # (rows, T, n_head, head_dim)
            self.v[layer][rows, :, self.positions] = v.transpose(1, 2).to(self.v.dtype)
        return self.k[layer, :, :, : self.end], self.v[layer, :, :, : self.end]

    def select(self, rows):
        """Keep the rows that a list names, in its order; a row may be named more than once, or not at all."""
        self.lengths = [self.lengths[b] for b in rows]
        rows = torch.tensor(rows, device=self.device)
        self.k, self.v = self.k.index_select(1, rows), self.v.index_select(1, rows)

    def replace(self, rows, other):
        """Give the rows that a list names to the texts of another cache, in its order."""
        n = max(other.lengths)
        self.k[:, rows, :, :n], self.v[:, rows, :, :n] = other.k[..., :n, :], other.v[..., :n, :]
        for b, length in zip(rows, other.lengths):
            self.lengths[b] = length
