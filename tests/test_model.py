"""What the model promises: causality, rotary positions, a cache that changes nothing, exact gradients."""

import math
import sys
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from model import GPT, GPTConfig, KVCache, apply_rotary, plain_attention, rotary_tables
from tiny import tiny_model

VOCAB = 61


def tiny(seed=0, **changes):
    return tiny_model(8, seed, **{"block_size": 16, "vocab_size": VOCAB, "n_head": 4, **changes})


def random_ids(*shape, seed=1):
    return torch.randint(VOCAB, shape, generator=torch.Generator().manual_seed(seed))


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def step(model, idx, cache):
    """The logits (B, VOCAB) that follow ids idx (B, T), which are read into the cache."""
    return F.linear(model.hidden(idx, cache)[:, -1], model.wte.weight)


# ---- the network


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_later_tokens_never_change_earlier_logits(dtype):
    model, idx = tiny(), random_ids(3, 16)
    other = idx.clone()
    other[:, 9:] = (other[:, 9:] + 1) % VOCAB
    with torch.autocast("cpu", dtype, enabled=dtype == torch.bfloat16):
        a, b = model(idx)[0], model(other)[0]
    assert_close(a[:, :9], b[:, :9])
    assert not torch.allclose(a[:, 9:], b[:, 9:])


def test_rotary_scores_depend_only_on_distance():
    q, k = torch.randn(2, 8, generator=rng())[:, None, None, None, :].expand(2, 1, 1, 16, 8)  # same vector at all T
    cos, sin = rotary_tables(T=16, head_dim=8)
    scores = (apply_rotary(q, cos, sin) @ apply_rotary(k, cos, sin).mT)[0, 0]  # (T, T)
    assert_close(scores[1:, 1:], scores[:-1, :-1])
    assert not torch.allclose(scores[5, 4], scores[5, 0])  # and distance matters


def test_rotary_keeps_lengths_and_leaves_position_zero_alone():
    x = torch.randn(2, 3, 16, 8, generator=rng())
    y = apply_rotary(x, *rotary_tables(T=16, head_dim=8))
    assert_close(y.norm(dim=-1), x.norm(dim=-1))
    assert_close(y[:, :, 0], x[:, :, 0])


def test_the_order_of_the_prefix_changes_the_last_logits():
    model, idx = tiny(n_layer=1), random_ids(1, 16)  # with one layer, nothing but the positions can tell
    swapped = idx.clone()
    swapped[:, :15] = idx[:, :15].flip(1)
    assert (model(idx)[0][:, -1] - model(swapped)[0][:, -1]).abs().max() > 1e-2


def test_attention_written_out_equals_the_fused_kernel():
    q, k, v = torch.randn(3, 2, 4, 16, 8, generator=rng())
    assert_close(plain_attention(q, k, v), F.scaled_dot_product_attention(q, k, v, is_causal=True))


def test_bfloat16_autocast_stays_close_to_float32():
    model, idx, targets = tiny(), random_ids(4, 16), random_ids(4, 16, seed=2)
    _, exact = model(idx, targets)
    with torch.autocast("cpu", torch.bfloat16):
        logits, _ = model(idx)
        _, loss = model(idx, targets)
    loss.backward()
    assert logits.dtype == torch.bfloat16 and loss.dtype == torch.float32
    assert_close(loss, exact, rtol=0.02, atol=0)
    assert all(p.grad.dtype == torch.float32 and p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("autocast", [False, True])
def test_dropout_is_active_only_in_training(autocast):
    model, idx = tiny(dropout=0.3).train(), random_ids(1, 16)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        assert not torch.equal(model(idx)[0], model(idx)[0])
        model.eval()
        assert torch.equal(model(idx)[0], model(idx)[0])


def test_attention_itself_drops_out():
    q, k, v = torch.randn(3, 2, 4, 16, 8, generator=rng())
    assert not torch.equal(plain_attention(q, k, v, 0.3), plain_attention(q, k, v, 0.3))
    attention = tiny(dropout=0.3).blocks[0].attention.train()
    x, tables = torch.randn(2, 16, 32, generator=rng()), rotary_tables(16, 8)
    assert not torch.equal(attention(x, *tables), attention(x, *tables))
    attention.eval()
    assert torch.equal(attention(x, *tables), attention(x, *tables))


# ---- beginnings and shapes


def test_the_first_loss_is_that_of_a_uniform_guess():
    for n_embd, n_head in ((64, 4), (1024, 16)):
        torch.manual_seed(0)
        model = GPT(GPTConfig(block_size=64, vocab_size=2000, n_layer=2, n_head=n_head, n_embd=n_embd))
        idx = torch.randint(2000, (4, 65))
        assert abs(model(idx[:, :-1], idx[:, 1:])[1].item() - math.log(2000)) < 0.4


def test_output_projections_begin_smaller_the_deeper_the_model():
    torch.manual_seed(0)
    for n_layer in (1, 8):
        model = GPT(GPTConfig(block_size=8, vocab_size=VOCAB, n_layer=n_layer, n_head=4, n_embd=128))
        for block in model.blocks:
            for projection in (block.attention.proj, block.mlp.proj):
                assert_close(projection.weight.std().item(), 0.02 / math.sqrt(2 * n_layer), rtol=0.05, atol=0)
            assert_close(block.attention.qkv.weight.std().item(), 0.02, rtol=0.05, atol=0)


def test_the_standard_shape_has_163_million_parameters():
    with torch.device("meta"):
        model = GPT(GPTConfig())
    assert abs(model.num_params() - 163e6) < 1e6
    assert model.num_params() == sum(p.numel() for p in model.state_dict().values())  # tied, and no buffers saved


def test_the_hidden_width_is_rounded_up_to_256():
    assert [GPTConfig(n_embd=n, n_head=1).hidden_dim for n in (96, 98, 288, 1024)] == [256, 512, 768, 2816]


@pytest.mark.parametrize(
    "changes, word",
    [
        (dict(n_embd=100, n_head=16), "n_head"),
        (dict(n_embd=48, n_head=16), "2 \\* n_head"),
        (dict(n_layer=0), "n_layer"),
        (dict(block_size=-1), "block_size"),
        (dict(vocab_size=0), "vocab_size"),
        (dict(dropout=1.0), "dropout"),
        (dict(dropout=-0.1), "dropout"),
    ],
)
def test_contradictory_configs_are_refused(changes, word):
    with pytest.raises(ValueError, match=word):
        GPTConfig(**changes)


def test_a_config_survives_the_way_through_plain_values():
    config = GPTConfig(n_layer=3, n_embd=96, n_head=4)
    assert GPTConfig(**asdict(config)) == config


def test_input_longer_than_the_block_is_refused():
    with pytest.raises(ValueError, match="block_size"):
        tiny()(random_ids(1, 17))


def test_matrices_decay_and_scales_do_not():
    model = tiny()
    decayed, kept = model.optimizer_groups(0.1)
    assert decayed["weight_decay"] == 0.1 and kept["weight_decay"] == 0.0
    assert {p.dim() for p in decayed["params"]} == {2} and {p.dim() for p in kept["params"]} == {1}
    assert len(decayed["params"]) + len(kept["params"]) == len(list(model.parameters()))


# ---- loss and gradients


@pytest.mark.parametrize("rows", [1, 128, 150])  # below, at, and above the slices of 512 rows in which the loss is taken
def test_loss_and_gradients_equal_those_of_plain_cross_entropy(rows):
    model, idx, targets = tiny(), random_ids(rows, 4), random_ids(rows, 4, seed=2)
    plain = F.cross_entropy(model(idx)[0].flatten(0, 1), targets.flatten())
    expected = torch.autograd.grad(3 * plain, list(model.parameters()))
    _, loss = model(idx, targets)
    assert_close(loss, plain)
    assert_close(torch.autograd.grad(3 * loss, list(model.parameters())), expected, rtol=1e-4, atol=1e-5)
    with torch.no_grad():
        assert_close(model(idx, targets)[1], plain)


def test_loss_mask_counts_only_the_masked_positions():
    model, idx, targets = tiny(), random_ids(4, 16), random_ids(4, 16, seed=2)
    mask = torch.rand(4, 16, generator=rng()) < 0.3
    log_p = model(idx)[0].log_softmax(dim=-1)
    by_hand = [-log_p[b, t, targets[b, t]] for b in range(4) for t in range(16) if mask[b, t]]
    assert 0 < len(by_hand) < 64
    assert_close(model(idx, targets, mask)[1], torch.stack(by_hand).mean())
    assert_close(model(idx, targets, mask.long())[1], model(idx, targets, mask)[1])  # 0 and 1 do as well
    assert_close(model(idx, targets, torch.ones_like(mask))[1], model(idx, targets)[1])


def test_a_batch_in_which_nothing_counts_has_loss_and_gradients_of_zero():
    model, idx = tiny(), random_ids(2, 16)
    _, loss = model(idx, idx, torch.zeros(2, 16, dtype=torch.bool))
    loss.backward()
    assert loss.item() == 0 and all((p.grad == 0).all() for p in model.parameters())


def test_micro_batches_equal_one_large_batch():
    model, idx, targets = tiny(), random_ids(8, 16), random_ids(8, 16, seed=2)
    model(idx, targets)[1].backward()
    whole = [p.grad.clone() for p in model.parameters()]
    model.zero_grad()
    for x, y in zip(idx.split(2), targets.split(2)):
        (model(x, y)[1] / 4).backward()
    assert_close([p.grad for p in model.parameters()], whole, rtol=1e-4, atol=1e-5)


def test_a_tiny_model_memorises_one_batch():
    model, idx = tiny_model(block_size=16, vocab_size=VOCAB), random_ids(4, 17)
    optimizer = torch.optim.AdamW(model.optimizer_groups(0.0), lr=1e-2)
    for _ in range(150):
        _, loss = model(idx[:, :-1], idx[:, 1:])
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    assert loss.item() < 0.05


# ---- cache and generation


def generate_slowly(model, prompt, n):
    """Greedy generation without a cache, by the same rule: a full block goes on from its last half."""
    size = model.config.block_size
    row, new = prompt[-size:], []
    for _ in range(n):
        new.append(model(torch.tensor([row]))[0][0, -1].argmax().item())
        row = row + new[-1:]
        if len(row) > size:
            row = row[-(size // 2) :]
    return new


def greedy(model, prompts, n, **options):
    """All ids of each row of a greedy batch."""
    return columns(model.generate_batch(prompts, n, temperature=0, **options), len(prompts))


def columns(steps, n):
    """The ids of each of n rows."""
    rows = [[] for _ in range(n)]
    for step in steps:
        for row, i in zip(rows, step):
            row += [] if i is None else [i]
    return rows


def test_cached_logits_equal_uncached_logits_at_every_step():
    model, idx = tiny(), random_ids(3, 16)
    with torch.no_grad():
        whole = model(idx)[0]  # (3, 16, VOCAB)
        cache = KVCache(model.config, 16)
        assert_close(step(model, idx[:, :5], cache), whole[:, 4], rtol=1e-4, atol=1e-4)
        for t in range(5, 12):
            assert_close(step(model, idx[:, t : t + 1], cache), whole[:, t], rtol=1e-4, atol=1e-4)
        assert_close(step(model, idx[:, 12:], cache), whole[:, 15], rtol=1e-4, atol=1e-4)  # several at once, in mid-text


def test_rows_of_different_lengths_share_a_cache():
    model, idx = tiny(), random_ids(3, 16)
    lengths = [10, 4, 1]
    with torch.no_grad():
        x, cache = model.prefill([row[:n].tolist() for row, n in zip(idx, lengths)], 16)
        logits = F.linear(x, model.wte.weight)
        for T in (0, 1, 2, 3):
            lengths = [n + T for n in lengths]
            if T:
                logits = step(model, torch.stack([row[n - T : n] for row, n in zip(idx, lengths)]), cache)
            assert cache.lengths == lengths
            for b, n in enumerate(lengths):
                assert_close(logits[b], model(idx[b : b + 1, :n])[0][0, -1], rtol=1e-4, atol=1e-4)


def test_a_row_of_a_cache_given_to_another_text_leaves_no_trace_of_the_old_one():
    model, idx = tiny(), random_ids(4, 16)
    with torch.no_grad():
        _, cache = model.prefill([row[:n].tolist() for row, n in zip(idx, (12, 3, 7))], 16)
        _, others = model.prefill([idx[3, :2].tolist(), idx[1, :5].tolist()], 16)
        cache.replace([0, 2], others)
        logits = step(model, torch.stack([idx[3, 2], idx[1, 3], idx[1, 5]])[:, None], cache)
        for row, end in zip(logits, (idx[3, :3], idx[1, :4], idx[1, :6])):
            assert_close(row, model(end[None])[0][0, -1], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("length", [1, 5, 15, 16, 40])
def test_cached_generation_equals_uncached_also_past_the_block(length):
    model, prompt = tiny(), random_ids(length).tolist()
    assert list(model.generate(prompt, 50, temperature=0)) == generate_slowly(model, prompt, 50)


@pytest.mark.parametrize("n", [8, 50])
def test_a_ragged_batch_equals_one_prompt_at_a_time(n):
    model = tiny()
    prompts = [random_ids(length, seed=length).tolist() for length in (3, 1, 16, 9, 30)]
    together = greedy(model, prompts, n)
    assert together == [generate_slowly(model, prompt, n) for prompt in prompts]
    assert len(set(map(tuple, together))) == len(prompts)  # the prompts matter


def test_equal_prompts_in_one_batch_equal_a_single_one():
    model, prompt = tiny(), random_ids(5).tolist()
    assert greedy(model, [prompt] * 3, 30) == [generate_slowly(model, prompt, 30)] * 3


def test_even_a_block_of_one_token_generates():
    model = tiny(block_size=1)
    assert len(list(model.generate([1, 2], 5))) == 5


def test_a_stop_id_ends_its_row_and_is_never_yielded():
    model = tiny()
    prompts = [random_ids(length, seed=length).tolist() for length in (3, 5, 9)]
    free = greedy(model, prompts, 20)
    stop = free[0][4]
    expected = [row[: row.index(stop)] if stop in row else row for row in free]
    assert len(expected[0]) < 20 and any(len(row) > len(expected[0]) for row in expected)  # one ends before another
    assert greedy(model, prompts, 20, stop_ids=[stop]) == expected
    assert list(model.generate(prompts[0], 20, temperature=0, stop_ids=(stop,))) == expected[0]
    assert list(model.generate(prompts[0], 20, stop_ids=range(VOCAB))) == []


def test_rows_that_end_leave_the_batch_without_disturbing_the_rest():
    model, prompts = tiny(), [random_ids(length, seed=length).tolist() for length in (3, 1, 16, 9, 30, 3)]
    prompts[5] = prompts[0]  # equal prompts far apart
    limits = [40, 1, 7, 0, 21, 3]
    assert greedy(model, prompts, limits) == [generate_slowly(model, prompt, n) for prompt, n in zip(prompts, limits)]


@pytest.mark.parametrize("batch_size", [1, 2, 4, 5, 20])
def test_texts_that_wait_for_a_free_row_become_what_they_would_have_become_alone(batch_size):
    model = tiny()
    prompts = [random_ids(length, seed=length).tolist() for length in (3, 1, 16, 9, 30, 3, 2, 12, 16, 5, 7)]
    limits = [40, 1, 7, 0, 21, 3, 30, 2, 2, 15, 9]  # some fill the block of 16 and are read in anew
    steps = list(model.generate_batch(prompts, limits, temperature=0, batch_size=batch_size))
    assert columns(steps, 11) == [generate_slowly(model, prompt, n) for prompt, n in zip(prompts, limits)]
    assert max(sum(i is not None for i in step) for step in steps) <= batch_size


def test_what_a_row_draws_from_its_own_numbers_does_not_depend_on_the_other_rows():
    model, prompts = tiny(), [random_ids(length, seed=length).tolist() for length in (3, 5, 9, 9)]
    uniform = torch.rand(4, 20, generator=rng(), dtype=torch.float64)
    draw = lambda rows, batch_size=None: columns(model.generate_batch(
        [prompts[b] for b in rows], 20, top_k=20, uniform=uniform[rows], stop_ids=[3, 4, 5], batch_size=batch_size), len(rows))
    together = draw([0, 1, 2, 3])
    assert draw([0, 1, 2, 3], batch_size=2) == together
    assert [draw([b])[0] for b in range(4)] == together == draw([3, 1, 0, 2])[2:3] + [draw([1, 0])[0], *draw([2, 3])]


def test_a_text_that_has_used_up_its_numbers_leaves_a_free_row_that_draws_none():
    limits, uniform = [4, 1, 1, 1, 4, 4, 4], torch.rand(7, 4, generator=rng(), dtype=torch.float64)
    steps = tiny().generate_batch([[1, i] for i in range(7)], limits, uniform=uniform, batch_size=4)
    assert [len(row) for row in columns(steps, 7)] == limits  # the first ends while the last three go on


def test_the_same_seed_gives_the_same_ids():
    model = tiny()
    draw = lambda seed: list(model.generate_batch([[1, 2], [3]], 12, generator=rng(seed)))
    assert draw(0) == draw(0) != draw(1)


def test_samples_of_one_prompt_differ():
    steps = list(tiny().generate_batch([[1, 2]] * 4, 10, temperature=2.0, generator=rng()))
    assert len(set(zip(*steps))) > 1


def test_generation_restores_the_mode_and_does_not_disturb_training():
    model, idx = tiny(dropout=0.1), random_ids(2, 16)
    model.train()
    for i, _ in enumerate(model.generate([1, 2, 3], 30)):
        assert not torch.is_inference_mode_enabled() and torch.is_grad_enabled()
        assert not model.training
        if i == 20:
            break  # an abandoned iterator must tidy up too
    assert model.training
    _, loss = model(idx, idx)
    loss.backward()
    assert not any(t.is_inference() for t in (*model.parameters(), *model.buffers()))
    model.eval()
    list(model.generate([1], 2))
    assert not model.training


def test_training_and_generation_may_share_one_autocast_block():
    model, idx = tiny(), random_ids(2, 16)
    with torch.autocast("cpu", torch.bfloat16):
        list(model.generate([1, 2, 3], 3))
        model(idx, idx)[1].backward()
    assert all(p.grad is not None for p in model.parameters())


@pytest.mark.parametrize("prompts", [[], [[]], [[1], []], [[VOCAB]], [[-1]]])
def test_prompts_the_model_cannot_read_are_refused_at_once(prompts):
    with pytest.raises(ValueError):
        tiny().generate_batch(prompts, 1)
