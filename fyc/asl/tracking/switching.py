"""Which tracker speaks: one is drawn, the more often the lower its energy, now and lately.

p(k) ~ w_k exp(-E_k / t), never below a floor; the weights follow exp(-E_k) with forgetting. Metaxas et al. (LREC 2012)
call their ensemble stochastic and adaptive; this form of it is our own choice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

#: Energies that differ by so much differ by a factor of e in their chances; the least chance of a tracker.
TEMPERATURE, FLOOR = 0.05, 0.002
#: How much of the weights a frame renews.
FORGETTING = 0.1


class Switch:
    """Draws the tracker that speaks.

    Args:
        names: of the trackers.
        seed: of the draws.
        greedy: always take the lowest energy instead; for comparison.
    """

    def __init__(self, names: Sequence[str], *, seed: int, greedy: bool = False) -> None:
        self._rng = np.random.default_rng(seed)
        self._greedy = greedy
        self.weights = dict.fromkeys(names, 1.0)

    def chances(self, energies: Mapping[str, float]) -> dict[str, float]:
        """The chance of each tracker that has an energy; they sum to 1."""
        names = sorted(energies)
        values = np.array([energies[name] for name in names])
        if self._greedy:
            return dict(zip(names, np.eye(len(names))[values.argmin()].tolist(), strict=True))
        weights = np.array([self.weights[name] for name in names])
        drawn = weights * np.exp(-(values - values.min()) / TEMPERATURE)
        chances = (1 - FLOOR * len(names)) * drawn / drawn.sum() + FLOOR
        return dict(zip(names, chances.tolist(), strict=True))

    def choose(self, energies: Mapping[str, float]) -> str:
        """Draw a tracker, and adapt the weights: those that said nothing in this frame lose."""
        chances = self.chances(energies)
        names = sorted(chances)
        chosen = names[int(self._rng.choice(len(names), p=[chances[name] for name in names]))]
        for name, weight in self.weights.items():
            fresh = float(np.exp(-energies[name])) if name in energies else 0.0
            self.weights[name] = max((1 - FORGETTING) * weight + FORGETTING * fresh, 1e-3)
        return chosen
