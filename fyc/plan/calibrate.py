"""Calibration: factors on the parts of the cost model, found on a few measured steps of the user's own cluster."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from fyc.plan.cost.memory import memory_use
from fyc.plan.cost.rates import Correction, Rates
from fyc.plan.cost.step import step_time
from fyc.plan.estimate import log_error
from fyc.plan.job import Job
from fyc.plan.layout import Floats, Layout, Layouts

# How far each factor may reasonably be from 1: the standard deviation of its logarithm.
PRIOR = {"product": 0.10, "streaming": 0.15, "tensor": 0.20, "data": 0.40, "host": 0.25}
NOISE = 0.6  # of how unsure the cost model is of a step: what stays that no factor of the cluster explains
MEMORY_PRIOR = (0.15, 2.0)  # of the factor on activations, and of the constant in GiB
MEMORY_NOISE = 0.02
SURE = 0.5  # standard errors by which factors must lower the error of rows that they have not seen
_ITERATIONS = 12
_STEP = 1e-3


@dataclass(frozen=True)
class Observation:
    """A measured step: time in seconds, peak memory in GiB as nvidia-smi shows it; either may be missing."""

    job: Job
    layout: Layout
    seconds: float | None = None
    memory_gib: float | None = None


def calibrate(observations: Sequence[Observation], source: str = "", *, check: bool = True) -> Correction:
    """The factors that explain the observations with the least departure from 1.

    The most probable factors under a normal prior on their logarithms. A measurement counts for as much as the cost
    model is sure of that kind of step (`fyc.plan.estimate.log_error`), and less when it is far off (Huber).
    With no observation of a part's time, or none of memory, its factors stay 1 (0 GiB). The factors on time also stay
    1 where they do not carry over: when, each observation predicted from the others, they do not lower the error.

    Args:
        observations: steps of one cluster and stack.
        source: what they are, for the record.
        check: whether to see if the factors carry over; it costs as many fits as there are observations.
    """
    timed = [o for o in observations if o.seconds is not None]
    weighed = [o for o in observations if o.memory_gib is not None]
    factors = _fit_time(timed) if timed and (not check or _carries_over(timed)) else {}
    memory, constant = _fit_memory(weighed) if weighed else (1.0, 0.0)
    return Correction(**factors, memory=memory, memory_gib=constant, source=source)


def _carries_over(observations: Sequence[Observation]) -> bool:
    """Whether factors from the other observations predict each one better than none do."""
    if len(observations) < 3:
        return True
    plain = np.array([abs(_error(o, Correction())) for o in observations])
    others = [[o for o in observations if o is not left] for left in observations]
    fitted = [abs(_error(o, Correction(**_fit_time(rest)))) for o, rest in zip(observations, others, strict=True)]
    better = plain - np.array(fitted)
    return bool(better.mean() > SURE * better.std(ddof=1) / np.sqrt(len(better)))


def _error(observation: Observation, by: Correction) -> float:
    """Logarithm of predicted over measured time."""
    job = observation.job
    rates = Rates.of(job.cluster, job.stack, job.precision).corrected(by)
    predicted = float(step_time(job, Layouts.of([observation.layout]), rates).total[0])
    return float(np.log(predicted / (observation.seconds or predicted)))


def _fit_time(observations: Sequence[Observation]) -> dict[str, float]:
    names = list(PRIOR)
    jobs = _by_job(observations)
    measured = np.log([o.seconds for _, _, mine in jobs for o in mine if o.seconds is not None])
    noise = NOISE * np.concatenate([log_error(step_time(mine[0].job, layouts, rates)) for layouts, rates, mine in jobs])

    def residuals(logs: Floats) -> Floats:
        by = Correction(**dict(zip(names, np.exp(logs).tolist(), strict=True)))
        predicted = [step_time(mine[0].job, layouts, rates.corrected(by)).total for layouts, rates, mine in jobs]
        return np.asarray((np.log(np.concatenate(predicted)) - measured) / noise)

    prior = np.array([PRIOR[name] for name in names])
    logs = _most_probable(residuals, np.zeros(len(names)), prior)
    return dict(zip(names, np.exp(logs).tolist(), strict=True))


def _by_job(observations: Sequence[Observation]) -> list[tuple[Layouts, Rates, list[Observation]]]:
    """Observations of one job together, so that one evaluation predicts them all."""
    jobs: list[list[Observation]] = []
    for o in observations:
        mine = next((group for group in jobs if group[0].job is o.job), None)
        if mine is None:
            jobs.append([o])
        else:
            mine.append(o)
    rates = [Rates.of(mine[0].job.cluster, mine[0].job.stack, mine[0].job.precision) for mine in jobs]
    return [(Layouts.of([o.layout for o in mine]), r, mine) for mine, r in zip(jobs, rates, strict=True)]


def _fit_memory(observations: Sequence[Observation]) -> tuple[float, float]:
    cases = [(o.job, Layouts.of([o.layout])) for o in observations]
    measured = np.array([o.memory_gib for o in observations])

    def residuals(values: Floats) -> Floats:
        by = Correction(memory=float(np.exp(values[0])), memory_gib=float(values[1]))
        predicted = np.array([float(memory_use(job, layouts, by).device[0]) for job, layouts in cases])
        return np.asarray((np.log(predicted) - np.log(measured)) / MEMORY_NOISE)

    values = _most_probable(residuals, np.zeros(2), np.array(MEMORY_PRIOR))
    return float(np.exp(values[0])), float(values[1])


def _most_probable(residuals: Callable[[Floats], Floats], start: Floats, prior: Floats) -> Floats:
    """Gauss-Newton with numerical derivatives; residuals beyond two deviations are weighted down."""
    values = start.copy()
    for _ in range(_ITERATIONS):
        here = residuals(values)
        slopes = np.stack([(residuals(values + _STEP * unit) - here) / _STEP for unit in np.eye(len(values))], axis=1)
        weights = np.minimum(1.0, 2.0 / np.maximum(np.abs(here), 1e-9))
        normal = slopes.T @ (weights[:, None] * slopes) + np.diag(1 / prior**2)
        gradient = slopes.T @ (weights * here) + values / prior**2
        change = np.linalg.solve(normal, -gradient)
        values = values + np.clip(change, -0.3, 0.3)
        if np.abs(change).max() < 1e-4:
            break
    return values
