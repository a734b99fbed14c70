"""
Other programs that run a model of ours, for the benchmarks: llama2.c built from a checkout, and llama.cpp through a
Python that has llama-cpp-python. Both write the likeliest token each time.
"""

import json
import subprocess

# Run by the other Python, in which this project need not be importable: ids that follow those given, and seconds.
_LLAMA_CPP = """
import json, os, sys, time
import llama_cpp, numpy

path, prompt, tokens = sys.argv[1], json.loads(sys.argv[2]), int(sys.argv[3])
model = llama_cpp.Llama(path, n_ctx=0, n_threads=os.cpu_count(), n_threads_batch=os.cpu_count(), verbose=False)
logits = lambda: numpy.ctypeslib.as_array(llama_cpp.llama_get_logits(model._ctx.ctx), (model.n_vocab(),))
for n in (5, tokens):
    model.reset()
    model.eval(prompt)
    found, started = [int(logits().argmax())], time.perf_counter()
    while len(found) < n:
        model.eval(found[-1:])
        found.append(int(logits().argmax()))
print(json.dumps([found, time.perf_counter() - started]))
"""


def build_llama2c(checkout, folder):
    """Compile run and runq into folder."""
    for program in ("run", "runq"):
        subprocess.run(["gcc", "-Ofast", "-march=native", "-fopenmp", "-o", folder / program, checkout / f"{program}.c",
                        "-lm"], check=True)


def run_llama2c(program, weights, tokenizer, tokens, prompt=""):
    """(what it prints, tokens a second); tokens are those of the prompt, too."""
    done = subprocess.run([program, weights, "-z", tokenizer, "-t", "0", "-n", str(tokens), "-i", prompt], check=True,
                          capture_output=True)
    return done.stdout.decode().removesuffix("\n"), float(done.stderr.rpartition(b":")[2])


def run_llama_cpp(python, path, tokens, prompt=(1,)):
    """(ids that follow those of prompt, tokens a second)."""
    done = subprocess.run([python, "-c", _LLAMA_CPP, path, json.dumps(prompt), str(tokens)], check=True,
                          capture_output=True, text=True)
    found, seconds = json.loads(done.stdout)
    return found, (tokens - 1) / seconds
