"""The limits of a container."""

import os
from pathlib import Path

import pytest
import torch

from latentd.models import hardware
from latentd.models.hardware import configure_device, core_count, describe_device, memory_bytes

CPU = torch.device("cpu")


def test_memory_respects_the_containers_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limit = tmp_path / "memory.max"
    monkeypatch.setattr(hardware, "_CGROUP_MEMORY", limit)
    installed = memory_bytes(CPU)
    assert installed == os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for written, expected in ((str(2**20), 2**20), ("max", installed), (str(2 * installed), installed)):
        limit.write_text(f"{written}\n")
        assert memory_bytes(CPU) == expected


def test_a_changed_onednn_is_another_device(monkeypatch: pytest.MonkeyPatch) -> None:
    if not torch.backends.mkldnn.is_available():
        pytest.skip("this torch has no oneDNN")
    for name in ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(torch.backends.mkldnn, "enabled", True)
    assert "oneDNN" not in describe_device(CPU)
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    assert describe_device(CPU).endswith(", oneDNN AVX2)")
    monkeypatch.setattr(torch.backends.mkldnn, "enabled", False)
    assert describe_device(CPU).endswith(", oneDNN off)")


def test_cores_respect_the_containers_quota(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    quota = tmp_path / "cpu.max"
    monkeypatch.setattr(hardware, "_CGROUP_LIMIT", quota)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(8))
    for written, expected in (("200000 100000", 2), ("50000 100000", 1), ("max 100000", 8)):
        quota.write_text(f"{written}\n")
        assert core_count() == expected


def test_the_cuda_allocator_grows_segments_unless_the_user_configures_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_ALLOC_CONF"):
        monkeypatch.setenv(name, "")  # restored after the test
        monkeypatch.delenv(name)
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", False)
    configure_device(torch.device("cuda"))
    assert os.environ["PYTORCH_CUDA_ALLOC_CONF"] == "expandable_segments:True"
    monkeypatch.delenv("PYTORCH_CUDA_ALLOC_CONF")
    monkeypatch.setenv("PYTORCH_ALLOC_CONF", "max_split_size_mb:64")
    configure_device(torch.device("cuda"))
    assert "PYTORCH_CUDA_ALLOC_CONF" not in os.environ
