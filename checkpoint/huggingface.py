"""
A folder as Hugging Face's transformers read it: LlamaForCausalLM, its weights, and a fast tokenizer.

    config.json, generation_config.json, model.safetensors, tokenizer.json, tokenizer_config.json
    tokenizer.model      ours, with which the folder is taken back: what is opened is what was exported

The tokenizer gives the ids of ours for REVERSED text: one pattern cuts it into units, each of which is encoded by
itself. It does so for every text without U+2581, which stands for a space, NUL and halves of surrogate pairs. No other
text can spell a control token: their names end in U+2581, and only the chat template writes them.
"""

import json
import math
from dataclasses import asdict

import safetensors
import safetensors.torch
import torch
from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers, processors
from tokenizers import Tokenizer as FastTokenizer

from checkpoint.exporting import CONFIG, WEIGHTS
from model import GPT, GPTConfig
from reverse import unit_pattern
from tokenizer import BOS_ID, EOS_ID, FIRST_BYTE_ID

FILES = dict.fromkeys(("float32", "float16", "bfloat16"), WEIGHTS)
PREFIX = ""
_TOKENIZER = "tokenizer.model"
_SPACE = "\u2581"


def write(folder, opened, dtype, use):
    """Write an OpenModel in numbers of this type; use is a Use."""
    c, tokenizer = opened.model.config, opened.tokenizer
    name = {i: tokenizer.name(i) for i in range(FIRST_BYTE_ID)}
    counters = {name: value for name, value in opened.counters.items() if math.isfinite(value)}  # JSON has no infinity
    own = {"direction": tokenizer.direction, "kind": opened.kind, "settings": opened.settings, "counters": counters}
    _write_json(folder / CONFIG, _config_json(c, dtype) | {"backgpt": own})
    _write_json(folder / "generation_config.json", {
        "bos_token_id": BOS_ID, "eos_token_id": list(use.stop_ids), "pad_token_id": EOS_ID, "do_sample": True,
        "temperature": use.temperature, "top_k": use.top_k, "top_p": 1.0, "max_length": c.block_size})
    _write_json(folder / "tokenizer_config.json", {
        "tokenizer_class": "PreTrainedTokenizerFast", "bos_token": name[BOS_ID], "eos_token": name[EOS_ID],
        "pad_token": name[EOS_ID], "model_max_length": c.block_size, "clean_up_tokenization_spaces": False,
        **({"chat_template": use.chat_template(tokenizer)} if use.middle else {})})
    (folder / "tokenizer.json").write_text(_fast_tokenizer(tokenizer).to_str(pretty=True), encoding="utf-8")
    (folder / _TOKENIZER).write_bytes(tokenizer.model)
    weights = {name: tensor.detach().to(getattr(torch, dtype)).contiguous() for name, tensor in _tensors(opened.model)}
    (folder / WEIGHTS).write_bytes(safetensors.torch.save(weights, {"format": "pt"}))


def read(folder, dtype, tokenizer):
    """(a GPT of what stands there, how its fast tokenizer cuts a text into ids)."""
    content = load(folder)
    model = GPT(GPTConfig(**content["config"])).eval()
    model.load_state_dict(content["model"], assign=True)
    fast = FastTokenizer.from_file(str(folder / "tokenizer.json"))
    return model, lambda text: fast.encode(text, add_special_tokens=False).ids


def load(folder):
    """The fields of a checkpoint (see file.py) that a folder holds; its weights become float32.

    Raises ValueError where a file is none of those that write() makes.
    """
    try:
        values = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        own = {name: values["backgpt"][name] for name in ("direction", "kind", "settings", "counters")}
        tokenizer, config = (folder / _TOKENIZER).read_bytes(), _config_of(values)
        found = {name: tensor.float() for name, tensor in safetensors.torch.load_file(folder / WEIGHTS).items()}
        weights = _joined(found, config)
    except (KeyError, TypeError, ValueError, OSError, safetensors.SafetensorError) as error:
        raise ValueError(f"{folder} is no whole folder that export_xcoax.py has written ({error}). Export the "
                         f"checkpoint again; if another program has saved it, copy {_TOKENIZER} into it.") from error
    return {"config": asdict(config), "tokenizer": tokenizer, "model": weights, **own}


def _write_json(path, values):
    path.write_text(json.dumps(values, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


# ---- the shape


def _config_json(c, dtype):
    return {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": c.vocab_size,
        "hidden_size": c.n_embd, "intermediate_size": c.hidden_dim, "num_hidden_layers": c.n_layer,
        "num_attention_heads": c.n_head, "num_key_value_heads": c.n_head, "head_dim": c.head_dim,
        "max_position_embeddings": c.block_size, "rms_norm_eps": c.norm_eps, "rope_theta": c.rope_theta,
        "tie_word_embeddings": c.tied, "hidden_act": "silu", "attention_bias": False, "mlp_bias": False,
        "bos_token_id": BOS_ID, "eos_token_id": EOS_ID, "torch_dtype": dtype,
    }  # fmt: skip


def _config_of(values):
    rope = values.get("rope_parameters") or values
    return GPTConfig(block_size=values["max_position_embeddings"], vocab_size=values["vocab_size"],
                     n_layer=values["num_hidden_layers"], n_head=values["num_attention_heads"],
                     n_embd=values["hidden_size"], rope_theta=rope["rope_theta"], norm_eps=values["rms_norm_eps"],
                     tied=values["tie_word_embeddings"])


# ---- weights


_PARTS = {  # of a block: our name, and theirs, one under the other in ours
    "attention.qkv": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "attention.proj": ("self_attn.o_proj",),
    "mlp.gate_up": ("mlp.gate_proj", "mlp.up_proj"), "mlp.proj": ("mlp.down_proj",),
    "norm1": ("input_layernorm",), "norm2": ("post_attention_layernorm",),
}  # fmt: skip


def _names(c):
    """{our name of a weight: their names of its parts}."""
    names = {"wte.weight": ("model.embed_tokens.weight",), "norm.weight": ("model.norm.weight",)}
    if not c.tied:
        names["head.weight"] = ("lm_head.weight",)
    for i in range(c.n_layer):
        for ours, theirs in _PARTS.items():
            names[f"blocks.{i}.{ours}.weight"] = tuple(f"model.layers.{i}.{part}.weight" for part in theirs)
    return names


def _tensors(model):
    """Pairs (name, float32 tensor) as transformers call them."""
    weights = model.state_dict()
    for ours, theirs in _names(model.config).items():
        yield from zip(theirs, weights[ours].chunk(len(theirs)))


def _joined(found, config):
    """Our weights of theirs. Raises KeyError for one that is missing."""
    if config.n_layer > len(found):
        raise ValueError(f"it has {len(found):,} weights, too few for {config.n_layer:,} layers")
    return {ours: torch.cat([found[name] for name in theirs]) for ours, theirs in _names(config).items()}


# ---- the tokenizer


def _fast_tokenizer(tokenizer):
    """A tokenizers.Tokenizer with the ids of ours, for reversed text."""
    names = [tokenizer.name(i) for i in range(tokenizer.vocab_size)]
    vocab = {name: i for i, name in enumerate(names)}
    merges = []
    for piece in names[FIRST_BYTE_ID + 256:]:  # in the order in which they were learned
        merges += [(piece[:i], piece[i:]) for i in range(1, len(piece)) if piece[:i] in vocab and piece[i:] in vocab]
    found = FastTokenizer(models.BPE(vocab=vocab, merges=merges, byte_fallback=True, fuse_unk=False))
    found.normalizer = normalizers.Replace(" ", _SPACE)
    unit = unit_pattern(tokenizer.direction == "reverse", _SPACE)
    found.pre_tokenizer = pre_tokenizers.Split(Regex(unit), "isolated")
    found.decoder = decoders.Sequence([decoders.Replace(_SPACE, " "), decoders.ByteFallback(), decoders.Fuse()])
    found.post_processor = processors.TemplateProcessing(
        single=f"{names[BOS_ID]} $A", special_tokens=[(names[BOS_ID], BOS_ID)])
    found.add_special_tokens([AddedToken(names[i], special=True, normalized=False) for i in range(FIRST_BYTE_ID)])
    return found
