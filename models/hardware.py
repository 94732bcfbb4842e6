"""The device to compute on: how it is chosen, described and configured, and its memory."""

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
_PROCESS_PAGES = Path("/proc/self/statm")
"""Memory pages of this process. The second number counts the resident ones."""
_NVIDIA_DRIVER = Path("/proc/driver/nvidia/version")
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # from glibc's malloc.h
_MMAP_THRESHOLD = 2**25
"""Bytes. The largest value that glibc allows; larger tensors still get a mapping of their own."""
_TRIM_THRESHOLD = 2**28
"""Bytes of free memory that a process keeps."""
_ALLOCATOR_VARIABLES = ("PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_ALLOC_CONF")
"""Configuration of torch's allocator: the older name, which every version reads, and the newer one."""
_GC_THRESHOLDS = (50_000, 20, 50)
"""Arguments of gc.set_threshold."""


def choose_device(name: str) -> torch.device:
    """Return the device for `cpu`, `cuda` or `auto`, which is CUDA if there is a device, else the CPU.

    Raises ValueError for `cuda` without a device, and for other names.
    """
    if name not in ("auto", "cpu", "cuda"):
        raise ValueError(f"device is one of auto, cpu, cuda, not {name!r}")
    if name == "cuda" and not torch.cuda.is_available():
        raise ValueError("no CUDA device was found; choose cpu, or install a CUDA build of torch")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def describe_device(device: torch.device) -> str:
    """Return the device's model, with the CUDA version, or with the instruction set that torch uses on the CPU.

    On a CPU it also says whether oneDNN is turned off or limited to an instruction set, because that changes bits.
    """
    if device.type == "cuda":
        return f"{torch.cuda.get_device_name(device)} (CUDA {torch.version.cuda})"
    return f"{_cpu_model()} ({platform.machine()}, {torch.backends.cpu.get_cpu_capability()}{_onednn_limits()})"


def _onednn_limits() -> str:
    has_onednn: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]  # in torch
    if has_onednn and not torch.backends.mkldnn.enabled:
        return ", oneDNN off"
    limit = os.environ.get("ONEDNN_MAX_CPU_ISA") or os.environ.get("DNNL_MAX_CPU_ISA")
    return f", oneDNN {limit}" if limit else ""


def driver_version(device: torch.device) -> str:
    """Return the version of the device's driver: `none` for a CPU, `unknown` if it cannot be read."""
    if device.type != "cuda":
        return "none"
    with suppress(OSError):
        found = re.search(r"Kernel Module\D*([\d.]+)", _NVIDIA_DRIVER.read_text(encoding="utf-8"))
        if found:
            return found.group(1)
    return "unknown"


def memory_bytes(device: torch.device) -> int:
    """Return the bytes of memory for tensors on `device`: the GPU's, or the machine's up to the container's limit."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    size = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    with suppress(OSError, ValueError):  # no cgroup, or no limit
        size = min(size, int(_CGROUP_MEMORY.read_text(encoding="ascii")))
    return size


def used_memory_bytes(device: torch.device) -> int:
    """Return the bytes of `device`'s memory that this process uses; 0 if the system does not say."""
    if device.type == "cuda":
        return int(torch.cuda.memory_reserved(device))
    try:
        return os.sysconf("SC_PAGE_SIZE") * int(_PROCESS_PAGES.read_text(encoding="ascii").split()[1])
    except OSError:  # not Linux
        return 0


def core_count() -> int:
    """Return the number of CPU cores that this process may use: its affinity, limited by its container's quota."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with suppress(OSError, ValueError):  # no cgroup, or no quota
        quota, period = _CGROUP_LIMIT.read_text(encoding="ascii").split()
        cores = min(cores, max(1, int(quota) // int(period)))
    return cores


def configure_device(device: torch.device) -> None:
    """Configure torch and malloc so that `device` gives the same bits every time, and gives them fast.

    Call it before anything is put on the device.
    """
    if device.type == "cuda":
        grow_memory_segments()
        torch.backends.cudnn.benchmark = False  # training in the same process may have chosen kernels by their speed
        torch.backends.cudnn.deterministic = True  # some convolutions of cuDNN add in a random order
        torch.backends.cudnn.allow_tf32 = False  # the fingerprint says float32
        torch.set_float32_matmul_precision("highest")  # the same
    else:
        keep_freed_memory()


def grow_memory_segments() -> None:
    """Make torch's CUDA allocator grow its segments, unless the environment configures the allocator.

    Otherwise, passes of many sizes leave gaps between segments that are too small for larger passes.
    """
    if not any(name in os.environ for name in _ALLOCATOR_VARIABLES):
        os.environ[_ALLOCATOR_VARIABLES[0]] = "expandable_segments:True"  # read at the first allocation


def use_serving_threads(device: torch.device) -> None:
    """Compute on one CPU thread, unless OMP_NUM_THREADS says otherwise. Bits depend on the number of threads."""
    if device.type == "cpu" and "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(1)


def keep_freed_memory() -> None:
    """Make malloc reuse the memory of large tensors.

    By default, glibc returns blocks of 128 KiB or more to the system and maps new ones, whose page faults can take as
    long as the computation.
    """
    with suppress(OSError, AttributeError):  # not glibc
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_MMAP_THRESHOLD, _MMAP_THRESHOLD)
        libc.mallopt(_M_TRIM_THRESHOLD, _TRIM_THRESHOLD)


def reduce_gc_pauses() -> None:
    """Make pauses for garbage collection rare, and leave out all objects that exist now.

    With a thousand requests in flight and the default thresholds, collections took more than half of the throughput.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_GC_THRESHOLDS)


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:  # not Linux
        return platform.processor() or "CPU"
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "CPU")
