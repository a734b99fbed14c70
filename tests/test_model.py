"""What the network promises: causality, rotary positions, exact gradients."""

import math
from dataclasses import asdict
from unittest.mock import patch

import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from model import GPT, Block, GPTConfig, apply_rotary, plain_attention, rotary_tables
from tests.support.network import VOCAB, random_ids, rng, tiny
from tests.support.tiny import tiny_model

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


def test_where_all_projections_begin_at_zero_every_token_is_as_likely_and_the_blocks_add_nothing():
    model = GPT(GPTConfig(block_size=8, vocab_size=VOCAB, n_layer=2, n_head=4, n_embd=32, tied=False))
    model.init_weights(zero_projections=True)
    idx = random_ids(2, 9)
    assert_close(model(idx[:, :-1], idx[:, 1:])[1].item(), math.log(VOCAB))
    assert_close(model.hidden(idx[:, :8]), model.norm(model.wte(idx[:, :8])))
    assert abs(model.wte.weight.std().item() - 1) < 0.1


def test_an_output_layer_of_its_own_costs_weights_and_no_operations():
    tied, untied = tiny(), tiny(tied=False)
    assert untied.num_params() == tied.num_params() + tied.wte.weight.numel()
    assert untied.flops_per_token() == tied.flops_per_token()


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
        (dict(dropout=float("nan")), "dropout"),
        (dict(n_layer=True), "n_layer is True"),
        (dict(n_embd="256"), "n_embd is '256'; set it to a whole number"),
        (dict(n_head=4.0), "n_head is 4.0; set it to a whole number"),
        (dict(rope_theta="10"), "rope_theta is '10'; set it to a number"),
        (dict(norm_eps=float("inf")), "norm_eps"),
        (dict(block_size=2**18 + 1), "block_size 262,145 with heads of 64 makes rotary tables of more than 16,777,216"),
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


# ---- loss and gradients


@pytest.mark.parametrize("rows", [1, 128, 150])  # below, at, and above the slices of 512 positions of the loss
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


def test_computing_activations_again_changes_neither_loss_nor_gradients():
    model = tiny_model(dropout=0.2).train()
    idx = torch.randint(330, (2, 17))

    def gradients():
        torch.manual_seed(3)  # the dropout, which is drawn again, too
        model.zero_grad()
        _, loss = model(idx[:, :-1], idx[:, 1:])
        with patch.object(Block, "forward", autospec=True, side_effect=Block.forward) as forward:
            loss.backward()
        return forward.call_count, loss.detach(), [p.grad.clone() for p in model.parameters()]

    kept, loss, expected = gradients()
    model.activation_checkpointing = True
    again, other, found = gradients()
    assert kept == 0 and again == len(model.blocks) and torch.equal(loss, other)
    assert all(map(torch.equal, found, expected))


def test_a_tiny_model_memorises_one_batch():
    model, idx = tiny_model(block_size=16, vocab_size=VOCAB), random_ids(4, 17)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.0)
    for _ in range(150):
        _, loss = model(idx[:, :-1], idx[:, 1:])
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    assert loss.item() < 0.05

