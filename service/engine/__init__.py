"""The batching engine keeps a device busy with the samples of many requests. It imports neither HTTP nor BentoML."""

from latentd.service.engine.calibration import Calibration, calibrate, draw_calibration_rows
from latentd.service.engine.delivery import BatchFailedError
from latentd.service.engine.engine import Engine, EngineClosedError, QueueFullError
from latentd.service.engine.executor import ForwardResult, NotFiniteError, OutOfMemoryError, Runner, StageExecutor
from latentd.service.engine.observer import BatchReport, Observer, Observers

__all__ = [
    "BatchFailedError",
    "BatchReport",
    "Calibration",
    "Engine",
    "EngineClosedError",
    "ForwardResult",
    "NotFiniteError",
    "Observer",
    "Observers",
    "OutOfMemoryError",
    "QueueFullError",
    "Runner",
    "StageExecutor",
    "calibrate",
    "draw_calibration_rows",
]
