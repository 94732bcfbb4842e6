"""Train generators and serve them: the same model version, seed and parameters give the same bytes every time.

    >>> import latentd
    >>> model = latentd.load("fashion-dcgan")
    >>> model.sample(seeds=range(4)).images()

`import latentd` is cheap: PyTorch is loaded with the first name that needs it.
"""

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    __version__: str
    from latentd._model import Model, load
    from latentd._runs import Run, evaluate, train
    from latentd._samples import Samples
    from latentd.models.errors import LatentdError
    from latentd.training.evaluation.evaluate import MetricResult
    from latentd.training.run.callback import ActiveRun, Callback

_FOLDER = Path(__file__).parent
if not (_FOLDER / "models").is_dir():  # a Bento keeps no links: its packages lie beside this folder
    __path__.append(str(_FOLDER.parent))

__all__ = [
    "ActiveRun",
    "Callback",
    "LatentdError",
    "MetricResult",
    "Model",
    "Run",
    "Samples",
    "evaluate",
    "load",
    "train",
]

_HOMES = {
    "ActiveRun": "latentd.training.run.callback",
    "Callback": "latentd.training.run.callback",
    "LatentdError": "latentd.models.errors",
    "MetricResult": "latentd.training.evaluation.evaluate",
    "Model": "latentd._model",
    "Run": "latentd._runs",
    "Samples": "latentd._samples",
    "evaluate": "latentd._runs",
    "load": "latentd._model",
    "train": "latentd._runs",
}


def __getattr__(name: str) -> Any:
    """Import a public name on its first use (PEP 562). `__version__` is that of the installed package."""
    if name == "__version__":
        from latentd.models.packages import package_version

        value: Any = package_version("latentd")
    elif name in _HOMES:
        value = getattr(import_module(_HOMES[name]), name)
    else:
        raise AttributeError(f"module 'latentd' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
