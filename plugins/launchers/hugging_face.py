"""What launchers read from a Hugging Face configuration that the shape of a model does not hold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Details:
    """Rotary positions, norms and activation of a model, defaults of its architecture filled in."""

    family: str
    activation: str
    epsilon: float
    rope_theta: float
    rope_scaling: Mapping[str, Any] = field(default_factory=dict)
    values: Mapping[str, Any] = field(default_factory=dict)

    @property
    def scaling_type(self) -> str:
        """The kind of rotary scaling; `default` is none."""
        return str(self.rope_scaling.get("rope_type", "default"))


def details(config: Mapping[str, Any]) -> Details:
    """The details of a configuration, as transformers completes it."""
    from transformers import AutoConfig

    given = dict(config)
    family = given.pop("model_type")
    values = AutoConfig.for_model(family, **given).to_dict()
    rope = dict(values.get("rope_parameters") or {})
    names = ("rms_norm_eps", "layer_norm_epsilon", "layer_norm_eps")
    return Details(
        family=family,
        activation=str(values.get("hidden_act") or values.get("activation_function") or ""),
        epsilon=next((float(values[name]) for name in names if values.get(name) is not None), 1e-5),
        rope_theta=float(rope.pop("rope_theta", 10000.0)),
        rope_scaling=rope,
        values=values,
    )


def pipeline_parts(layers: int, chunks: int) -> list[int]:
    """Layers of each chunk of a pipeline, as even as can be; the first take what is left over, as in the cost model."""
    each, more = divmod(layers, chunks)
    return [each + (index < more) for index in range(chunks)]
