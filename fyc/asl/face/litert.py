"""LiteRT networks: one picture in, named arrays out."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fyc.errors import ModelError

Floats = NDArray[np.float32]


class LiteNetwork:
    """A network with one input, run on the CPU.

    Args:
        model: a TFLite flatbuffer.
        threads: of the interpreter. An instance must not be used by two threads at once.

    Raises:
        ModelError: FYC-M06 if LiteRT is not installed, FYC-M03 if it refuses the network.
    """

    def __init__(self, model: bytes, *, threads: int = 1) -> None:
        try:
            from ai_edge_litert.interpreter import Interpreter
        except ImportError as error:
            raise ModelError(
                "FYC-M06", "networks for faces need LiteRT", why=str(error), next="run `pip install 'fyc[asl]'`"
            ) from error
        try:
            with _without_greeting():
                self._interpreter: Any = Interpreter(model_content=model, num_threads=threads)
                self._interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            raise ModelError(
                "FYC-M03", "LiteRT cannot read the network", why=str(error).splitlines()[0],
                next="fetch it again with `fyc assets fetch face-landmarker`",
            ) from error  # fmt: skip
        (entry,) = self._interpreter.get_input_details()
        self._input: int = entry["index"]
        self.input_shape: tuple[int, ...] = tuple(int(size) for size in entry["shape"])
        self._outputs: dict[str, int] = {
            output["name"]: output["index"] for output in self._interpreter.get_output_details()
        }

    def run(self, values: Floats) -> dict[str, Floats]:
        """Outputs by name, copied, for an input of `input_shape`."""
        self._interpreter.set_tensor(self._input, values)
        self._interpreter.invoke()
        return {name: self._interpreter.get_tensor(index) for name, index in self._outputs.items()}


@contextmanager
def _without_greeting() -> Iterator[None]:
    """LiteRT says on stderr, from C++, that it made a delegate, and has no switch for it."""
    sys.stderr.flush()
    try:
        kept = os.dup(2)
    except OSError:  # there is no stderr to keep clean
        yield
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
