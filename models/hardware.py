"""Which device to compute on, what it is in words that tell apart machines whose bits may differ, and how to use it."""

import ctypes
import gc
import os
import platform
import re
from contextlib import suppress
from pathlib import Path

import torch

_CGROUP_LIMIT = Path("/sys/fs/cgroup/cpu.max")
_CGROUP_MEMORY = Path("/sys/fs/cgroup/memory.max")
_OWN_PAGES = Path("/proc/self/statm")
"""Pages of this process: all, and those that are resident."""
_NVIDIA_DRIVER = Path("/proc/driver/nvidia/version")
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # from glibc's malloc.h
_LARGEST_REUSED = 2**25
"""What glibc allows; larger tensors are still mapped by themselves."""
_MOST_KEPT = 2**28
_GARBAGE_THRESHOLDS = (50_000, 20, 50)
"""Objects made before the young are looked through; such looks before one at the older, and of these before all."""


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


def driver_version(device: torch.device) -> str:
    """The device driver's version; `none` for a CPU."""
    if device.type != "cuda":
        return "none"
    with suppress(OSError):
        found = re.search(r"Kernel Module\D*([\d.]+)", _NVIDIA_DRIVER.read_text(encoding="utf-8"))
        if found:
            return found.group(1)
    return "unknown"


def memory_bytes(device: torch.device) -> int:
    """The size of the memory that tensors on `device` live in: the GPU's, or the container's part of the machine's."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    size = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    with suppress(OSError, ValueError):  # no cgroup, or no limit
        size = min(size, int(_CGROUP_MEMORY.read_text(encoding="ascii")))
    return size


def used_memory_bytes(device: torch.device) -> int:
    """What this process has taken of that memory; 0 where the system does not tell."""
    if device.type == "cuda":
        return int(torch.cuda.memory_reserved(device))
    try:
        return os.sysconf("SC_PAGE_SIZE") * int(_OWN_PAGES.read_text(encoding="ascii").split()[1])
    except OSError:  # not Linux
        return 0


def core_count() -> int:
    """The CPU cores that this process may use: what its affinity and its container's quota leave of the machine's."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with suppress(OSError, ValueError):  # no cgroup, or no quota
        quota, period = _CGROUP_LIMIT.read_text(encoding="ascii").split()
        cores = min(cores, max(1, int(quota) // int(period)))
    return cores


def configure_device(device: torch.device) -> None:
    """Set torch up so that `device` gives the same bits again, and gives them fast."""
    if device.type == "cuda":
        torch.backends.cudnn.deterministic = True  # some of cuDNN's convolutions add in any order
        torch.backends.cudnn.allow_tf32 = False  # the fingerprint says float32
    else:
        keep_freed_memory()


def keep_freed_memory() -> None:
    """Let freed memory be used again instead of going back to the system and being mapped anew for every large tensor.

    By default glibc does that for blocks from 128 KiB, whose page faults can take as long as the computing itself.
    """
    with suppress(OSError, AttributeError):  # not glibc
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_MMAP_THRESHOLD, _LARGEST_REUSED)
        libc.mallopt(_M_TRIM_THRESHOLD, _MOST_KEPT)


def reduce_gc_pauses() -> None:
    """Spare requests the pauses in which Python looks through all objects.

    What is loaded by now stays, and a thousand requests under way are no garbage: looking through them as often as by
    default took more than half of the throughput under a flood.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_GARBAGE_THRESHOLDS)


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:  # not Linux
        return platform.processor() or "CPU"
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "CPU")
