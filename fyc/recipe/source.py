"""Recipe text to plain data, with the line and column of every key and value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from fyc.errors import RecipeError

Path = tuple[str | int, ...]

MAX_NODES = 20_000  # an alias bomb is small on disk and endless in memory
MAX_DEPTH = 40
_SCALARS = {f"tag:yaml.org,2002:{kind}" for kind in ("str", "int", "float", "bool", "null")}


class Position(NamedTuple):
    """A place in a text: line and column, both from 1."""

    line: int
    column: int


@dataclass
class RecipeSource:
    """Where the values of a recipe came from.

    Attributes:
        name: the file, as the user named it.
        keys: place of the key (or list item) of each path.
        values: place of the value of each path.
        overrides: path to the command-line text that set it.
    """

    name: str
    keys: dict[Path, Position] = field(default_factory=dict)
    values: dict[Path, Position] = field(default_factory=dict)
    overrides: dict[Path, str] = field(default_factory=dict)

    def where(self, path: Path, *, key: bool = False) -> str:
        """`file:line:column` of the value (or key) at `path`, or of the nearest part around it."""
        path = tuple(path)
        for length in range(len(path), -1, -1):
            part = path[:length]
            if part in self.overrides:
                return self.overrides[part]
            places = self.keys if key and length == len(path) else self.values
            if part in places:
                line, column = places[part]
                return f"{self.name}:{line}:{column}"
        return self.name

    def order(self, path: Path) -> tuple[int, int]:
        """Sort key that puts errors in the order of the file."""
        for length in range(len(path), -1, -1):
            if path[:length] in self.values:
                return self.values[path[:length]]
        return (0, 0)


def parse(text: str, source: RecipeSource) -> Any:
    """Parse one YAML document into dicts, lists and scalars, and note every position in `source`.

    Raises:
        RecipeError: FYC-R01 with file:line:column.
    """
    yaml = YAML(typ="safe", pure=True)
    try:
        root = yaml.compose(text)
    except MarkedYAMLError as error:
        raise _syntax_error(error, text, source.name) from error
    except YAMLError as error:
        raise RecipeError("FYC-R01", "the recipe is not valid YAML", where=source.name, why=str(error)) from error
    if root is None:
        return None
    return _Reader(yaml.constructor, source).read(root, (), 0)


def parse_value(text: str, origin: str) -> Any:
    """Parse the VALUE of `--set KEY=VALUE` as YAML; `origin` names it in errors."""
    return parse(text, RecipeSource(origin))


class _Reader:
    def __init__(self, constructor: Any, source: RecipeSource) -> None:
        self.constructor, self.source, self.count = constructor, source, 0

    def read(self, node: Node, path: Path, depth: int) -> Any:
        self.count += 1
        if self.count > MAX_NODES or depth > MAX_DEPTH:
            raise self.error(node, "the recipe is nested too deeply or repeats itself without end")
        self.source.values[path] = _position(node)
        if isinstance(node, MappingNode):
            return self.mapping(node, path, depth)
        if isinstance(node, SequenceNode):
            for index, item in enumerate(node.value):
                self.source.keys[*path, index] = _position(item)
            return [self.read(item, (*path, index), depth + 1) for index, item in enumerate(node.value)]
        return self.scalar(node)

    def mapping(self, node: MappingNode, path: Path, depth: int) -> Mapping[str, Any]:
        data: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = key_node.value
            if not isinstance(key_node, ScalarNode) or str(key_node.tag) not in _SCALARS:
                raise self.error(key_node, "a key must be plain text")
            if key in data:
                first = self.source.keys[*path, key]
                raise self.error(key_node, f"the key `{key}` stands here twice", f"first in line {first.line}")
            self.source.keys[*path, key] = _position(key_node)
            data[key] = self.read(value_node, (*path, key), depth + 1)
        return data

    def scalar(self, node: Node) -> Any:
        if str(node.tag) not in _SCALARS:
            kind = str(node.tag).rpartition(":")[2]
            raise self.error(node, f"YAML reads `{node.value}` as a {kind}", "put it in quotes if it is text")
        try:
            return self.constructor.construct_object(node)
        except (ValueError, YAMLError) as error:
            raise self.error(node, f"`{node.value}` cannot be read", str(error)) from error

    def error(self, node: Node, what: str, why: str = "") -> RecipeError:
        line, column = _position(node)
        return RecipeError("FYC-R01", what, where=f"{self.source.name}:{line}:{column}", why=why)


def _position(node: Node) -> Position:
    return Position(node.start_mark.line + 1, node.start_mark.column + 1)


def _syntax_error(error: MarkedYAMLError, text: str, name: str) -> RecipeError:
    mark = error.problem_mark or error.context_mark
    if mark is None:
        return RecipeError("FYC-R01", "the recipe is not valid YAML", where=name, why=str(error))
    lines = text.splitlines()
    line = lines[mark.line] if mark.line < len(lines) else ""
    advice = "indent with spaces: YAML does not allow tabs" if "\t" in line[: mark.column + 1] else ""
    why = ", ".join(part for part in (error.context, error.problem) if part)
    return RecipeError(
        "FYC-R01",
        "the recipe is not valid YAML",
        where=f"{name}:{mark.line + 1}:{mark.column + 1}",
        why=why,
        next=advice,
    )
