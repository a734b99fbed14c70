"""
What every format of an export needs: the names by which it is known, and whether what was written is what was to be.
"""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from tqdm import tqdm

CONFIG, WEIGHTS = "config.json", "model.safetensors"  # of a folder for transformers, which is a checkpoint, too

# The most by which logits may differ from the checkpoint's, as a share of their standard deviation. Measured: 0, 0.003,
# 0.02 and up to 0.1; where two matrices are mistaken for one another it is 1 and more.
LARGEST_DIFFERENCE = {"float32": 1e-4, "float16": 0.01, "bfloat16": 0.1, "int8": 0.2}
_PRICED = 20  # texts of which the price in bits is computed


class Compared(NamedTuple):
    """An export beside the checkpoint."""

    largest: float         # difference of logits
    share: float           # of their standard deviation
    differ: int            # texts that the other program cuts otherwise
    bits_per_byte: float   # that its ids cost more, for the same text


@torch.inference_mode()
def compare(opened, model, cut, dtype, texts, prefix="", exact=False):
    """Compared, of a model that was read back and how its program cuts reversed text into ids.

    prefix is what that program puts in front of a text. Raises ValueError where logits differ by more than dtype
    explains, or, if exact, where ids do.
    """
    tokenizer, ours = opened.tokenizer, opened.model.float()
    ids = [tokenizer.bos_id, *(i for text in texts[-50:] for i in tokenizer.encode_text(text))]
    idx = torch.tensor([ids[:min(256, ours.config.block_size)]], device=opened.device)
    expected, found = ours(idx)[0], model.to(opened.device)(idx)[0]
    if found.shape != expected.shape:
        raise ValueError(f"The export is not the checkpoint: it has {found.size(-1):,} ids of {expected.size(-1):,}.")
    largest = (found - expected).abs().max().item()
    share = largest / expected.std().item()
    if not share <= LARGEST_DIFFERENCE[dtype]:  # NaN is no difference
        raise ValueError(f"The export is not the checkpoint: its logits differ by {largest:.3g}, which is {share:.2g} "
                         f"of their standard deviation; {dtype} explains {LARGEST_DIFFERENCE[dtype]}.")
    before = tokenizer.encode(prefix)
    pairs = [(text, cut(tokenizer.decode(right)), right) for text, right in zip(
        texts, map(tokenizer.encode_text, tqdm(texts, "ids", leave=False, disable=None)))]
    different = [pair for pair in pairs if pair[1] != [*before, *pair[2]]]
    if exact and different:
        text, theirs, right = different[0]
        raise ValueError(f"The export is not the checkpoint: of {len(texts):,} texts its tokenizer cuts "
                         f"{len(different):,} otherwise, the first of them {text[:60]!r}.")
    nats = bytes_read = 0
    for text, theirs, right in (pairs if before else different)[:_PRICED]:
        nats += _nats(ours, tokenizer, theirs, len(before)) - _nats(ours, tokenizer, right, 0)
        bytes_read += len(text.encode())
    share_read = 1 if before else len(different) / len(pairs)  # texts that are cut the same way cost nothing
    return Compared(largest, share, len(different), nats / math.log(2) / bytes_read * share_read if nats else 0.0)


def _nats(model, tokenizer, ids, given):
    """-log P of ids at the beginning of a text, without the first `given`, in nats; as many as the block holds."""
    idx = torch.tensor([[tokenizer.bos_id, *ids]], device=model.wte.weight.device)[:, :model.config.block_size + 1]
    logits = model(idx[:, :-1])[0][0, given:]
    return F.cross_entropy(logits, idx[0, given + 1:], reduction="sum").item()
