"""
GGUF, the file of llama.cpp and Ollama: a model of the architecture "llama" with its tokenizer.

    model-float32.gguf, model-float16.gguf, model-int8.gguf (q8_0), and a Modelfile for Ollama

llama.cpp turns neighbouring features, so the rows of queries and keys are put in another order. Its tokenizer knows no
units: see joining.py. The direction stands under a key of this project, which other programs pass over. The names of
control tokens end in U+2581, so that no text spells them, even where a program reads such names in a prompt.
"""

import gguf
import numpy as np
import torch
from gguf import GGMLQuantizationType, LlamaFileType, TokenType

from checkpoint.joining import join
from model import GPT, GPTConfig, pairs_apart, pairs_side_by_side
from tokenizer import BOS_ID, EOS_ID, FIRST_BYTE_ID, UNK_ID

FILES = {"float32": "model-float32.gguf", "float16": "model-float16.gguf", "int8": "model-int8.gguf"}
PREFIX = ""  # nothing stands in front of a prompt
_NUMBERS = {"float32": (GGMLQuantizationType.F32, LlamaFileType.ALL_F32),
            "float16": (GGMLQuantizationType.F16, LlamaFileType.MOSTLY_F16),
            "int8": (GGMLQuantizationType.Q8_0, LlamaFileType.MOSTLY_Q8_0)}
_GROUP = 32  # weights that share a scale in q8_0: a row that does not divide into so many stays float32


def write(folder, opened, dtype, use):
    """Write an OpenModel to FILES[dtype], and the Modelfile; use, a Use, goes into both."""
    numbers, file_type = _NUMBERS[dtype]
    file = gguf.GGUFWriter(folder / FILES[dtype], "llama")
    file.add_file_type(file_type)
    _add_shape(file, opened.model.config)
    file.add_string("backgpt.direction", opened.tokenizer.direction)
    file.add_string("backgpt.kind", opened.kind)
    _add_tokenizer(file, opened.tokenizer, use)
    with torch.no_grad():
        for name, tensor in _tensors(opened.model):
            kind = numbers if tensor.dim() == 2 and tensor.size(1) % _GROUP == 0 else GGMLQuantizationType.F32
            data = gguf.quants.quantize(tensor.float().cpu().contiguous().numpy(), kind)
            file.add_tensor(name, data, raw_dtype=kind)
    try:
        file.write_header_to_file()
        file.write_kv_data_to_file()
        file.write_tensors_to_file()
    finally:
        file.close()
    (folder / "Modelfile").write_text(_modelfile(opened, FILES[dtype], use), encoding="utf-8")


def read(folder, dtype, tokenizer):
    """(a GPT of what stands there, how llama.cpp cuts a text into ids)."""
    file = gguf.GGUFReader(folder / FILES[dtype])
    value = {name: field.contents() for name, field in file.fields.items()}
    found = {tensor.name: torch.from_numpy(np.array(gguf.quants.dequantize(tensor.data, tensor.tensor_type)))
             for tensor in file.tensors}
    c = GPTConfig(block_size=value["llama.context_length"], vocab_size=value["llama.vocab_size"],
                  n_layer=value["llama.block_count"], n_head=value["llama.attention.head_count"],
                  n_embd=value["llama.embedding_length"], tied="output.weight" not in found,
                  rope_theta=value["llama.rope.freq_base"],
                  norm_eps=value["llama.attention.layer_norm_rms_epsilon"])  # fmt: skip
    model = GPT(c).eval()
    with torch.no_grad():
        for name, tensor in _tensors(model):  # parts of ours, but for queries and keys, which are copies
            if not name.endswith(("attn_q.weight", "attn_k.weight")):
                tensor.copy_(found[name])
        for i, block in enumerate(model.blocks):
            q, k = (pairs_apart(found[f"blk.{i}.attn_{name}.weight"], c.n_head) for name in "qk")
            block.attention.qkv.weight[:2 * c.n_embd] = torch.cat([q, k])
    pieces, scores = value["tokenizer.ggml.tokens"], value["tokenizer.ggml.scores"]
    ids = {piece.replace("\u2581", " "): i for i, piece in enumerate(pieces) if i >= FIRST_BYTE_ID + 256}
    return model, lambda text: join(text, ids, scores, FIRST_BYTE_ID)


def _add_shape(file, c):
    file.add_vocab_size(c.vocab_size)
    file.add_context_length(c.block_size)
    file.add_embedding_length(c.n_embd)
    file.add_block_count(c.n_layer)
    file.add_feed_forward_length(c.hidden_dim)
    file.add_head_count(c.n_head)
    file.add_head_count_kv(c.n_head)
    file.add_rope_dimension_count(c.head_dim)
    file.add_rope_freq_base(c.rope_theta)
    file.add_layer_norm_rms_eps(c.norm_eps)


def _add_tokenizer(file, tokenizer, use):
    every = range(tokenizer.vocab_size)
    file.add_tokenizer_model("llama")
    file.add_tokenizer_pre("default")
    file.add_token_list([tokenizer.name(i) for i in every])
    file.add_token_scores([tokenizer.score(i) for i in every])
    file.add_token_types([_type(i) for i in every])
    file.add_bos_token_id(BOS_ID)
    file.add_eos_token_id(EOS_ID)
    file.add_unk_token_id(UNK_ID)
    file.add_add_bos_token(True)
    file.add_add_eos_token(False)
    file.add_add_space_prefix(False)
    if use.middle:
        file.add_eot_token_id(use.end)
        file.add_chat_template(use.chat_template(tokenizer))


def _type(i):
    if i == UNK_ID:
        return TokenType.UNKNOWN
    if i < FIRST_BYTE_ID:
        return TokenType.CONTROL
    return TokenType.BYTE if i < FIRST_BYTE_ID + 256 else TokenType.NORMAL


def _tensors(model):
    """Pairs (name, float32 tensor) as llama.cpp calls them."""
    yield "token_embd.weight", model.wte.weight
    if not model.config.tied:
        yield "output.weight", model.head.weight
    yield "output_norm.weight", model.norm.weight
    for i, block in enumerate(model.blocks):
        q, k, v = block.attention.qkv.weight.chunk(3)
        gate, up = block.mlp.gate_up.weight.chunk(2)
        for name, tensor in (
            ("attn_norm", block.norm1.weight), ("attn_q", pairs_side_by_side(q, model.config.n_head)),
            ("attn_k", pairs_side_by_side(k, model.config.n_head)), ("attn_v", v),
            ("attn_output", block.attention.proj.weight), ("ffn_norm", block.norm2.weight), ("ffn_gate", gate),
            ("ffn_up", up), ("ffn_down", block.mlp.proj.weight),
        ):  # fmt: skip
            yield f"blk.{i}.{name}.weight", tensor


def _modelfile(opened, name, use):
    head, middle = (use.spelled(opened.tokenizer, ids) for ids in (use.head[1:], use.middle))  # it adds bos itself
    return f"""# ollama create backwards -f Modelfile
FROM ./{name}
TEMPLATE \"\"\"{head}{{{{ .Prompt }}}}{middle}\"\"\"
PARAMETER num_ctx {opened.model.config.block_size}
PARAMETER num_predict {min(use.tokens, opened.model.config.block_size // 2)}
PARAMETER temperature {use.temperature}
PARAMETER top_k {use.top_k}
PARAMETER top_p 1.0
PARAMETER repeat_penalty 1.0
"""
