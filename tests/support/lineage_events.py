"""
Whether an OpenLineage event is what OpenLineage's schemas allow, without a network.

The schemas themselves are in no package. OpenLineage generates its Python classes from them, so here the
classes are made into schemas again: names, types, what is required, and the schema that each facet says it
follows. Stricter than OpenLineage, a name that a class does not know is an error, and so is a facet of an
unknown schema. Facets that name no schema of their own, as Airflow's do, may have anything in them.
"""

from __future__ import annotations

import importlib
import json
import pkgutil
from collections.abc import Iterator, Mapping
from datetime import datetime
from enum import Enum
from functools import cache
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin
from urllib.parse import urlsplit
from uuid import UUID

import attr
import openlineage.client.generated
from jsonschema import Draft202012Validator, FormatChecker
from openlineage.client.generated import base
from referencing import Registry
from referencing.jsonschema import DRAFT202012

from airflow_provider_scantrust import lineage

Schema = dict[str, Any]

OWN_SCHEMA: Schema = json.loads(
    (Path(lineage.__file__).parent / "ScantrustUploadRunFacet.json").read_text(encoding="utf-8")
)
# Where a facet stands -> what it is.
PLACES: dict[str, type] = {
    "facets of the run": base.RunFacet,
    "facets of the job": base.JobFacet,
    "facets": base.DatasetFacet,
    "inputFacets": base.InputDatasetFacet,
    "outputFacets": base.OutputDatasetFacet,
}
_NAMES = {str: "string", int: "integer", float: "number", bool: "boolean", NoneType: "null"}
_FORMATS = {"runId": "uuid", "eventTime": "date-time", "nominalStartTime": "date-time"}
_FORMATS |= dict.fromkeys(("producer", "schemaURL", "_producer", "_schemaURL"), "uri")
FORMATS = FormatChecker(formats=())


@FORMATS.checks("uuid", raises=ValueError)
def _is_uuid(value: Any) -> bool:
    return bool(UUID(value))


@FORMATS.checks("date-time", raises=ValueError)
def _is_moment(value: Any) -> bool:
    return "T" in value and datetime.fromisoformat(value).tzinfo is not None


@FORMATS.checks("uri")
def _is_uri(value: Any) -> bool:
    return bool(urlsplit(value).scheme)


def check_event(event: Mapping[str, Any]) -> set[str]:
    """
    Check a whole run event, and return the names of its facets.

    :raises jsonschema.ValidationError: What is wrong, and where.
    """
    _validate(event, schema_of(base.RunEvent))
    names = set()
    for place, name, facet in facets_of(event):
        known = _generated().get(facet["_schemaURL"])
        assert known is None or issubclass(known, PLACES[place]), f"{name} is no {PLACES[place].__name__}"
        _validate(facet, schema_of(known) if known else {"$ref": facet["_schemaURL"]})
        names.add(name)
    return names


def facets_of(event: Mapping[str, Any]) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    """Return place, name and content of each facet."""
    maps = [(f"facets of the {name}", event[name].get("facets", {})) for name in ("run", "job")]
    for dataset in (*event.get("inputs", ()), *event.get("outputs", ())):
        maps += [(place, dataset.get(place, {})) for place in ("facets", "inputFacets", "outputFacets")]
    for place, facets in maps:
        for name, facet in facets.items():
            yield place, name, facet


def schema_of(kind: Any) -> Schema:
    """Return the schema that a generated class follows."""
    attr.resolve_types(kind)
    properties: Schema = {}
    required = []
    for field in attr.fields(kind):
        properties[field.name] = described = _type(field.type)
        if field.name in _FORMATS:
            described["format"] = _FORMATS[field.name]
        if field.name in ("_schemaURL", "schemaURL"):
            described["const"] = kind._get_schema()
        # The generated constructor sets these itself; OpenLineage requires them.
        if field.default is attr.NOTHING or (field.name in _FORMATS and field.name != "nominalStartTime"):
            required.append(field.name)
    return {
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": kind in PLACES.values(),
    }


def _type(kind: Any) -> Schema:
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        return {"anyOf": [_type(each) for each in arguments]}
    if origin is list:
        return {"type": "array", "items": _type(arguments[0])}
    if origin is dict:
        # Facets are checked by themselves, by what each of them says that it is.
        values = arguments[1]
        is_facet = isinstance(values, type) and issubclass(values, base.BaseFacet)
        return {
            "type": "object",
            "additionalProperties": {"required": ["_schemaURL"]} if is_facet else _type(values),
        }
    if isinstance(kind, type) and issubclass(kind, Enum):
        return {"enum": [each.value for each in kind]}
    if attr.has(kind):
        return {"$ref": f"class:{kind.__module__}:{kind.__name__}"}
    return {} if kind is Any else {"type": _NAMES[kind]}


@cache
def _generated() -> dict[str, type[base.BaseFacet]]:
    """Return schema -> class of all facets that OpenLineage has."""
    path = openlineage.client.generated.__path__
    modules = [
        importlib.import_module(f"{base.__package__}.{each.name}") for each in pkgutil.iter_modules(path)
    ]
    kinds = {kind for module in modules for kind in vars(module).values() if isinstance(kind, type)}
    facets = [kind for kind in kinds if issubclass(kind, base.BaseFacet) and kind is not base.BaseFacet]
    return {kind._get_schema(): kind for kind in facets}


def _retrieve(uri: str) -> Any:
    """Return the schema of a generated class that another one refers to, or this package's own."""
    if uri.startswith("class:"):
        _, module, kind = uri.split(":")
        found = schema_of(getattr(importlib.import_module(module), kind))
    else:
        assert OWN_SCHEMA["$id"] == uri, f"{uri} is an unknown schema"
        found = OWN_SCHEMA
    return DRAFT202012.create_resource(found)


def _validate(data: Any, schema: Schema) -> None:
    registry: Registry[Any] = Registry(retrieve=_retrieve)  # type: ignore[call-arg]
    Draft202012Validator(schema, registry=registry, format_checker=FORMATS).validate(data)
