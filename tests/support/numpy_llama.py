"""Llama in numpy, written from the description of the files of llama2.c and GGUF: no code is shared with model.py.

    weights: {"embed", "norm", "head", and a list of each of "norm1" "q" "k" "v" "o" "norm2" "gate" "up" "down"}
"""

import struct

import numpy as np


def logits(weights, ids, n_head, theta=10_000.0, eps=1e-5):
    """(T, vocab_size) for a list of T ids: one token after another, with the cache of keys and values as a list."""
    head_dim = weights["embed"].shape[1] // n_head
    cached = [([], []) for _ in weights["q"]]
    return np.stack([_step(weights, i, at, cached, n_head, head_dim, theta, eps) for at, i in enumerate(ids)])


def _step(weights, i, at, cached, n_head, head_dim, theta, eps):
    x = weights["embed"][i]
    for layer, (keys, values) in enumerate(cached):
        y = _normed(x, weights["norm1"][layer], eps)
        q, k = (_turned((weights[name][layer] @ y).reshape(n_head, head_dim), at, theta) for name in "qk")
        keys.append(k)
        values.append((weights["v"][layer] @ y).reshape(n_head, head_dim))
        found = np.empty((n_head, head_dim))
        for h in range(n_head):
            scores = np.array([q[h] @ k[h] for k in keys]) / np.sqrt(head_dim)
            p = np.exp(scores - scores.max())
            found[h] = sum(w * v[h] for w, v in zip(p / p.sum(), values))
        x = x + weights["o"][layer] @ found.reshape(-1)
        y = _normed(x, weights["norm2"][layer], eps)
        gate = weights["gate"][layer] @ y
        x = x + weights["down"][layer] @ (gate / (1 + np.exp(-gate)) * (weights["up"][layer] @ y))
    return weights["head"] @ _normed(x, weights["norm"], eps)


def _normed(x, scale, eps):
    return x / np.sqrt(np.mean(x * x) + eps) * scale


def _turned(x, at, theta):
    """Turn features 2j and 2j + 1 of each head by at * theta ** (-2j / head_dim)."""
    turned = x.copy()
    for j in range(0, x.shape[1], 2):
        angle = at * theta ** (-j / x.shape[1])
        turned[:, j] = x[:, j] * np.cos(angle) - x[:, j + 1] * np.sin(angle)
        turned[:, j + 1] = x[:, j] * np.sin(angle) + x[:, j + 1] * np.cos(angle)
    return turned


def read_llama2c(path):
    """(weights, n_head, tied) of model.bin, or of model_q80.bin, whose numbers become float32."""
    data = path.read_bytes()
    int8 = data[:4] == b"24ka"
    if int8:
        version, dim, hidden, n_layer, n_head, n_kv, vocab, block, tied, group = struct.unpack_from("<8iBi", data, 4)
        assert version == 2
        at = 256
    else:
        dim, hidden, n_layer, n_head, n_kv, vocab, block = struct.unpack_from("<7i", data)
        tied, vocab, at = vocab > 0, abs(vocab), 28
    assert n_kv == n_head

    def numbers(dtype, *shape):
        nonlocal at
        found = np.frombuffer(data, dtype, int(np.prod(shape)), at).reshape(shape)
        at += found.nbytes
        return found.astype(np.float64)

    def matrix(*shape):
        if not int8:
            return numbers("<f4", *shape)
        whole = numbers("i1", int(np.prod(shape)) // group, group)
        return (whole * numbers("<f4", len(whole), 1)).reshape(shape)

    def layers(*shape):
        return [matrix(*shape) for _ in range(n_layer)]

    found = {}
    if int8:
        found["norm1"], found["norm2"], found["norm"] = (
            numbers("<f4", n_layer, dim), numbers("<f4", n_layer, dim), numbers("<f4", dim))
        found["embed"] = matrix(vocab, dim)
    else:
        found["embed"], found["norm1"] = matrix(vocab, dim), numbers("<f4", n_layer, dim)
    found |= {name: layers(dim, dim) for name in "qkvo"}
    if not int8:
        found["norm2"] = numbers("<f4", n_layer, dim)
    found["gate"], found["down"], found["up"] = layers(hidden, dim), layers(dim, hidden), layers(hidden, dim)
    if not int8:
        found["norm"] = numbers("<f4", dim)
        at += 4 * block * (dim // n_head)
    found["head"] = found["embed"] if tied else matrix(vocab, dim)
    assert at == len(data)  # nothing is left
    return found, n_head, tied
