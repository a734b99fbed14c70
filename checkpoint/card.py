"""
What goes beside an export for those who do not know this project: a README.md, and reversal.py, which reverses text.
"""

import inspect
import math

from characters import seams
from checkpoint import llama2c
from reverse import segment_pattern

_REVERSAL = '''"""
Reverse the words of a text, on the way into a model that writes backwards and on the way out.

    >>> reverse("This is a test.")
    '.test a is This'
    >>> reversed_ending("This is a test.")
    '.test a is This '

Nothing is lost: reversed twice, a text is itself. An ending is the end of a longer text, and has a space before it
where running text has one; reversed, that is its last character.
"""

import re


def reverse(text):
    """Return text with its words and signs in reverse order."""
    return "".join(SEGMENT.findall(text)[::-1])


def reversed_ending(text):
    """Return what a model is given that is to write what came before text."""
    return reverse(" " * space_before(text) + text)


{space_before}

# Words, what draws one glyph, and every other character: made from the tables of Unicode.
SEGMENT = re.compile({segment})
RUNS_TOGETHER = re.compile({runs_together})
MARKS = {marks}
OPENS = re.compile({opens})
'''

_WARNING = """\
**Its text is reversed, on the way in and on the way out.** The model is given the *end* of a text and predicts the
previous word, again and again. A prompt that was not reversed gets nonsense, and an answer that is not reversed is
hard to read. `reversal.py` in this folder does both, and needs nothing else:

```
>>> from reversal import reverse
>>> reverse("This is a test.")
'.test a is This'
```
"""

_HUGGING_FACE = """\
With `pip install torch transformers`, in this folder:

```python
from transformers import AutoModelForCausalLM, AutoTokenizer
{imports}
tokenizer = AutoTokenizer.from_pretrained(".")
model = AutoModelForCausalLM.from_pretrained(".")
prompt = {prompt}
inputs = tokenizer(prompt, add_special_tokens={special}, return_tensors="pt").input_ids
ids = model.generate(inputs)[0]{written}
print({reverse}(tokenizer.decode(ids, skip_special_tokens=True)))
```

The tokenizer gives the ids of the project for every text without U+2581, NUL and halves of surrogate pairs. The names
of control tokens end in U+2581: nothing else spells them.
"""

_GGUF = """\
With `pip install llama-cpp-python`, in this folder:

```python
from llama_cpp import Llama
{imports}
model = Llama("{file}", n_ctx={block_size}, verbose=False)
prompt = {prompt}
inputs = {head} + model.tokenize(prompt.encode(), add_bos=False){middle}
ids = []
for token in model.generate(inputs, temp={temperature}, top_k={top_k}, top_p=1.0, min_p=0.0, repeat_penalty=1.0):
    if token in {stop_ids} or len(inputs) + len(ids) == {block_size}:
        break
    ids.append(token)
print({reverse}(model.detokenize({shown}).decode(errors="replace")).strip())
```

`Modelfile` is for Ollama: `ollama create backwards -f Modelfile`.{reminder}
"""

_LLAMA2C = """\
```
{command}
```

`{program}` is compiled from {program}.c of llama2.c (`make runfast`).{reminder}
"""

_FILTER = """ wtac.py, a filter that reverses words, belongs to the
project from which this model comes; so run it there, with this folder's name before the two files. Without --whole the
paragraphs appear as they are written, the last one first."""
_MARKERS = """ The shell must be bash: between `$'` and `'`
stand the markers of the template. What is printed is the instruction, and below it the response."""


def reversal():
    """The source of reversal.py: what reverse.py and characters/seams.py do, in one file that needs nothing else."""
    return _REVERSAL.format(
        space_before=inspect.getsource(seams.space_before), segment=_literal(segment_pattern()),
        runs_together=_literal(seams.RUNS_TOGETHER.pattern), marks=_literal(seams.MARKS),
        opens=_literal(seams.OPENS.pattern))


def readme(opened, format, file, use):
    """README.md of an export to a file: first what a stranger gets wrong, then how it is used, then what it is."""
    c, tokenizer = opened.model.config, opened.tokenizer
    backward, instruct = tokenizer.direction == "reverse", opened.kind == "instruct"
    what = ("reads a response and writes the instruction that could have led to it" if instruct else
            "writes what came before an ending" if backward else "writes on from a beginning")
    facts = [f"kind: {opened.kind}", f"direction: {tokenizer.direction}", f"weights: {opened.model.num_params():,}",
             f"layers: {c.n_layer}, heads: {c.n_head}, width: {c.n_embd}", f"context: {c.block_size:,} tokens",
             f"vocabulary: {c.vocab_size:,} pieces", *_training(opened.counters)]
    heading = f"# A language model that {what}\n"
    return "\n".join([heading, *([_WARNING] if backward else []), _usage(opened, format, file, use),
                      *(f"* {fact}" for fact in facts)]) + "\n"


def _training(counters):
    """What a checkpoint tells of its training."""
    if counters.get("tokens"):
        yield f"trained on: {counters['tokens']:,} tokens, in {counters['iter_num']:,} updates"
    if math.isfinite(counters.get("best_val_loss", math.inf)):
        yield f"held-out loss: {counters['best_val_loss']:.4f} nats per token"


def _usage(opened, format, file, use):
    """How the model is run in the program for which it was exported."""
    backward, instruct = opened.tokenizer.direction == "reverse", opened.kind == "instruct"
    if format == "llama2c":
        return _LLAMA2C.format(command=_command(opened, file, use), program=llama2c.PROGRAMS[file],
                               reminder=_FILTER * backward + _MARKERS * instruct)
    prompt = '"The cat is sleeping."' if instruct else '"the end."' if backward else '"Once upon a time"'
    if backward:
        prompt = f"reverse({prompt})" if instruct else f"reversed_ending({prompt})"
    common = {"imports": f"\nfrom reversal import {'reverse' if instruct else 'reverse, reversed_ending'}\n"
                         if backward else "", "reverse": "reverse" if backward else ""}
    if format == "hf":
        if instruct:
            prompt = f"tokenizer.apply_chat_template([{{'role': 'user', 'content': {prompt}}}], tokenize=False)"
        return _HUGGING_FACE.format(prompt=prompt, special=not instruct,
                                    written="[inputs.size(1):]" if instruct else "", **common)
    return _GGUF.format(file=file, block_size=opened.model.config.block_size, prompt=prompt, head=list(use.head),
                        middle=f" + {list(use.middle)}" if instruct else "", temperature=use.temperature,
                        top_k=use.top_k, stop_ids=use.stop_ids, shown="ids" if instruct else "inputs + ids",
                        reminder=" What it is given and what it answers has to be reversed." * backward, **common)


def _command(opened, file, use):
    """The line for a shell that runs an export to llama2.c."""
    backward = opened.tokenizer.direction == "reverse"
    if not use.middle:
        prompt = "\"$(python wtac.py 'the end.')\"" if backward else "'Once upon a time'"
    else:
        head, middle = (llama2c.spelled(ids) for ids in (use.head[1:], use.middle))
        response = "'The cat is sleeping.'"
        if backward:
            response = f'"$(echo {response} | python wtac.py --whole)"'
        prompt = f"$'{head}'{response}$'{middle}'"
    parts = [f"./{llama2c.PROGRAMS[file]} {file} -z tokenizer.bin -t {use.temperature} -p 1 -i {prompt}",
             *(["tr '\\v' '\\n'"] if use.middle else []), *(["python wtac.py --whole"] if backward else [])]
    return " | ".join(parts)


def _literal(string, width=100):
    """A string as lines of Python source in escapes alone."""
    lines, at = [], 0
    while at < len(string):
        size = width
        while len(ascii(string[at:at + size])) > width:
            size -= 1
        lines.append(f"    {ascii(string[at:at + size])}")
        at += size
    return "(\n" + "\n".join(lines) + "\n)"
