"""The engine: plans a run, then converts a model block by block."""

from fyc.engine.convert import convert
from fyc.engine.prepare import RunPlan, prepare
from fyc.engine.workspace import clean

__all__ = ["RunPlan", "clean", "convert", "prepare"]
