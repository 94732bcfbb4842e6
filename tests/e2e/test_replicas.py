"""Three servers behind a real nginx, configured as in deploy/: what befalls one of them, clients do not notice."""

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
"""Of a client between requests: those that start meanwhile want some of the machine."""
FRAMES = 20_000
"""More than the buffers between a replica and a client hold."""


@dataclass(frozen=True)
class Wanted:
    """A request whose answer is the same every time, as long as the version is."""

    path: str
    accept: str
    body: bytes

    def ask(self, server: Server) -> Answer:
        return server.call(self.path, self.body, content_type="application/json", accept=self.accept)


def generate(accept: str = "*/*", **fields: Any) -> Wanted:
    return Wanted("/generate", accept, json.dumps(fields).encode())


def travel(accept: str, seed: int, places: int = 2, **fields: Any) -> Wanted:
    keyframes = [{"seed": seed + index} for index in range(places)]
    return Wanted("/interpolate", accept, json.dumps({"model": ROLLED, "keyframes": keyframes} | fields).encode())


WANTED = [
    wanted
    for seed in range(3)
    for wanted in (
        generate(model=STEADY, seed=seed, num_samples=3),
        generate(model=ROLLED, seed=seed),
        generate("application/x-npy", model=ROLLED, seed=seed, num_samples=64),
        generate("image/png", model=ROLLED, seed=seed, num_samples=16),
        travel("image/webp", seed, steps=8, layout="animation"),
        travel("text/event-stream", seed, steps=40),
    )
]
ENDLESS = travel("text/event-stream", 0, places=6, steps=FRAMES // 5, format="npy")

References = dict[tuple[Wanted, str], bytes]
"""What a version's answer to a request is."""


def is_right(wanted: Wanted, answer: Answer, references: References) -> bool:
    return references[wanted, answer.headers["x-latentd-version"]] == answer.body


@dataclass
class Replica:
    """A server with a catalog of its own; it can be started again in its place."""

    home: Path
    first: Path
    """The file of the rolled model that it begins with."""
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
        """SIGTERM, and what comes of it."""
        self.running.close()

    def roll(self, file: Path, version: str) -> None:
        self.replace(file)
        eventually(lambda: version_of(self.server, ROLLED) == version)

    def replace(self, file: Path) -> None:
        shutil.copy(file, self.models / "incoming")
        (self.models / "incoming").rename(self.models / f"{ROLLED}.safetensors")

    def signal(self, number: int) -> None:
        """To all its processes."""
        parent = psutil.Process(self.server.pid)
        for each in [parent, *parent.children(recursive=True)]:
            each.send_signal(number)


@dataclass(frozen=True)
class Swarm:
    replicas: list[Replica]
    balancer: Server
    tries: Path
    """A line a request: the addresses that it was sent to."""
    files: dict[str, Path]
    """Of the model that is to be rolled, by version: the one from before, and the one to come."""
    references: References

    @property
    def versions(self) -> tuple[str, str]:
        before, after = self.files
        return before, after


@pytest.fixture(scope="module")
def swarm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Swarm]:
    folder = tmp_path_factory.mktemp("swarm")
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
        yield Swarm(replicas, balancer, folder / "nginx" / "tries", files, references)


def references_of(replica: Replica) -> References:
    found = {}
    for wanted in [*WANTED, *(pinned(version_of(replica.server, ROLLED) or ""))]:
        answer = wanted.ask(replica.server)
        assert answer.status == 200, answer.body
        found[wanted, answer.headers["x-latentd-version"]] = answer.body
    return found


def pinned(version: str) -> list[Wanted]:
    return [generate(model=f"{ROLLED}@{version}", seed=5), generate("image/png", model=f"{ROLLED}@{version}", seed=5)]


def test_one_address(swarm: Swarm) -> None:
    balancer = swarm.balancer
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
    """Clients that ask, and ask again where they got no answer, until they are told to stop."""

    swarm: Swarm
    answered: int = 0
    failures: list[tuple[float, str]] = field(default_factory=list)
    """When a request began that had no answer, and what came instead."""
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
            answer = wanted.ask(self.swarm.balancer)
        except (OSError, http.client.HTTPException) as problem:
            self.failures.append((began, repr(problem)))
            return False
        if answer.status != 200:
            self.failures.append((began, f"{answer.status} {answer.body[:200]!r}"))
            return False
        assert is_right(wanted, answer, self.swarm.references), wanted
        with self.lock:
            self.answered += 1
        return True

    def goes_on(self) -> None:
        """Waits until every request was answered once more, on the mean."""
        before = self.answered
        eventually(lambda: self.answered >= before + len(WANTED), "the load stands still")


@contextmanager
def under_load(swarm: Swarm) -> Iterator[Load]:
    load = Load(swarm)
    with ThreadPoolExecutor(CLIENTS) as pool:
        clients: list[Future[None]] = [pool.submit(load.client, number) for number in range(CLIENTS)]
        try:
            yield load
        finally:
            load.stop.set()
    for client in clients:
        client.result()


def begin_endless(balancer: Server) -> http.client.HTTPResponse:
    """A stream that has begun, and that nobody reads on."""
    address = urlsplit(balancer.url)
    connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=300)
    connection.request("POST", ENDLESS.path, ENDLESS.body, {"Accept": ENDLESS.accept})
    answer = connection.getresponse()
    assert answer.status == 200
    return answer


def test_what_befalls_a_replica_no_client_notices(swarm: Swarm) -> None:
    for replica in swarm.replicas:
        assert all(is_right(wanted, wanted.ask(replica.server), swarm.references) for wanted in WANTED)
    with under_load(swarm) as load:
        load.goes_on()
        roll_under_pinned_requests(swarm)
        load.goes_on()

        swarm.replicas[0].drain()  # asserts that it ended with 0
        load.goes_on()
        swarm.replicas[0].start()
        load.goes_on()

        stream = begin_endless(swarm.balancer)
        beginning = stream.read(10_000)
        (victim,) = (each for each in swarm.replicas if stream.headers["x-replica"] == f"127.0.0.1:{each.port}")
        killed = kill_with_requests_under_way(victim, load)
        load.goes_on()
        assert_asked_again_of_others(victim, swarm)
        assert_stream_breaks_and_is_repeated(stream, beginning, swarm)
    # of what was asked when one was killed, only what had begun to be answered could not be asked again by nginx
    assert not [what for began, what in load.failures if began > killed or "IncompleteRead" not in what]
    for replica in swarm.replicas:
        if replica is not victim:
            assert version_of(replica.server, ROLLED) == swarm.versions[1]
            assert all(is_right(wanted, wanted.ask(replica.server), swarm.references) for wanted in WANTED)


def kill_with_requests_under_way(victim: Replica, load: Load) -> float:
    """Gives when."""
    victim.signal(signal.SIGSTOP)  # whatever is sent to it now waits
    load.goes_on()
    killed = time.monotonic()
    victim.signal(signal.SIGKILL)
    return killed


def assert_asked_again_of_others(victim: Replica, swarm: Swarm) -> None:
    assert [line for line in swarm.tries.read_text().splitlines() if line.startswith(f"127.0.0.1:{victim.port}, ")]


def assert_stream_breaks_and_is_repeated(stream: http.client.HTTPResponse, beginning: bytes, swarm: Swarm) -> None:
    assert b"event: frame" in beginning
    with pytest.raises(http.client.IncompleteRead) as broken:
        stream.read()
    came = beginning + broken.value.partial
    with begin_endless(swarm.balancer) as again:
        assert again.read(len(came)) == came


def roll_under_pinned_requests(swarm: Swarm) -> None:
    """To the new version, one replica after the other."""
    rolled, seen = threading.Event(), set()
    after = swarm.versions[1]

    def client() -> None:
        last = False
        while not last:
            last = rolled.is_set()
            for version in swarm.versions:
                for wanted in pinned(version):
                    answer = wanted.ask(swarm.balancer)
                    seen.add((version, answer.status))
                    if answer.status == 200:
                        assert answer.headers["x-latentd-version"] == version
                        assert is_right(wanted, answer, swarm.references)
                    else:
                        assert answer.error == (404, "version_not_served", "model")

    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(client)
        try:
            eventually(lambda: len(seen) == 2)  # of one version alone
            for replica in swarm.replicas:
                replica.roll(swarm.files[after], after)
        finally:
            rolled.set()
        asking.result()
    assert seen == {(version, status) for version in swarm.versions for status in (200, 404)}
