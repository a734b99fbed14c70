"""Where the model runs and in which number format: choices that training and sampling must make alike."""

import platform
import sys

import torch


def pick_device(name="auto"):
    """A torch.device: "auto" takes CUDA, else Apple's MPS, else the CPU.

    Raises ValueError where the device named is not there.
    """
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        name = next(kind for kind, found in there.items() if found)
    if not there.get(name.split(":")[0], False):
        raise ValueError(f"--device {name} is not available here; there are: auto, "
                         + ", ".join(kind for kind, found in there.items() if found))
    return torch.device(name)


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
