"""
Where the model runs, on how many threads, in which number format, and whether compiled: what training and sampling must
decide alike.
"""

import importlib.util
import os
import platform
import shutil
import sys

import torch

from program.streams import say


def pick_device(name="auto"):
    """A torch.device: "auto" takes CUDA, else Apple's MPS, else the CPU; under torchrun each process takes a GPU of its
    own.

    Raises ValueError where the device named is not there.
    """
    there = [*(["cuda"] if torch.cuda.is_available() else []), *(["mps"] if torch.backends.mps.is_available() else []),
             "cpu"]
    numbered = [f"cuda:{number}" for number in range(torch.cuda.device_count())] if "cuda" in there else []
    if name not in ("auto", *there, *numbered):
        raise ValueError(f"--device {name} is not available here; there are: {', '.join(['auto', *there, *numbered])}")
    name = there[0] if name == "auto" else name
    if name == "cuda" and "LOCAL_RANK" in os.environ:
        name = f"cuda:{os.environ['LOCAL_RANK']}"
        if name not in numbered:
            raise ValueError(f"There are more processes than GPUs here: --nproc-per-node {len(numbered)}")
    return torch.device(name)


def use_threads(wanted=None):
    """Have PyTorch compute on so many threads of the CPU, or on as many as it would; return their number."""
    if wanted is not None:
        torch.set_num_threads(wanted)
    return torch.get_num_threads()


# Dense bfloat16 operations a second, from the makers' data sheets; the first name that the device's name holds.
_PEAKS = {"H200": 989e12, "H100 PCIe": 756e12, "H100": 989e12, "H800": 989e12, "A100": 312e12, "A800": 312e12,
          "L40S": 362e12, "L4": 121e12, "A10G": 70e12, "RTX 4090": 165e12, "RTX 3090": 71e12}


def peak_flops(device):
    """Operations a second that the device can do in bfloat16; None where it is not known."""
    if device.type != "cuda":
        return None
    name = torch.cuda.get_device_name(device)
    return next((peak for part, peak in _PEAKS.items() if part in name), None)


def pick_dtype(name, device):
    """torch.bfloat16 or torch.float32: "auto" takes bfloat16 where the hardware multiplies it, else float32.

    A processor without such instructions emulates bfloat16 many times slower than it computes float32. float16 would
    need a gradient scaler and is not offered.
    """
    if name == "auto":
        if device.type == "cuda":
            fast = torch.cuda.is_bf16_supported(including_emulation=False)
        else:
            fast = device.type == "cpu" and _cpu_multiplies_bfloat16()
        name = "bfloat16" if fast else "float32"
    if name not in ("bfloat16", "float32"):
        raise ValueError(f"--dtype {name} is not known; it takes auto, bfloat16 or float32")
    return getattr(torch, name)


def _cpu_multiplies_bfloat16():
    if sys.platform == "linux" and platform.machine() in ("x86_64", "AMD64"):
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            return any("avx512_bf16" in line or "amx_bf16" in line for line in file if line.startswith("flags"))
    return False


def autocast(device, dtype):
    """The context in which the model computes in dtype; its weights stay float32."""
    return torch.autocast(device.type, dtype=dtype, enabled=dtype != torch.float32)


def compiled(model, device, wanted=True):
    """The model compiled where that works and is wanted; says why where it is wanted and cannot be done."""
    if not wanted:
        return model
    if device.type == "cuda":
        missing = None if importlib.util.find_spec("triton") else "Triton is not installed"
    elif device.type == "cpu" and sys.platform == "linux":
        missing = None if shutil.which("g++") or shutil.which("clang++") else "it needs a C++ compiler (g++)"
    else:
        missing = f"it is not tried on {device.type} under {sys.platform}"
    if missing:
        say(f"Not compiling the model: {missing}. Training runs the same, somewhat slower.")
        return model
    say("Compiling the model: the first update takes half a minute or more.")
    return torch.compile(model)
