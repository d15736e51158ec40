"""Teaches transformers' `from_pretrained` to load fyc artifacts, without importing transformers or torch.

`fyc.loading.quantizer` registers the quantization method, and needs `transformers.modeling_utils`. Every way
to a `from_pretrained` imports that module, so a one-shot import hook registers right after it was executed.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
import warnings
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

TARGET = "transformers.modeling_utils"


class _AfterImport(MetaPathFinder):
    """Finds `TARGET` once, like the other finders do, and registers after its code has run."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        del path, target
        if fullname != TARGET:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(fullname)
        if spec is None or spec.loader is None:
            return spec
        loader, execute = spec.loader, spec.loader.exec_module

        def exec_module(module: ModuleType) -> None:
            del loader.exec_module
            execute(module)
            _register()

        loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


def install() -> None:
    """Register now if transformers' model code is loaded already, else as soon as it is."""
    module = sys.modules.get(TARGET)
    if module is not None and not getattr(module.__spec__, "_initializing", False):
        _register()
    elif not any(isinstance(finder, _AfterImport) for finder in sys.meta_path):
        sys.meta_path.insert(0, _AfterImport())


def _register() -> None:
    try:
        importlib.import_module("fyc.loading.quantizer")
    except Exception as error:  # someone else's `import transformers` must not fail because of fyc
        warnings.warn(
            f"fyc cannot teach transformers to load its artifacts: {error!r}; use fyc.load()", stacklevel=2
        )
