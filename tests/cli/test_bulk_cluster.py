"""`latentd bulk --ray` on a cluster of two nodes. One of them is killed."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.cli.bulk_runs import Bulk, all_gone, rows, write_untrained
from tests.conftest import eventually, image_spec

NUM = 6000
ORDER = ("--num", str(NUM), "--shard-samples", "100")


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A head node and another node on the loopback address, with one CPU each. Their processes end with the block."""
    pytest.importorskip("ray", reason="ray is not installed")
    from ray.cluster_utils import Cluster

    folder = Path(tempfile.mkdtemp(prefix="ray", dir="/tmp"))  # its sockets' paths have to be short
    monkeypatch.setenv("RAY_TMPDIR", str(folder))
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")  # how Ray calls it to be on loopback alone
    started = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    try:
        started.add_node(num_cpus=1)
        yield started
    finally:
        started.shutdown()
        shutil.rmtree(folder, ignore_errors=True)


def at_work(node: Any) -> list[psutil.Process]:
    """Return the processes of a node that make a shard now."""
    (raylet,) = node.all_processes["raylet"]
    with suppress(psutil.Error):  # one may be gone by now
        children = psutil.Process(raylet.process.pid).children()
        return [child for child in children if child.cmdline()[:1] == ["ray::make_shard"]]
    return []


def test_every_sample_is_written_once_although_a_node_is_killed(cluster: Any, tmp_path: Path) -> None:
    pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    checkpoint = tmp_path / "animals.safetensors"
    write_untrained(checkpoint, image_spec(conditional=True))
    bulk = Bulk(checkpoint, tmp_path / "by-ray", (*ORDER, "--ray", cluster.address))
    (node,) = cluster.worker_nodes
    with bulk.begun(shards=2) as process:
        found: list[psutil.Process] = []
        eventually(lambda: bool(found.extend(at_work(node)) or found), "the node that will be killed has no work")
        cluster.remove_node(node, allow_graceful=False)
        assert len(bulk.lines()) < NUM // 100
        said = process.communicate(timeout=300)
        assert process.returncode == 0, said
        assert all_gone(found)
    assert [row["seed"] for row in rows(bulk.out)] == list(range(NUM))
    here = Bulk(checkpoint, tmp_path / "here", ORDER)
    here.done()
    assert bulk.files() == here.files()
