"""JSON schemas, generated from the types of the program: status/types.py and others.

A field's annotation gives its type, and the docstring below it its description.
"""

from __future__ import annotations

import ast
import inspect
import sys
import types
import typing
from typing import Any, Literal, NotRequired, Union, get_args, get_origin

JSON_TYPES = {str: "string", int: "integer", float: "number", bool: "boolean"}


def docstrings(kind: type) -> dict[str, str]:
    """Field → the docstring below it, in one line."""
    (node,) = ast.parse(inspect.getsource(kind)).body
    assert isinstance(node, ast.ClassDef)
    types = {}
    for field, text in zip(node.body, node.body[1:], strict=False):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
            assert isinstance(text, ast.Expr), f"{kind.__name__}.{field.target.id} has no docstring"
            assert isinstance(text.value, ast.Constant)
            types[field.target.id] = " ".join(str(text.value.value).split())
    return types


def fields(kind: type) -> dict[str, tuple[Any, str]]:
    """Field → (annotation, description)."""
    names = vars(sys.modules[kind.__module__])
    annotations = typing.get_type_hints(kind, names, include_extras=True)
    texts = docstrings(kind)
    assert annotations.keys() == texts.keys()
    return {name: (annotation, texts[name]) for name, annotation in annotations.items()}


def is_required(kind: type, annotation: Any) -> bool:
    return get_origin(annotation) is not NotRequired and bool(kind.__total__)  # type: ignore[attr-defined]


def schema_of(annotation: Any) -> dict[str, Any]:
    """The schema of one annotation."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is NotRequired:
        return schema_of(arguments[0])
    if hasattr(annotation, "__metadata__"):
        described = schema_of(annotation.__origin__)
        for extra in annotation.__metadata__:
            described.update([extra])
        return described
    if origin is Literal:
        return {"type": "string", "enum": list(arguments)}
    if origin in (Union, types.UnionType):
        return _nullable(arguments)
    if origin is list:
        return {"type": "array", "items": schema_of(arguments[0])}
    if origin is dict:
        return {"type": "object", "additionalProperties": schema_of(arguments[1])}
    if typing.is_typeddict(annotation):
        return object_schema(annotation)
    return {"type": JSON_TYPES[annotation]}


def _nullable(arguments: tuple[Any, ...]) -> dict[str, Any]:
    (other,) = (argument for argument in arguments if argument is not type(None))
    described = schema_of(other)
    described["type"] = [described["type"], "null"]
    if "enum" in described:
        described["enum"].append(None)
    return described


def object_schema(kind: type) -> dict[str, Any]:
    """The schema of a TypedDict."""
    properties, required = {}, []
    for name, (annotation, text) in fields(kind).items():
        described = schema_of(annotation)
        kind_of_field = described.pop("type")
        properties[name] = {"type": kind_of_field, **described, "description": text}
        if is_required(kind, annotation):
            required.append(name)
    schema = {"type": "object", "description": inspect.getdoc(kind), "properties": properties}
    if required:
        schema["required"] = required
    return schema


def document(kind: type, name: str) -> dict[str, Any]:
    """The whole schema of a command's output; `name` is that of the file."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"mproutd-{name}-1",
        "title": inspect.getdoc(kind),
        **object_schema(kind),
    }
