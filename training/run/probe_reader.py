"""Takes readings of the collapse probe."""

from dataclasses import asdict

from latentd.training.run.callback import ActiveRun, Callback, PeriodicCallback
from latentd.training.run.collapse_probe import ProbeReading
from latentd.training.run.generator_probe import GeneratorProbe


class ProbeReader(PeriodicCallback):
    """Takes a reading whenever there is time for one."""

    time_fraction = 1 / 60

    def __init__(self, probe: GeneratorProbe) -> None:
        self._probe = probe

    def act(self, run: ActiveRun) -> None:
        if reading := self._probe.read():
            run.log("vitals", _as_vitals(reading))
            run.tell(Callback.on_reading, reading)


def _as_vitals(reading: ProbeReading) -> dict[str, float]:
    """Return a reading by the names that `metrics.jsonl` has had from the beginning."""
    values = asdict(reading)
    values["certainty"] = values.pop("discriminator_auc")
    return {name: value for name, value in values.items() if value is not None}
