"""Teaches transformers' `from_pretrained` to load fyc artifacts, without importing transformers or torch.

The quantization method `fyc` is registered as soon as `transformers.quantizers.auto` has been executed, by a one-shot
import hook. What is registered are stand-ins: the real classes import most of fyc and of transformers, which cannot be
done while transformers itself is being imported, so they follow when an artifact is loaded.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType

TARGET = "transformers.quantizers.auto"
METHOD = "fyc"


class _AfterImport:
    """Finds `TARGET` once, like the other finders do, and registers after its code has run."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        del path, target
        if fullname != TARGET:
            return None
        from importlib.util import find_spec

        sys.meta_path.remove(self)
        spec = find_spec(fullname)
        if spec is None or spec.loader is None:
            return spec
        loader, execute = spec.loader, spec.loader.exec_module

        def exec_module(module: ModuleType) -> None:
            del loader.exec_module
            execute(module)
            _register(module)

        loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


def install() -> None:
    """Register now if transformers' quantizers are loaded already, else as soon as they are."""
    module = sys.modules.get(TARGET)
    if module is not None:
        _register(module)
    elif not any(isinstance(finder, _AfterImport) for finder in sys.meta_path):
        sys.meta_path.insert(0, _AfterImport())


def _register(auto: Any) -> None:
    """Register the stand-ins; `auto` is transformers' module."""
    try:
        if METHOD in auto.AUTO_QUANTIZER_MAPPING:
            return
        from transformers.quantizers.base import HfQuantizer
        from transformers.utils.quantization_config import QuantizationConfigMixin

        class Quantizer(HfQuantizer):  # type: ignore[misc]
            """Becomes a `fyc.loading.quantizer.FycQuantizer` when it is made."""

            def __new__(cls, *args: Any, **kwargs: Any) -> Any:
                from fyc.loading.quantizer import FycQuantizer

                return FycQuantizer(*args, **kwargs)

        class Config(QuantizationConfigMixin):  # type: ignore[misc]
            """Becomes a `fyc.loading.quantizer.FycConfig` when it is read."""

            @classmethod
            def from_dict(cls, *args: Any, **kwargs: Any) -> Any:
                from fyc.loading.quantizer import FycConfig

                return FycConfig.from_dict(*args, **kwargs)

        auto.register_quantization_config(METHOD)(Config)
        auto.register_quantizer(METHOD)(Quantizer)
    except Exception as error:  # someone else's `import transformers` must not fail because of fyc
        import warnings

        warnings.warn(f"fyc cannot teach transformers to load its artifacts: {error!r}", stacklevel=2)
