"""Which device to compute on, and what it is, in words that tell apart machines whose bits may differ."""

import platform
from pathlib import Path

import torch


def choose_device(name: str) -> torch.device:
    """`auto`: CUDA where there is a device, else the CPU; `cpu`; `cuda`: ValueError where there is none."""
    if name == "cuda" and not torch.cuda.is_available():
        raise ValueError("no CUDA device was found; choose cpu, or install a CUDA build of torch")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def describe_device(device: torch.device) -> str:
    """The device's model and, for a CPU, the instruction set that torch uses on it."""
    if device.type == "cuda":
        return f"{torch.cuda.get_device_name(device)} (CUDA {torch.version.cuda})"
    return f"{_cpu_model()} ({platform.machine()}, {torch.backends.cpu.get_cpu_capability()})"


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:  # not Linux
        return platform.processor() or "CPU"
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "CPU")
