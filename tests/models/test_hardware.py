"""The limits of a container."""

import os
from pathlib import Path

import pytest
import torch

from latentd.models import hardware
from latentd.models.hardware import core_count, memory_bytes

CPU = torch.device("cpu")


def test_memory_respects_the_containers_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limit = tmp_path / "memory.max"
    monkeypatch.setattr(hardware, "_CGROUP_MEMORY", limit)
    installed = memory_bytes(CPU)
    assert installed == os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for written, expected in ((str(2**20), 2**20), ("max", installed), (str(2 * installed), installed)):
        limit.write_text(f"{written}\n")
        assert memory_bytes(CPU) == expected


def test_cores_respect_the_containers_quota(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    quota = tmp_path / "cpu.max"
    monkeypatch.setattr(hardware, "_CGROUP_LIMIT", quota)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(8))
    for written, expected in (("200000 100000", 2), ("50000 100000", 1), ("max 100000", 8)):
        quota.write_text(f"{written}\n")
        assert core_count() == expected
