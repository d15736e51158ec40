"""Loading: from an artifact on disk to a transformers model that runs its graphs."""

from fyc.loading.load import load

__all__ = ["load"]
