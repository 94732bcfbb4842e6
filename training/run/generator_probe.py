"""Readings of the collapse probe for an algorithm's generator. Samples are drawn a few at a time."""

from collections.abc import Iterable, Iterator
from operator import itemgetter

import torch
from torch import Tensor

from latentd.training.algorithms.base import Algorithm
from latentd.training.data.chunks import chunks, joined
from latentd.training.data.loader import as_batch
from latentd.training.data.source import Batch, DataSource
from latentd.training.randomness import generator_for, seed_for
from latentd.training.run.collapse_probe import CollapseProbe, ProbeReading

_MAX_REAL, _MIN_REAL = 1280, 50
"""Number of real samples for the probe. With fewer than the minimum there are no readings."""
_SHOWN_ONE_IN = 5
"""One of so many of these is shown to the discriminator; the others stand for the data."""
_PROBED_SAMPLES = 256
_MARGIN = 1.25
"""`reach` is beyond the data by this factor."""


class GeneratorProbe:
    """Takes readings of an algorithm's generator, with fixed latents and fixed real samples."""

    def __init__(self, algorithm: Algorithm, source: DataSource) -> None:
        self._algorithm = algorithm
        self._source = source
        self._spec = algorithm.ema.generator.spec
        self._device = next(algorithm.ema.generator.parameters()).device
        self._seed = seed_for(algorithm.seed, "vitals")
        self._count = min(_MAX_REAL, source.card.size or _MAX_REAL)
        self._num_shown = self._count // _SHOWN_ONE_IN
        features, condition = self._observe(self._real(self._count))
        self.reach = _MARGIN * float(features.abs().max())
        """The largest absolute value of the data's features, and a little more."""
        self._probe: CollapseProbe | None = None
        if self._count < _MIN_REAL:
            return
        rows = torch.arange(_PROBED_SAMPLES, device=self._device) % self._num_shown
        self._condition = None if condition is None else condition[rows]
        self._latents = algorithm.probe_inputs(_PROBED_SAMPLES, self._seed)
        random = generator_for(self._seed, "clusters")
        self._probe = CollapseProbe(features[self._num_shown :], features[: self._num_shown], random)

    @torch.no_grad()
    def read(self) -> ProbeReading | None:
        """Return a reading; None if there is too little data, or if samples are not finite."""
        if self._probe is None:
            return None
        features, logits = list[Tensor](), list[Tensor | None]()
        for batch in self._generated():
            features.append(self._features(batch))
            logits.append(self._algorithm.logits(batch))
        found = torch.cat(features)
        if not found.isfinite().all():
            return None
        real_logits = [self._algorithm.logits(batch) for batch in self._real(self._num_shown)]
        return self._probe.read(found, joined(real_logits), joined(logits))

    def _real(self, count: int) -> Iterator[Batch]:
        """Yield the first `count` real samples of the probe, the same ones each time."""
        for rows in chunks(count, self._spec.output.shape):
            drawn = self._source.draw(self._count, self._seed, select=itemgetter(rows))
            yield as_batch(*next(drawn), self._spec.condition, self._device)

    def _generated(self) -> Iterator[Batch]:
        for rows in chunks(_PROBED_SAMPLES, self._spec.output.shape):
            condition = None if self._condition is None else self._condition[rows]
            yield Batch(self._algorithm.ema.generator(self._latents[rows], condition), condition)

    def _observe(self, batches: Iterable[Batch]) -> tuple[Tensor, Tensor | None]:
        """Return the features [N, F] and the conditions [N, ...] of all samples."""
        seen = [(self._features(batch), batch.condition) for batch in batches]
        return torch.cat([features for features, _ in seen]), joined([condition for _, condition in seen])

    def _features(self, batch: Batch) -> Tensor:
        return torch.from_numpy(self._spec.output.features(batch.samples.float().cpu().numpy()))
