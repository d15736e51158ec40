"""What a staged run of a model graph holds between two block calls."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass
class State:
    """Values alive between two block calls.

    Attributes:
        inputs: names of the inputs the run was started with.
        values: node name -> value.
        position: index of the block call that comes next.
        output: the model's named outputs after the last call, else None.
    """

    inputs: list[str]
    values: dict[str, Any] = field(default_factory=dict)
    position: int = 0
    output: Any = None
