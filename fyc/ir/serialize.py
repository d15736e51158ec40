"""Block graphs as JSON and back, safe on hostile input: names are checked, functions come from an allow-list."""

from __future__ import annotations

import keyword
import math
import re
from collections.abc import Callable, Iterable, Mapping
from types import EllipsisType
from typing import Any

import torch
from torch import fx

from fyc.errors import ArtifactError
from fyc.ir import allowlist
from fyc.ir.new_graph import new_graph
from fyc.ir.ops import SELF

VERSION = 1
MAX_NODES = 10_000
MAX_DEPTH = 16
MAX_ITEMS = 4_096
MAX_STRING = 1_024
_INT64 = 2**63
_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,255}")
_PATH = re.compile(r"(?:[A-Za-z0-9]|_(?!_))[A-Za-z0-9_]{0,255}(?:\.(?:[A-Za-z0-9]|_(?!_))[A-Za-z0-9_]{0,255}){0,31}")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_DTYPES = {str(value).removeprefix("torch."): value for value in vars(torch).values() if isinstance(value, torch.dtype)}
_FORMATS = {
    str(value): value for value in vars(torch).values() if isinstance(value, torch.memory_format | torch.layout)
}
_FLOATS = {"inf": math.inf, "-inf": -math.inf, "nan": math.nan}
_DEVICE = re.compile(r"(cpu|cuda|meta|mps|xpu|npu|hpu)(:[0-9]{1,2})?")
_OPS = frozenset({"placeholder", "get_attr", "call_module", "call_method", "call_function", "output"})


def to_json(graph: fx.Graph) -> list[dict[str, Any]]:
    """The nodes of a graph as JSON data. Raises ArtifactError FYC-A07 for what `from_json` would not accept."""
    nodes = [_node_to_json(node) for node in graph.nodes]
    from_json(nodes)
    return nodes


def _node_to_json(node: fx.Node) -> dict[str, Any]:
    target: Any = node.target
    if node.op == "call_function":
        target = allowlist.function_name(target)
        if target is None:
            raise refuse(f"{node.target} is not on the list of functions a graph may call", node.name)
    return {
        "op": node.op,
        "name": node.name,
        "target": target,
        "args": [_encode(a, node.name) for a in node.args],
        "kwargs": {k: _encode(v, node.name) for k, v in node.kwargs.items()},
    }


def _encode(value: Any, where: str) -> Any:
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float) and math.isfinite(value):
        return value
    for kind, cls, encoded in _KINDS:
        if isinstance(value, cls):
            return {kind: encoded(value, where)}
    raise refuse(f"an argument of type {type(value).__name__} cannot be stored", where)


def _items(values: Iterable[Any], where: str) -> list[Any]:
    return [_encode(v, where) for v in values]


#: Tag, type and content of every argument that is not plain JSON.
_KINDS: tuple[tuple[str, Any, Callable[[Any, str], Any]], ...] = (
    ("node", fx.Node, lambda v, _: v.name),
    ("float", float, lambda v, _: repr(v)),
    ("tuple", tuple, _items),
    ("list", list, _items),
    ("dict", dict, lambda v, where: [[key, _encode(item, where)] for key, item in v.items()]),
    ("slice", slice, lambda v, where: _items((v.start, v.stop, v.step), where)),
    ("ellipsis", EllipsisType, lambda v, _: True),
    ("dtype", torch.dtype, lambda v, _: str(v).removeprefix("torch.")),
    ("device", torch.device, lambda v, _: str(v)),
    ("format", torch.memory_format | torch.layout, lambda v, _: str(v)),
)


def from_json(nodes: Any) -> fx.Graph:
    """Build the graph that `to_json` described. Raises ArtifactError FYC-A07 for anything that is not allowed."""
    if not isinstance(nodes, list) or not 0 < len(nodes) <= MAX_NODES:
        raise refuse("a graph is a list of 1 to 10000 nodes", "")
    reader = _Reader(new_graph())
    for data in nodes:
        reader.read(data)
    if reader.last != "output":
        raise refuse("a graph ends with its output", "")
    _check_code(reader.graph)
    return reader.graph


def _check_code(graph: fx.Graph) -> None:
    """Refuse a graph that cannot be turned into python code, for example an addition of one argument."""
    try:
        compile(graph.python_code("self").src, "<fyc graph>", "exec")
    except Exception as error:
        raise refuse(f"it cannot be turned into code: {type(error).__name__}: {error}", "") from error


class _Reader:
    """Builds a graph node by node, checking each."""

    def __init__(self, graph: fx.Graph) -> None:
        self.graph = graph
        self.nodes: dict[str, fx.Node] = {}
        self.parameters: set[str] = set()
        self.defaults = False
        self.last = "placeholder"

    def read(self, data: Any) -> None:
        if not isinstance(data, dict) or set(data) != {"op", "name", "target", "args", "kwargs"}:
            raise refuse("a node has the keys op, name, target, args and kwargs", "")
        op, name = data["op"], data["name"]
        if not isinstance(op, str) or op not in _OPS:
            raise refuse(f"unknown operation {op!r:.60}", "")
        if not is_identifier(name) or name in self.nodes:
            raise refuse(f"{name!r:.60} is no name for a node", "")
        if self.last == "output" or (op == "placeholder" and self.last != "placeholder"):
            raise refuse("inputs come first and the output last", name)
        args, kwargs = self._arguments(data, name)
        target = self._target(op, data["target"], args, kwargs, name)
        node = self.graph.create_node(op, target, args, kwargs, name=name)
        if node.name != name:
            raise refuse(f"{name!r} is no name for a node", name)
        self.nodes[name] = node
        self.last = op

    def _arguments(self, data: dict[str, Any], name: str) -> tuple[tuple[Any, ...], dict[str, Any]]:
        args, kwargs = data["args"], data["kwargs"]
        if not isinstance(args, list) or not isinstance(kwargs, dict) or len(args) + len(kwargs) > MAX_ITEMS:
            raise refuse("args is a list and kwargs an object", name)
        for key in kwargs:
            if not is_identifier(key):
                raise refuse(f"{key!r:.60} is no name for an argument", name)
        decoded = tuple(self._decode(a, 0, name) for a in args)
        return decoded, {key: self._decode(v, 0, name) for key, v in kwargs.items()}

    def _target(self, op: str, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any], name: str) -> Any:
        if not isinstance(target, str) or len(target) > MAX_STRING:
            raise refuse("a target is a short string", name)
        if op == "placeholder":
            return self._parameter(target, args, kwargs, name)
        if op == "output":
            if target != "output" or len(args) != 1 or kwargs:
                raise refuse("the output has one argument", name)
            return target
        if op in ("get_attr", "call_module"):
            if _PATH.fullmatch(target) is None or any(keyword.iskeyword(part) for part in target.split(".")):
                raise refuse(f"{target!r:.60} is no path of a module", name)
            if op == "call_module" and target == SELF:
                raise refuse("a block cannot call itself", name)
            if op == "get_attr" and (args or kwargs):
                raise refuse("an attribute takes no arguments", name)
            return target
        if op == "call_method":
            if target not in allowlist.METHODS or not args:
                raise refuse(f"the method {target!r:.60} is not on the list of methods a graph may call", name)
            return target
        return self._function(target, args, kwargs, name)

    def _function(self, target: str, args: tuple[Any, ...], kwargs: dict[str, Any], name: str) -> Any:
        function = allowlist.function(target)
        if function is None:
            raise refuse(f"{target!r:.60} is not on the list of functions a graph may call", name)
        if function is getattr and not (len(args) == 2 and not kwargs and _is_attribute(args[1])):
            raise refuse("getattr may only read a tensor's shape, dtype and the like", name)
        return function

    def _parameter(self, target: str, args: tuple[Any, ...], kwargs: dict[str, Any], name: str) -> str:
        starred = target.startswith("**")
        plain = target[2:] if starred else target
        if not is_identifier(plain) or plain in self.parameters or "**" in self.parameters:
            raise refuse(f"{target!r:.60} is no name for an input", name)
        if kwargs or len(args) > 1 or (starred and args):
            raise refuse("an input has at most a default", name)
        if args and not (args[0] is None or isinstance(args[0], bool | int | float | str)):
            raise refuse("the default of an input is a plain value", name)
        if self.defaults and not args and not starred:
            raise refuse("an input without a default comes after one with a default", name)
        self.defaults = self.defaults or bool(args)
        self.parameters |= {plain, "**"} if starred else {plain}
        return target

    def _decode(self, value: Any, depth: int, where: str) -> Any:
        if depth > MAX_DEPTH:
            raise refuse("an argument is nested too deeply", where)
        if isinstance(value, dict) and len(value) == 1:
            ((kind, content),) = value.items()
            if kind in ("tuple", "list", "slice", "dict"):
                return self._nested(kind, content, depth, where)
            return self._tagged(kind, content, where)
        if not _is_plain(value):
            raise refuse("an argument is not understood, or out of range", where)
        return value

    def _tagged(self, kind: Any, content: Any, where: str) -> Any:
        if kind == "ellipsis" and content is True:
            return ...
        tables: dict[Any, Mapping[str, Any]]
        tables = {"node": self.nodes, "float": _FLOATS, "dtype": _DTYPES, "format": _FORMATS}
        known = tables.get(kind, {})
        if isinstance(content, str):
            if content in known:
                return known[content]
            if kind == "device" and _DEVICE.fullmatch(content):
                return _device(content, where)
        raise refuse(f"an argument of kind {kind!r:.60} is not understood", where)

    def _nested(self, kind: str, content: Any, depth: int, where: str) -> Any:
        if not isinstance(content, list) or len(content) > MAX_ITEMS:
            raise refuse(f"a {kind} is a list of items", where)
        if kind == "dict":
            return dict(self._item(pair, depth, where) for pair in content)
        parts = [self._decode(v, depth + 1, where) for v in content]
        if kind == "slice":
            if len(parts) != 3:
                raise refuse("a slice has three parts", where)
            return slice(*parts)
        return tuple(parts) if kind == "tuple" else parts

    def _item(self, pair: Any, depth: int, where: str) -> tuple[str, Any]:
        if not isinstance(pair, list) or len(pair) != 2 or not is_identifier(pair[0]):
            raise refuse("a dict is a list of [name, value] pairs", where)
        return pair[0], self._decode(pair[1], depth + 1, where)


def _is_plain(value: Any) -> bool:
    if isinstance(value, str):
        return len(value) <= MAX_STRING and value.isprintable()
    if isinstance(value, float):
        return math.isfinite(value)
    return value is None or isinstance(value, bool) or (isinstance(value, int) and -_INT64 <= value < _INT64)


def _is_attribute(name: Any) -> bool:
    return isinstance(name, str) and name in allowlist.ATTRIBUTES


def _device(name: str, where: str) -> torch.device:
    try:
        return torch.device(name)
    except RuntimeError as error:
        raise refuse(f"there is no device {name}", where) from error


def is_identifier(name: Any) -> bool:
    """Whether `name` is a plain python identifier that generated code can use."""
    if not isinstance(name, str) or _IDENTIFIER.fullmatch(name) is None:
        return False
    return not keyword.iskeyword(name) and name != "self" and not name.startswith("__")


def is_digest(text: Any) -> bool:
    """Whether `text` looks like a SHA-256 in hex, or is empty."""
    return isinstance(text, str) and (text == "" or _DIGEST.fullmatch(text) is not None)


def signature(data: Any) -> dict[str, Any]:
    """Check and return the part of a graph file that says what it was traced from."""
    if not isinstance(data, dict) or set(data) != {"source", "digest", "opaque", "reason"}:
        raise refuse("a signature has the keys source, digest, opaque and reason", "signature")
    strings = [data["source"], "" if data["reason"] is None else data["reason"]]
    if any(not isinstance(s, str) or len(s) > 8 * MAX_STRING for s in strings):
        raise refuse("source and reason are short strings", "signature")
    if not is_digest(data["digest"]) or not isinstance(data["opaque"], bool):
        raise refuse("digest is a SHA-256 in hex and opaque a boolean", "signature")
    return data


def refuse(why: str, where: str) -> ArtifactError:
    """The error for a graph that holds what fyc does not allow."""
    return ArtifactError(
        "FYC-A07",
        "a graph was refused: it holds what fyc does not allow",
        where=where,
        why=why,
        next="get the artifact again from where it was made; do not edit graph files",
    )
