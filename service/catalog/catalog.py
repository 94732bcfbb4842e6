"""Models by name, kept in step with their files while the service runs.

A file that is new, changed or gone is noticed by looking three times a second, which works on every file system. The
new version is loaded and calibrated beside the old one, which serves until it is swapped in one assignment; batches
under way finish with the version that they began with. A bad file changes nothing but the log and `failures`.
"""

import asyncio
import ctypes
import gc
import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType

from latentd.models.checkpoint import CheckpointError
from latentd.models.files import printable
from latentd.service.catalog.files import Changes, Seen, sidecars_of
from latentd.service.catalog.loader import Loader
from latentd.service.catalog.served import Deployment, LoadFailure, ServedModel
from latentd.service.engine import EngineClosedError
from latentd.service.errors import ApiError
from latentd.service.telemetry import Telemetry

logger = logging.getLogger("latentd.catalog")

_LOOK_SECONDS = 0.3
_LONGEST_REPORT = 1000


class Catalog:
    """What is served. `models` and `failures` are replaced, never changed, so that readers need no lock."""

    def __init__(
        self,
        places: Callable[[], Iterable[Path]],
        loader: Loader,
        default_name: str,
        memory: int,
        telemetry: Telemetry,
    ) -> None:
        """`memory`: bytes of weights that may be on the device; the model in use may exceed it alone."""
        self._telemetry = telemetry
        self.models: Mapping[str, ServedModel] = MappingProxyType({})
        self.failures: list[LoadFailure] = []
        self._changes = Changes(places)
        self._loader = loader
        self._default_name = default_name
        self._memory = memory
        self._by_file: dict[Path, ServedModel] = {}
        self._failed: dict[Path, LoadFailure] = {}
        self._loading = threading.Lock()
        self._reloader = ThreadPoolExecutor(1, thread_name_prefix="latentd-reload")
        self._stopped = threading.Event()
        self._watcher = threading.Thread(target=self._watch, name="latentd-catalog", daemon=True)

    def start(self) -> None:
        """Load what is there, then go on watching."""
        self._update(*self._changes.look(wait_until_still=False))
        if self.default is None:
            logger.error("no model is served; GET /models says why")
        elif self.default.name != self._default_name:
            logger.warning("there is no model %r; %s is the default", self._default_name, self.default.name)
        self._watcher.start()

    def close(self) -> None:
        """Watch no more."""
        self._stopped.set()
        self._watcher.join()
        self._reloader.shutdown(wait=False, cancel_futures=True)

    @property
    def default(self) -> ServedModel | None:
        """What a request gets that names no model: the configured default, else the first by name."""
        models = self.models
        return models.get(self._default_name) or next((models[name] for name in sorted(models)), None)

    def find(self, reference: str | None) -> ServedModel:
        """The model that `name` or `name@version` refers to, or the default; ApiError 404 where there is none."""
        if reference is None:
            if (default := self.default) is None:
                raise ApiError(404, "unknown_model", "no model is served; GET /models says why", "model")
            return default
        name, at, version = reference.partition("@")
        model = self.models.get(name)
        if model is None:
            known = ", ".join(sorted(self.models))
            raise ApiError(404, "unknown_model", f"there is no model {name!r}; served are {known}", "model")
        if at and version != model.version:
            message = f"{name} is served in version {model.version}, not {version!r}"
            raise ApiError(404, "version_not_served", message, "model")
        return model

    async def ensure_deployed(self, model: ServedModel) -> Deployment:
        """`model` on its device, loaded again where it had to make room for others; ApiError 503 if it cannot be."""
        model.last_used = time.monotonic()
        deployment = model.deployment  # once: another thread may take it off the device
        if deployment is not None:
            return deployment
        return await asyncio.get_running_loop().run_in_executor(self._reloader, self._load_again, model)

    def _load_again(self, model: ServedModel) -> Deployment:
        with self._loading:
            if model.deployment is None:
                try:
                    model.deployment = self._loader.load_again(model)
                except CheckpointError as problem:
                    self._telemetry.model_load_failures.add()
                    message = f"{model.name} left the device to make room, and cannot be loaded again: {problem}"
                    raise ApiError(503, "model_unavailable", message, "model") from problem
                self._telemetry.model_loads.add()
                logger.info("%s@%s is on the device again", model.name, model.version)
            deployment = model.deployment
            assert deployment is not None  # noqa: S101  # for mypy
            self._make_room(keep=model)
            return deployment

    def _watch(self) -> None:
        while not self._stopped.wait(_LOOK_SECONDS):
            try:
                self._update(*self._changes.look())
            except EngineClosedError:
                return
            except Exception:
                logger.exception("looking for changed models failed; the next look is in %s s", _LOOK_SECONDS)

    def _update(self, seen: Seen, changed: list[Path]) -> None:
        """Load what `changed`, forget what is gone, and swap in the result."""
        there = {each for file in seen.stamps for each in (file, *sidecars_of(file))}
        gone = (set(self._by_file) | set(self._failed)) - there - set(seen.missing)
        gone -= {file for file in self._by_file if file.name in self._coming(seen)}
        news = [file for file in seen.missing if file not in self._failed]
        if not (changed or gone or news):
            return
        with self._loading:
            for file in gone:
                self._failed.pop(file, None)
                self._by_file.pop(file, None)
            for place in news:
                self._by_file.pop(place, None)
                self._report(place, seen.missing[place])
        for file in changed:
            self._load(file)
            self._publish(seen)
        self._publish(seen)
        _return_memory()
        self._loader.free_device_memory()

    def _coming(self, seen: Seen) -> set[str]:
        """Names of files that are there and not loaded: what was served under such a name goes on until they are."""
        return {file.name for file in seen.stamps if file not in self._by_file}

    def _load(self, file: Path) -> None:
        with self._loading:
            try:
                model = self._loader.load(file, self._by_file.get(file))
            except CheckpointError as problem:
                self._telemetry.model_load_failures.add()
                self._report(file, str(problem))
                return
            except EngineClosedError:
                raise
            except Exception as problem:
                logger.exception("loading %s failed", printable(str(file)))
                self._telemetry.model_load_failures.add()
                self._report(file, f"loading it failed: {problem}")
                return
            model.last_used = time.monotonic()
            self._telemetry.model_loads.add()
            self._by_file[file] = model
            for path in (file, *sidecars_of(file)):
                self._failed.pop(path, None)
            for path, error in model.unusable_sidecars.items():
                self._report(path, error)
            logger.info("serving %s@%s from %s", model.name, model.version, printable(str(file)))
            self._make_room(keep=model)

    def _publish(self, seen: Seen) -> None:
        models: dict[str, ServedModel] = {}
        for file in [*(set(self._by_file) - set(seen.stamps)), *seen.stamps]:
            if (model := self._by_file.get(file)) is None:
                continue
            if (hidden := models.get(model.name)) is not None and model is not self.models.get(model.name):
                logger.info("%s hides %s", printable(str(file)), printable(str(hidden.file)))
            models[model.name] = model
        for name in set(self.models) - set(models):
            logger.info("%s is not served any more: its file is gone", name)
        for name in set(self.models) & set(models):
            if self.models[name].version != models[name].version:
                self._telemetry.model_swaps.add()
        self._telemetry.set_served(models.keys())
        self.failures = list(self._failed.values())  # first: who sees a new model sees what was wrong beside it
        self.models = MappingProxyType(models)

    def _make_room(self, keep: ServedModel) -> None:
        """Take the least recently used models off the device until the rest fits."""
        resident = [model for model in {*self._by_file.values(), keep} if model.deployment is not None]
        used = sum(model.weight_bytes for model in resident)
        for model in sorted(resident, key=lambda each: each.last_used):
            if used <= self._memory:
                return
            if model is not keep and model.deployment is not None:
                # one may have learnt of a lack of memory
                model.calibrations = [executor.calibration for executor in model.deployment.executors]
                model.deployment = None
                used -= model.weight_bytes
                self._telemetry.model_evictions.add()
                logger.info("%s@%s leaves the device to make room", model.name, model.version)

    def _report(self, file: Path, error: str) -> None:
        """Log and list a file that is not served. File names are bytes that need not be text; errors can be long."""
        name, path, error = (printable(text)[:_LONGEST_REPORT] for text in (file.name, str(file), error))
        kept = self._by_file.get(file)
        still = f"; {kept.name}@{kept.version} is still served" if kept else ""
        logger.error("%s is not served: %s%s", path, error, still)
        self._failed[file] = LoadFailure(name, error)


def _return_memory() -> None:
    """Give what a version that was replaced has left behind back to the system."""
    gc.collect()
    with suppress(OSError, AttributeError):  # not glibc
        ctypes.CDLL(None).malloc_trim(0)
