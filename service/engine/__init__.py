"""The batching engine: keeps a device full of samples from many requests. Knows neither HTTP nor BentoML."""

from service.engine.calibration import Calibration, calibrate, draw_probes
from service.engine.engine import BatchFailedError, Engine, EngineClosedError, QueueFullError
from service.engine.observer import BatchReport, Observer, Observers, requester
from service.engine.replica import Computed, NotFiniteError, OutOfMemoryError, Replica, Runner
from service.engine.room import Room, client

__all__ = [
    "BatchFailedError",
    "BatchReport",
    "Calibration",
    "Computed",
    "Engine",
    "EngineClosedError",
    "NotFiniteError",
    "Observer",
    "Observers",
    "OutOfMemoryError",
    "QueueFullError",
    "Replica",
    "Room",
    "Runner",
    "calibrate",
    "client",
    "draw_probes",
    "requester",
]
