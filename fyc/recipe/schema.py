"""What a recipe may say: frozen pydantic models that refuse unknown keys."""

from __future__ import annotations

from io import StringIO
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, ValidationInfo, field_validator
from ruamel.yaml import YAML

from fyc.recipe.source import RecipeSource


class _Part(BaseModel):
    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False, populate_by_name=True
    )


class ModelSpec(_Part):
    """Which model to convert."""

    source: Annotated[str, Field(min_length=1)]
    """A hub id, a folder with safetensors, or a GGUF file; a relative path starts at the current folder."""
    revision: str | None = None
    """Branch, tag or commit of a hub model."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Type of the floating-point weights while converting; `auto` keeps the checkpoint's own."""
    opaque: Literal["error", "keep"] = "error"
    """What to do with a block that cannot be traced: stop, or keep it as it is and report it."""


class CalibrationSpec(_Part):
    """The text that statistics are gathered on."""

    text: Annotated[str, Field(min_length=1)]
    """A UTF-8 text file, or `asset:NAME` (see `fyc assets list`)."""
    samples: Annotated[int, Field(ge=1)] = 64
    """How many windows of the text are used."""
    length: Annotated[int, Field(ge=2)] = 512
    """Tokens in one window."""


class PassUse(_Part):
    """One pass, where it applies, and its options."""

    use: Annotated[str, Field(min_length=1)]
    """Name of the pass (see `fyc passes list`)."""
    include: tuple[str, ...] = ()
    """Globs on module paths; a pattern selects a module and all inside it. Empty: every module."""
    exclude: tuple[str, ...] = ()
    """Globs on module paths that the pass leaves alone, even if `include` selects them."""
    options: dict[str, Any] = Field(default_factory=dict)
    """The pass's own options (see `fyc passes show NAME`)."""


class VerifySpec(_Part):
    """The gate a converted model must pass; a miss exits 4 and keeps the output as `DIR.rejected`."""

    max_perplexity_increase: Annotated[float, Field(ge=0)]
    """Largest allowed relative increase of perplexity: 0.03 is 3 %."""
    samples: Annotated[int, Field(ge=1)] = 8
    """How many windows the gate is measured on."""


class OutputSpec(_Part):
    """Where the artifact goes."""

    dir: str | None = None
    """Folder to write; `-o` on the command line comes first."""
    shard_mb: Annotated[int, Field(ge=1)] = 1024
    """Largest size of one safetensors file, in megabytes (10^6 bytes)."""


class Recipe(_Part):
    """One conversion: a model, the passes in order, and how the result is checked."""

    schema_: Annotated[Literal[1], Field(alias="schema")]
    """Version of the recipe format."""
    model: ModelSpec
    """Which model to convert."""
    seed: Annotated[int, Field(ge=0, le=2**63 - 1)] = 0
    """Seed of every random choice."""
    calibration: CalibrationSpec | None = None
    """The text that statistics are gathered on; passes that need none work without."""
    passes: tuple[PassUse, ...]
    """The passes, in the order they run."""
    verify: VerifySpec | None = None
    """The gate the converted model must pass."""
    output: OutputSpec = OutputSpec()
    """Where the artifact goes, and how it is cut into files."""

    _source: RecipeSource | None = PrivateAttr(default=None)

    @field_validator("passes")
    @classmethod
    def _has_work(cls, passes: tuple[PassUse, ...]) -> tuple[PassUse, ...]:
        if not passes:
            raise ValueError("is empty: a recipe needs at least one pass")
        return passes

    @field_validator("verify")
    @classmethod
    def _has_text(cls, verify: VerifySpec | None, info: ValidationInfo) -> VerifySpec | None:
        if verify is not None and info.data.get("calibration", ...) is None:
            raise ValueError("measures on the calibration text, and the recipe has no `calibration`")
        return verify

    @property
    def source(self) -> RecipeSource | None:
        """Where the recipe's values came from; None for a recipe built in Python."""
        return self._source

    def where(self, *path: str | int) -> str:
        """Where a value came from: `file:line:column`, or the command-line option that set it.

        Args:
            path: keys and indexes, for example `"passes", 0, "include", 1`. A path that the recipe does not
                spell out gives the place of the nearest part that it does.
        """
        return self._source.where(path) if self._source is not None else ".".join(map(str, path))

    @property
    def name(self) -> str:
        """The file the recipe was read from, or `recipe` when it was built in Python."""
        return self._source.name if self._source is not None else "recipe"

    def to_data(self) -> dict[str, Any]:
        """The recipe as plain JSON-able data with every default spelled out."""
        return self.model_dump(mode="json", by_alias=True)

    def to_yaml(self) -> str:
        """The recipe as YAML with every default spelled out, but without `output.dir`."""
        data = self.to_data()
        del data["output"]["dir"]
        yaml = YAML(typ="safe", pure=True)
        yaml.default_flow_style = False
        yaml.representer.sort_base_mapping_type_on_output = False
        text = StringIO()
        yaml.dump(data, text)
        return text.getvalue()
