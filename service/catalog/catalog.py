"""The served models by name, kept up to date with their files.

The catalog scans its files three times a second, which works on every file system. A new version is loaded and
calibrated beside the old one, which serves until it is replaced in one assignment. Batches in progress finish with the
version that they began with. A bad file changes only the log and `failures`.
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

from latentd.models.errors import CheckpointError
from latentd.models.files import printable
from latentd.service.catalog.files import ChangeDetector, Scan, sidecars_of
from latentd.service.catalog.loader import Loader
from latentd.service.catalog.served import Deployment, LoadFailure, ServedModel
from latentd.service.engine import EngineClosedError
from latentd.service.errors import ApiError
from latentd.service.telemetry import Telemetry

logger = logging.getLogger("latentd.catalog")

_SCAN_SECONDS = 0.3
_MAX_REPORT = 1000
"""Characters of a reported path or error."""


class Catalog:
    """The served models. `models` and `failures` are replaced and never modified, so readers need no lock."""

    def __init__(
        self,
        paths: Callable[[], Iterable[Path]],
        loader: Loader,
        default_name: str,
        memory: int,
        telemetry: Telemetry,
    ) -> None:
        """`paths` returns the folders and files to serve. `memory`: the most bytes of weights on the device at a time,
        which a single model may exceed.
        """
        self._telemetry = telemetry
        self.models: Mapping[str, ServedModel] = MappingProxyType({})
        self.failures: list[LoadFailure] = []
        self._changes = ChangeDetector(paths)
        self._loader = loader
        self._default_name = default_name
        self._memory = memory
        self._by_file: dict[Path, ServedModel] = {}
        self._failure_of: dict[Path, LoadFailure] = {}
        self._loading = threading.Lock()
        self._reloader = ThreadPoolExecutor(1, thread_name_prefix="latentd-reload")
        self._stopped = threading.Event()
        self._watcher = threading.Thread(target=self._watch, name="latentd-catalog", daemon=True)

    def start(self) -> None:
        """Load the models, then watch their files on a thread."""
        self._update(*self._changes.scan(wait_until_stable=False))
        if self.default is None:
            logger.error("no model is served; GET /models says why")
        elif self.default.name != self._default_name:
            logger.warning("there is no model %r; %s is the default", self._default_name, self.default.name)
        self._watcher.start()

    def close(self) -> None:
        """Stop watching the files."""
        self._stopped.set()
        self._watcher.join()
        self._reloader.shutdown(wait=False, cancel_futures=True)

    @property
    def default(self) -> ServedModel | None:
        """The model of requests that name none: the configured one, or else the first by name."""
        models = self.models
        return models.get(self._default_name) or next((models[name] for name in sorted(models)), None)

    def find(self, reference: str | None) -> ServedModel:
        """Return the model that `name` or `name@version` refers to, or the default. Raises ApiError 404."""
        if reference is None:
            if (default := self.default) is None:
                raise ApiError(404, "unknown_model", "no model is served; GET /models says why", "model")
            return default
        name, at, version = reference.partition("@")
        model = self.models.get(name)
        if model is None:
            served = ", ".join(sorted(self.models))
            raise ApiError(404, "unknown_model", f"there is no model {name!r}; the models are {served}", "model")
        if at and version != model.version:
            message = f"{name} is served in version {model.version}, not {version!r}"
            raise ApiError(404, "version_not_served", message, "model")
        return model

    async def ensure_deployed(self, model: ServedModel) -> Deployment:
        """Return the model on its device; load it again if it was evicted. Raises ApiError 503 if that fails."""
        model.last_used = time.monotonic()
        deployment = model.deployment  # read once: another thread may evict the model
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
                    message = f"{model.name} was evicted from the device, and cannot be loaded again: {problem}"
                    raise ApiError(503, "model_unavailable", message, "model") from problem
                self._telemetry.model_loads.add()
                logger.info("%s@%s is on the device again", model.name, model.version)
            deployment = model.deployment
            assert deployment is not None  # noqa: S101  # for mypy
            self._evict(keep=model)
            return deployment

    def _watch(self) -> None:
        while not self._stopped.wait(_SCAN_SECONDS):
            try:
                self._update(*self._changes.scan())
            except EngineClosedError:
                return
            except Exception:
                logger.exception("looking for changed models failed; trying again in %s s", _SCAN_SECONDS)

    def _update(self, scan: Scan, changed: list[Path]) -> None:
        """Load the `changed` files, forget those that are gone, and publish the result."""
        existing = {path for file in scan.stamps for path in (file, *sidecars_of(file))}
        gone = (set(self._by_file) | set(self._failure_of)) - existing - set(scan.unreadable)
        gone -= {file for file in self._by_file if file.name in self._not_loaded_yet(scan)}
        newly_unreadable = [path for path in scan.unreadable if path not in self._failure_of]
        if not (changed or gone or newly_unreadable):
            return
        with self._loading:
            for path in gone:
                self._failure_of.pop(path, None)
                self._by_file.pop(path, None)
            for path in newly_unreadable:
                self._by_file.pop(path, None)
                self._report(path, scan.unreadable[path])
        for file in changed:
            self._load(file)
            self._publish(scan)
        self._publish(scan)
        _return_memory()
        self._loader.free_device_memory()

    def _not_loaded_yet(self, scan: Scan) -> set[str]:
        """Return the names of files that exist and are not loaded. A file of such a name is served until they are."""
        return {file.name for file in scan.stamps if file not in self._by_file}

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
                self._failure_of.pop(path, None)
            for path, error in model.unusable_sidecars.items():
                self._report(path, error)
            logger.info("serving %s@%s from %s", model.name, model.version, printable(str(file)))
            self._evict(keep=model)

    def _publish(self, scan: Scan) -> None:
        models: dict[str, ServedModel] = {}
        for file in [*(set(self._by_file) - set(scan.stamps)), *scan.stamps]:
            if (model := self._by_file.get(file)) is None:
                continue
            if (hidden := models.get(model.name)) is not None and model is not self.models.get(model.name):
                logger.info("%s hides %s", printable(str(file)), printable(str(hidden.file)))
            models[model.name] = model
        for name in set(self.models) - set(models):
            logger.info("%s is no longer served: its file is gone", name)
        for name in set(self.models) & set(models):
            if self.models[name].version != models[name].version:
                self._telemetry.model_swaps.add()
        self._telemetry.set_served(models.keys())
        # failures first: whoever sees a new model also sees what failed beside it
        self.failures = list(self._failure_of.values())
        self.models = MappingProxyType(models)

    def _evict(self, keep: ServedModel) -> None:
        """Take the least recently used models off the device until the others fit into the memory."""
        resident = [model for model in {*self._by_file.values(), keep} if model.deployment is not None]
        used = sum(model.weight_bytes for model in resident)
        for model in sorted(resident, key=lambda each: each.last_used):
            if used <= self._memory:
                return
            if model is not keep and model.deployment is not None:
                # an executor may have given up sizes that did not fit into the memory
                model.calibrations = [stage.executor.calibration for stage in model.deployment.stages]
                model.deployment = None
                used -= model.weight_bytes
                self._telemetry.model_evictions.add()
                logger.info("%s@%s is evicted from the device", model.name, model.version)

    def _report(self, file: Path, error: str) -> None:
        """Log and list a file that is not served. File names may not be valid text, and errors may be long."""
        name, path, error = (printable(text)[:_MAX_REPORT] for text in (file.name, str(file), error))
        kept = self._by_file.get(file)
        still = f"; {kept.name}@{kept.version} is still served" if kept else ""
        logger.error("%s is not served: %s%s", path, error, still)
        self._failure_of[file] = LoadFailure(name, error)


def _return_memory() -> None:
    """Return the memory of replaced versions to the system."""
    gc.collect()
    with suppress(OSError, AttributeError):  # malloc_trim exists only in glibc
        ctypes.CDLL(None).malloc_trim(0)
