"""Three servers behind a real nginx with the configuration in deploy/. Clients do not notice if one of them fails."""

import http.client
import itertools
import json
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil
import pytest

from latentd.models.checkpoint import Checkpoint, write_checkpoint
from latentd.service.settings import Settings
from tests.conftest import eventually, free_port
from tests.e2e.conftest import ROOT, Answer, Server, serving
from tests.e2e.nginx import balancing, needs_nginx
from tests.e2e.test_engine import version_of

pytestmark = [needs_nginx, pytest.mark.slow]

SHIPPED = ROOT / "models" / "checkpoints"
STEADY, ROLLED = "ring-gan", "fashion-dcgan"
CLIENTS = 6
PAUSE_SECONDS = 0.02
"""Pause of a client between requests. Servers that start at the same time need some of the CPU."""
FRAMES = 20_000
"""More than fits into the buffers between a replica and a client."""


@dataclass(frozen=True)
class Wanted:
    """A request. Each version of the model always gives the same answer to it."""

    path: str
    accept: str
    body: bytes

    def ask(self, server: Server) -> Answer:
        return server.call(self.path, self.body, content_type="application/json", accept=self.accept)


def generate(accept: str = "*/*", **fields: Any) -> Wanted:
    return Wanted("/generate", accept, json.dumps(fields).encode())


def animate(accept: str, seed: int, keyframes: int = 2, **fields: Any) -> Wanted:
    points = [{"seed": seed + index} for index in range(keyframes)]
    return Wanted("/interpolate", accept, json.dumps({"model": ROLLED, "keyframes": points} | fields).encode())


WANTED = [
    wanted
    for seed in range(3)
    for wanted in (
        generate(model=STEADY, seed=seed, num_samples=3),
        generate(model=ROLLED, seed=seed),
        generate("application/x-npy", model=ROLLED, seed=seed, num_samples=64),
        generate("image/png", model=ROLLED, seed=seed, num_samples=16),
        animate("image/webp", seed, steps=8, layout="animation"),
        animate("text/event-stream", seed, steps=40),
    )
]
ENDLESS = animate("text/event-stream", 0, keyframes=6, steps=FRAMES // 5, format="npy")

References = dict[tuple[Wanted, str], bytes]
"""The answer to a request, by version."""


def is_right(wanted: Wanted, answer: Answer, references: References) -> bool:
    return references[wanted, answer.headers["x-latentd-version"]] == answer.body


@dataclass
class Replica:
    """A server with its own catalog. It can be stopped and started again on the same port."""

    home: Path
    first: Path
    """The first file of the model that is rolled out."""
    port: int = field(default_factory=free_port)
    starts: int = 0
    server: Server = field(init=False)
    running: ExitStack = field(default_factory=ExitStack)

    @property
    def models(self) -> Path:
        return self.home / "models"

    def start(self) -> None:
        if not self.starts:
            self.models.mkdir(parents=True)
            shutil.copy(SHIPPED / f"{STEADY}.safetensors", self.models)
            self.replace(self.first)
        self.starts += 1
        settings = {"LATENTD_MODELS": str(self.models), "LATENTD_MAX_FRAMES": str(FRAMES)}
        home = self.home / str(self.starts)
        self.server = self.running.enter_context(
            serving(home, port=self.port, may_end_with=(0, -signal.SIGKILL), **settings)
        )

    def drain(self) -> None:
        """Send SIGTERM and wait until the server has ended."""
        self.running.close()

    def roll(self, file: Path, version: str) -> None:
        self.replace(file)
        eventually(lambda: version_of(self.server, ROLLED) == version)

    def replace(self, file: Path) -> None:
        shutil.copy(file, self.models / "incoming")
        (self.models / "incoming").rename(self.models / f"{ROLLED}.safetensors")

    def signal(self, number: int) -> None:
        """Send a signal to all processes of the server."""
        parent = psutil.Process(self.server.pid)
        for each in [parent, *parent.children(recursive=True)]:
            each.send_signal(number)


@dataclass(frozen=True)
class Cluster:
    replicas: list[Replica]
    balancer: Server
    tries: Path
    """nginx's log: for each request one line with the addresses that it was sent to."""
    files: dict[str, Path]
    """The files of the model that is rolled out, by version: the old one, then the new one."""
    references: References

    @property
    def versions(self) -> tuple[str, str]:
        before, after = self.files
        return before, after


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    folder = tmp_path_factory.mktemp("cluster")
    shipped = Checkpoint.read(SHIPPED / f"{ROLLED}.safetensors")
    tensors = {name: each * 1.01 if each.is_floating_point() else each for name, each in shipped.tensors.items()}
    changed = write_checkpoint(folder / "changed" / f"{ROLLED}.safetensors", shipped.card, tensors)
    files = {
        shipped.version: SHIPPED / f"{ROLLED}.safetensors",
        changed.version: folder / "changed" / f"{ROLLED}.safetensors",
    }
    replicas = [Replica(folder / str(number), files[shipped.version]) for number in range(3)]
    replicas[0].first = files[changed.version]
    with ExitStack() as stack:
        for replica in replicas:
            stack.callback(replica.drain)
        with ThreadPoolExecutor(3) as pool:
            list(pool.map(Replica.start, replicas))
        references = references_of(replicas[0])
        replicas[0].roll(files[shipped.version], shipped.version)
        references |= references_of(replicas[0])
        balancer = stack.enter_context(balancing(folder / "nginx", [replica.port for replica in replicas]))
        yield Cluster(replicas, balancer, folder / "nginx" / "tries", files, references)


def references_of(replica: Replica) -> References:
    found = {}
    for wanted in [*WANTED, *(pinned(version_of(replica.server, ROLLED) or ""))]:
        answer = wanted.ask(replica.server)
        assert answer.status == 200, answer.body
        found[wanted, answer.headers["x-latentd-version"]] = answer.body
    return found


def pinned(version: str) -> list[Wanted]:
    return [generate(model=f"{ROLLED}@{version}", seed=5), generate("image/png", model=f"{ROLLED}@{version}", seed=5)]


def test_the_balancer_passes_requests_on_within_its_limits(cluster: Cluster) -> None:
    balancer = cluster.balancer
    assert balancer.call("/models", x_request_id="mine").headers["x-request-id"] == "mine"
    made = balancer.call("/models").headers["x-request-id"]
    assert made != balancer.call("/models").headers["x-request-id"]
    assert balancer.call("/metrics").status == 404
    body = json.dumps({"model": STEADY, "seed": 1}).encode()
    largest = Settings.model_fields["max_body"].default
    assert balancer.call("/generate", body.ljust(largest)).status == 200
    assert balancer.call("/generate", body.ljust(largest + 1)).status == 413


@dataclass
class Load:
    """Clients that send requests until they are told to stop. They repeat a request that had no answer."""

    cluster: Cluster
    answered: int = 0
    failures: list[tuple[float, str]] = field(default_factory=list)
    """For each request without an answer: when it began, and the error."""
    stop: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def client(self, number: int) -> None:
        for wanted in itertools.islice(itertools.cycle(WANTED), number * len(WANTED) // CLIENTS, None):
            while not self.stop.is_set() and not self.is_answered(wanted):
                assert len(self.failures) < 100, self.failures
            if self.stop.wait(PAUSE_SECONDS):
                return

    def is_answered(self, wanted: Wanted) -> bool:
        began = time.monotonic()
        try:
            answer = wanted.ask(self.cluster.balancer)
        except (OSError, http.client.HTTPException) as problem:
            self.failures.append((began, repr(problem)))
            return False
        if answer.status != 200:
            self.failures.append((began, f"{answer.status} {answer.body[:200]!r}"))
            return False
        assert is_right(wanted, answer, self.cluster.references), wanted
        with self.lock:
            self.answered += 1
        return True

    def wait_for_answers(self) -> None:
        """Wait until as many requests were answered as there are different ones."""
        before = self.answered
        eventually(lambda: self.answered >= before + len(WANTED), "no request is answered any more")


@contextmanager
def under_load(cluster: Cluster) -> Iterator[Load]:
    load = Load(cluster)
    with ThreadPoolExecutor(CLIENTS) as pool:
        clients: list[Future[None]] = [pool.submit(load.client, number) for number in range(CLIENTS)]
        try:
            yield load
        finally:
            load.stop.set()
    for client in clients:
        client.result()


def begin_endless(balancer: Server) -> http.client.HTTPResponse:
    """Begin a stream, and return it with most of it unread."""
    address = urlsplit(balancer.url)
    connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=300)
    connection.request("POST", ENDLESS.path, ENDLESS.body, {"Accept": ENDLESS.accept})
    answer = connection.getresponse()
    assert answer.status == 200
    return answer


def test_clients_notice_no_rollout_drain_restart_or_crash(cluster: Cluster) -> None:
    for replica in cluster.replicas:
        assert all(is_right(wanted, wanted.ask(replica.server), cluster.references) for wanted in WANTED)
    with under_load(cluster) as load:
        load.wait_for_answers()
        roll_under_pinned_requests(cluster)
        load.wait_for_answers()

        cluster.replicas[0].drain()  # asserts that it ended with 0
        load.wait_for_answers()
        cluster.replicas[0].start()
        load.wait_for_answers()

        stream = begin_endless(cluster.balancer)
        beginning = stream.read(10_000)
        (victim,) = (each for each in cluster.replicas if stream.headers["x-replica"] == f"127.0.0.1:{each.port}")
        killed = kill_with_requests_in_progress(victim, load)
        load.wait_for_answers()
        assert_repeated_on_other_replicas(victim, cluster)
        assert_stream_breaks_and_is_repeated(stream, beginning, cluster)
    # nginx repeats all requests of the killed server, except those whose answer had begun
    assert not [what for began, what in load.failures if began > killed or "IncompleteRead" not in what]
    for replica in cluster.replicas:
        if replica is not victim:
            assert version_of(replica.server, ROLLED) == cluster.versions[1]
            assert all(is_right(wanted, wanted.ask(replica.server), cluster.references) for wanted in WANTED)


def kill_with_requests_in_progress(victim: Replica, load: Load) -> float:
    """Kill a server with requests in progress, and return the time."""
    victim.signal(signal.SIGSTOP)  # requests that are sent to it now wait
    load.wait_for_answers()
    killed = time.monotonic()
    victim.signal(signal.SIGKILL)
    return killed


def assert_repeated_on_other_replicas(victim: Replica, cluster: Cluster) -> None:
    assert [line for line in cluster.tries.read_text().splitlines() if line.startswith(f"127.0.0.1:{victim.port}, ")]


def assert_stream_breaks_and_is_repeated(stream: http.client.HTTPResponse, beginning: bytes, cluster: Cluster) -> None:
    assert b"event: frame" in beginning
    with pytest.raises(http.client.IncompleteRead) as broken:
        stream.read()
    came = beginning + broken.value.partial
    with begin_endless(cluster.balancer) as again:
        assert again.read(len(came)) == came


def roll_under_pinned_requests(cluster: Cluster) -> None:
    """Roll out the new version, one replica after the other, while a client asks for fixed versions."""
    rolled, seen = threading.Event(), set()
    after = cluster.versions[1]

    def client() -> None:
        last = False
        while not last:
            last = rolled.is_set()
            for version in cluster.versions:
                for wanted in pinned(version):
                    answer = wanted.ask(cluster.balancer)
                    seen.add((version, answer.status))
                    if answer.status == 200:
                        assert answer.headers["x-latentd-version"] == version
                        assert is_right(wanted, answer, cluster.references)
                    else:
                        assert answer.error == (404, "version_not_served", "model")

    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(client)
        try:
            eventually(lambda: len(seen) == 2)  # only the old version is served
            for replica in cluster.replicas:
                replica.roll(cluster.files[after], after)
        finally:
            rolled.set()
        asking.result()
    assert seen == {(version, status) for version in cluster.versions for status in (200, 404)}
