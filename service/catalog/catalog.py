"""The served models, kept up to date with their files.

The catalog scans its files three times per second, which works on every file system. A new version is loaded and
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

from latentd.models.errors import CheckpointError
from latentd.models.files import printable
from latentd.models.names import CatalogFile
from latentd.service.catalog.files import ChangeDetector, Scan, sidecars_of
from latentd.service.catalog.loader import Loader
from latentd.service.catalog.names import Names, NameTable, changes
from latentd.service.catalog.promotion_files import PromotionFiles
from latentd.service.catalog.served import Deployment, LoadFailure, ServedModel
from latentd.service.engine import EngineClosedError
from latentd.service.errors import ApiError
from latentd.service.telemetry import Telemetry

logger = logging.getLogger("latentd.catalog")

_SCAN_SECONDS = 0.3
_MAX_REPORT = 1000
"""Characters of a reported path or error."""


class Catalog:
    """The served models. `names` and `failures` are replaced and never modified, so readers need no lock."""

    def __init__(
        self,
        paths: Callable[[], Iterable[Path]],
        loader: Loader,
        default_name: str,
        memory: int,
        telemetry: Telemetry,
    ) -> None:
        """`paths` returns the folders and files to serve.

        `memory`: the limit for bytes of weights on the device. A single model may exceed it.
        """
        self._telemetry = telemetry
        self.names = Names()
        self.failures: list[LoadFailure] = []
        self._changes = ChangeDetector(paths)
        self._loader = loader
        self._default_name = default_name
        self._memory = memory
        self._by_file: dict[CatalogFile, ServedModel] = {}
        self._failure_of: dict[Path, LoadFailure] = {}
        self._scanned = Scan()
        self._promotions = PromotionFiles()
        self._table = NameTable()
        self._loading = threading.RLock()
        self._reloader = ThreadPoolExecutor(1, thread_name_prefix="latentd-reload")
        self._stopped = threading.Event()
        self._watcher = threading.Thread(target=self._watch, name="latentd-catalog", daemon=True)

    def start(self) -> None:
        """Load the models, then watch their files on a thread."""
        self._update(*self._changes.scan(wait_until_stable=False))
        if self.default is None:
            logger.error("no model is served to requests that name none; GET /models says what there is")
        elif self.default.name != self._default_name:
            logger.warning("there is no model %r; %s is the default", self._default_name, self.default.name)
        self._watcher.start()

    def close(self) -> None:
        """Stop watching the files."""
        self._stopped.set()
        self._watcher.join()
        self._reloader.shutdown(wait=False, cancel_futures=True)

    @property
    def models(self) -> Mapping[str, ServedModel]:
        """The models that plain names refer to now: names of models, and of finished runs."""
        return self.names.models

    @property
    def default(self) -> ServedModel | None:
        """The model of requests that name none."""
        return self.names.default(self._default_name)

    def find(self, reference: str | None) -> ServedModel:
        """Return the model that `name` or `name@version` refers to, or the default. Raises ApiError 404."""
        if reference is not None:
            return self.names.find(reference)
        if (default := self.default) is None:
            raise ApiError(404, "unknown_model", "no model is the default; GET /models says what there is", "model")
        return default

    async def ensure_deployed(self, model: ServedModel) -> Deployment:
        """Return the model on its device; load it if it is not there. Raises ApiError 503 if that fails."""
        model.last_used = time.monotonic()
        deployment = model.deployment  # read once: another thread may evict the model
        if deployment is not None:
            return deployment
        return await asyncio.get_running_loop().run_in_executor(self._reloader, self._load_for_request, model)

    def weights_on_device(self) -> Mapping[str, int]:
        """Return the bytes of weights on the device for each name, over all of its versions."""
        sizes = dict.fromkeys(self.names.models, 0)
        for model in self.names.versions.values():
            if model.deployment is not None:
                sizes[model.name] = sizes.get(model.name, 0) + model.weight_bytes
        return sizes

    def _load_for_request(self, model: ServedModel) -> Deployment:
        with self._loading:
            before = (
                "was evicted from the device, and cannot be loaded again" if model.was_loaded else "cannot be loaded"
            )
            if model.deployment is None:
                try:
                    self._load_again(model)
                except CheckpointError as problem:
                    self._publish()
                    message = f"{model.name} {before}: {problem}"
                    raise ApiError(503, "model_unavailable", message, "model") from problem
            deployment = model.deployment
            assert deployment is not None  # noqa: S101  # for mypy
            self._evict(keep=model)
            return deployment

    def _load_again(self, model: ServedModel) -> None:
        """Put a model on the device. If that fails the first time, report its file and stop serving it."""
        try:
            self._loader.load_again(model)
        except CheckpointError as problem:
            self._telemetry.model_load_failures.add()
            if not model.was_loaded:
                for file in [file for file in self._by_file if file.path == model.file]:
                    del self._by_file[file]
                self._report(model.file, str(problem))
            raise
        self._telemetry.model_loads.add()
        logger.info("%s is on the device", model.reference)

    def _watch(self) -> None:
        while not self._stopped.wait(_SCAN_SECONDS):
            try:
                self._update(*self._changes.scan())
            except EngineClosedError:
                return
            except Exception:
                logger.exception("looking for changed models failed; trying again in %s s", _SCAN_SECONDS)

    def _update(self, scan: Scan, changed: list[CatalogFile]) -> None:
        """Load the `changed` files, forget those that are gone, and publish the result."""
        with self._loading:
            is_other = self._promotions.update(scan.promotions) | (scan.runs != self._scanned.runs)
            if not (self._forget(scan) or changed or is_other):
                return
            self._scanned = scan
        for file in changed:
            self._load(file)
            if not file.is_lazy:
                self._publish()
        self._load_promoted()
        self._publish()
        _return_memory()
        self._loader.free_device_memory()

    def _forget(self, scan: Scan) -> bool:
        """Forget the files that are gone or cannot be read. Return whether there are any."""
        existing = {path for file in scan.stamps for path in (file.path, *sidecars_of(file.path))} | set(
            scan.unreadable
        )
        not_loaded_yet = {(file.path.name, file.run) for file in scan.stamps if file not in self._by_file}
        gone = [
            file
            for file in self._by_file
            # a removed file is served until a file of the same name, which may replace it, is loaded
            if file.path not in existing and (file.path.name, file.run) not in not_loaded_yet
        ]
        newly_unreadable = [path for path in scan.unreadable if path not in self._failure_of]
        failures_gone = self._failure_of.keys() - existing
        for path in failures_gone:
            del self._failure_of[path]
        for file in gone + [file for file in self._by_file if file.path in newly_unreadable]:
            del self._by_file[file]
        for path in newly_unreadable:
            self._report(path, scan.unreadable[path])
        return bool(gone or newly_unreadable or failures_gone)

    def _load(self, file: CatalogFile) -> None:
        with self._loading:
            try:
                model = self._loader.load(file, self._by_file.get(file))
            except CheckpointError as problem:
                self._telemetry.model_load_failures.add()
                self._report(file.path, str(problem))
                return
            except EngineClosedError:
                raise
            except Exception as problem:
                logger.exception("loading %s failed", printable(str(file.path)))
                self._telemetry.model_load_failures.add()
                self._report(file.path, f"loading it failed: {problem}")
                return
            model.last_used = time.monotonic()
            self._by_file[file] = model
            for path in (file.path, *sidecars_of(file.path)):
                self._failure_of.pop(path, None)
            for path, error in model.unusable_sidecars.items():
                self._report(path, error)
            if model.deployment is None:
                logger.info("%s is in %s", model.reference, printable(str(file.path)))
                return
            self._telemetry.model_loads.add()
            logger.info("serving %s from %s", model.reference, printable(str(file.path)))
            self._evict(keep=model)

    def _load_promoted(self) -> None:
        """Load the promoted versions that are not loaded. If a file fails, try another file of the version."""
        for name, version in self._promotions.promotions.current.items():
            with self._loading:
                while model := self._resolve().versions.get((name, version)):
                    if model.was_loaded:
                        break
                    model.last_used = time.monotonic()
                    with suppress(CheckpointError):
                        self._load_again(model)
                        self._evict(keep=model)

    def _resolve(self) -> Names:
        """Resolve all names with the files that are known now."""
        order = [*(self._by_file.keys() - self._scanned.stamps.keys()), *self._scanned.stamps]
        files = {file: self._by_file[file] for file in order if file in self._by_file}
        unknown = {file.stem for file in self._scanned.stamps if file.path.parent in self._promotions.never_read}
        return self._table.resolve(files, self._scanned.runs, self._promotions.promotions, self.names, unknown)

    def _publish(self) -> None:
        with self._loading:
            names, before = self._resolve(), self.names
            for line in changes(before, names):
                logger.info("%s", line)
            for name in before.models.keys() & names.models.keys():
                if before.models[name].version != names.models[name].version:
                    self._telemetry.model_swaps.add()
            self._telemetry.set_served(names.plain, names.all)
            # failures first, so that a reader who sees the new names also sees their failures
            self.failures = [*self._failure_of.values(), *self._failures_of_promotions(names)]
            self.names = names

    def _failures_of_promotions(self, names: Names) -> list[LoadFailure]:
        unreadable = [_failure(path, error) for path, error in self._promotions.errors.items()]
        return unreadable + [
            LoadFailure(f"{name}@{names.missing[name]}.safetensors", _missing(name, names))
            for name in sorted(names.missing)
        ]

    def _evict(self, keep: ServedModel) -> None:
        """Take the least recently used models off the device until the others fit into the memory."""
        known = {*self._by_file.values(), *self._table.aliases, *self.names.models.values(), keep}
        resident = [model for model in known if model.deployment is not None]
        used = sum(model.weight_bytes for model in resident)
        for model in sorted(resident, key=lambda each: each.last_used):
            if used <= self._memory:
                return
            if model is not keep and model.deployment is not None:
                # an executor may have dropped sizes that did not fit into the memory
                model.calibrations = [stage.executor.calibration for stage in model.deployment.stages]
                model.deployment = None
                used -= model.weight_bytes
                self._telemetry.model_evictions.add()
                logger.info("%s is evicted from the device", model.reference)

    def _report(self, path: Path, error: str) -> None:
        """Log and list a file that is not served."""
        failure = _failure(path, error)
        kept = next((model for file, model in self._by_file.items() if file.path == path), None)
        still = f"; {kept.reference} is still served" if kept else ""
        logger.error("%s is not served: %s%s", printable(str(path))[:_MAX_REPORT], failure.error, still)
        self._failure_of[path] = failure


def _failure(path: Path, error: str) -> LoadFailure:
    """Return a failure with a printable, short name and error."""
    return LoadFailure(*(printable(text)[:_MAX_REPORT] for text in (path.name, error)))


def _missing(name: str, names: Names) -> str:
    """Return the error for a name whose promoted version has no file, with what to do."""
    kept = names.models.get(name)
    still = f"; {kept.reference} is still served from memory" if kept else f"; requests for {name} are refused"
    return f"this version is promoted, and no file has it: put a file back, or latentd rollback {name}{still}"


def _return_memory() -> None:
    """Return the memory of replaced versions to the system."""
    gc.collect()
    with suppress(OSError, AttributeError):  # malloc_trim exists only in glibc
        ctypes.CDLL(None).malloc_trim(0)
