"""The space a team moves in: the layouts that the validator approves, with what the cost model expects of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fyc.errors import NothingFitsError
from fyc.plan.cost.rates import Correction
from fyc.plan.edits import Edit
from fyc.plan.estimate import Estimate, Estimates, estimate
from fyc.plan.job import Job
from fyc.plan.layout import Ints, Layout, Layouts
from fyc.plan.legal import Limits, legal_layouts, violations

_FIELDS = ("tp", "pp", "vpp", "cp", "ep", "micro_batch", "recompute", "zero")


@dataclass(frozen=True)
class Space:
    """Layouts that may be tried.

    Attributes:
        job: what is trained.
        estimates: of all layouts; only those that `fits` says fit are approved.
        measured: whether the layouts are those somebody measured, so that memory forbids none of them.
    """

    job: Job
    estimates: Estimates
    measured: bool = False
    correction: Correction | None = None

    @classmethod
    def of(
        cls,
        job: Job,
        among: Sequence[Layout] | None = None,
        limits: Limits | None = None,
        correction: Correction | None = None,
    ) -> Space:
        """The space of a job: every legal layout, or `among` where an executor can try only those.

        Raises:
            NothingFitsError: FYC-L08, it is empty.
        """
        layouts = legal_layouts(job, limits) if among is None else list(among)
        if not layouts:
            raise NothingFitsError("FYC-L08", "no layout is legal for this model, cluster and batch")
        return cls(job, estimate(job, Layouts.of(layouts), correction), among is not None, correction)

    def learned(self, correction: Correction) -> Space:
        """The same layouts as a calibrated cost model sees them."""
        return Space(self.job, estimate(self.job, self.estimates.layouts, correction), self.measured, correction)

    def approve(self, layout: Layout) -> list[str]:
        """Why a layout may not be tried; empty if it may. This is the validator: nothing overrules it."""
        if self.measured:
            return [] if self._index(layout) is not None else ["nobody measured this layout"]
        broken = violations(self.job, layout)
        if broken:
            return broken
        one = self.expected(layout)
        if not one.fits:
            limit = self.job.cluster.gpu.memory_gib.value - self.job.cluster.reserve_gib
            return [f"it needs {one.peak_memory_gib:.1f} GiB on a GPU, {limit:.1f} GiB may be used"]
        return []

    def expected(self, layout: Layout) -> Estimate:
        """What the cost model expects of a layout."""
        return estimate(self.job, Layouts.of([layout]), self.correction).one(0)

    def best(self, count: int) -> list[Layout]:
        """The layouts expected to be fastest, fastest first."""
        return [self.estimates.layouts[int(i)] for i in self._by_time(self._approved())[:count]]

    def edits(self, base: Layout, tried: frozenset[str], count: int) -> list[Edit]:
        """Approved layouts near `base` that were not tried: one field changed, or two; the most promising ones.

        For each field that can change, the best layout comes first, so that every direction can be chosen.
        """
        approved = self._approved()
        fields = np.stack([getattr(self.estimates.layouts, name)[approved] for name in _FIELDS], axis=1)
        here = Layouts.of([base])
        own = np.array([getattr(here, name)[0] for name in _FIELDS])
        differ = fields != own
        distance = differ.sum(axis=1)
        near = approved[(distance >= 1) & (distance <= 2)]
        single = approved[distance == 1]
        chosen: list[int] = []
        for column in range(len(_FIELDS)):
            along = approved[(distance == 1) & differ[:, column]]
            chosen += self._fresh(self._by_time(along), tried, 2)
        chosen += [i for i in self._fresh(self._by_time(near), tried, count) if i not in chosen]
        if not chosen and len(single) == 0:
            chosen = self._fresh(self._by_time(approved), tried, count)
        ordered = sorted(dict.fromkeys(chosen), key=lambda i: float(self.estimates.seconds[i]))[:count]
        return [self._edit(base, i) for i in ordered]

    def _edit(self, base: Layout, index: int) -> Edit:
        return Edit(
            base=base,
            layout=self.estimates.layouts[index],
            iteration_s=float(self.estimates.seconds[index]),
            peak_memory_gib=float(self.estimates.memory.device[index]),
        )

    def _fresh(self, order: Ints, tried: frozenset[str], count: int) -> list[int]:
        found: list[int] = []
        for i in order:
            if len(found) == count:
                break
            if self.estimates.layouts[int(i)].key() not in tried:
                found.append(int(i))
        return found

    def _approved(self) -> Ints:
        fits = np.ones(len(self.estimates.layouts), dtype=bool) if self.measured else self.estimates.fits
        return np.flatnonzero(fits).astype(np.int64)

    def _by_time(self, indices: Ints) -> Ints:
        return np.asarray(indices[np.argsort(self.estimates.seconds[indices], kind="stable")], dtype=np.int64)

    def _index(self, layout: Layout) -> int | None:
        keys = [self.estimates.layouts[i].key() for i in range(len(self.estimates.layouts))]
        return keys.index(layout.key()) if layout.key() in keys else None
