"""An OpenAPI description of the sandbox's answers; only their form, for people and code generators."""

from __future__ import annotations

from typing import Any

_TEXT = {"type": "string"}
_NUMBER = {"type": "integer"}
_TIME = {"type": ["string", "null"], "format": "date-time"}
_OBJECT = {"type": "object", "additionalProperties": True}
_VALUES = {"type": "object", "minProperties": 1, "additionalProperties": {"type": ["string", "number"]}}
_CONSTRAINTS = {
    "type": "object",
    "minProperties": 1,
    "additionalProperties": {"anyOf": [{"type": ["string", "number"]}, {"type": "array", "minItems": 1}]},
}
_DETAIL = {"type": "object", "properties": {"detail": _TEXT}, "required": ["detail"]}
_FIELD_ERRORS = {"type": "object", "additionalProperties": {"type": "array", "items": _TEXT}}

_UPLOAD = {
    "type": "object",
    "required": ["items"],
    "properties": {
        "data_key": {**_TEXT, "default": "extended_id"},
        "items": {"type": "array", "minItems": 1, "items": _VALUES},
    },
}
_UPDATED = {
    "type": "object",
    "required": ["total_updates", "changes", "items", "codes_affected"],
    "properties": {
        "total_updates": _NUMBER,
        "changes": {"type": "array"},
        "items": {"type": "object", "additionalProperties": {"type": "array", "items": _TEXT}},
        "codes_affected": _NUMBER,
    },
}
_SUBMISSION = {
    "type": "object",
    "required": ["constraints", "scm_data"],
    "properties": {"constraints": _CONSTRAINTS, "scm_data": _VALUES},
}
_TASK = {
    "type": "object",
    "properties": {
        "id": _TEXT,
        "reference": _TEXT,
        "state": {"type": "string", "examples": ["pending", "in-progress", "complete", "failed"]},
        "codes_affected": {"type": ["integer", "null"]},
        "created_by": _NUMBER,
        "created_at": _TIME,
        "started_at": _TIME,
        "completed_at": _TIME,
    },
}
_CREDENTIALS = {
    "type": "object",
    "required": ["username", "password"],
    "properties": {"username": _TEXT, "password": _TEXT},
}
_ID = {"name": "task_id", "in": "path", "required": True, "schema": _TEXT}


def document() -> dict[str, Any]:
    """Return the description."""
    task_id = {"type": "object", "required": ["task_id"], "properties": {"task_id": _TEXT}}
    token = {"type": "object", "required": ["token"], "properties": {"token": _TEXT}}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Scantrust sandbox",
            "version": "2",
            "description": 'A local imitation of SCM uploads; the page "Fidelity" of the docs says what is assumed.',
        },
        "security": [{"token": []}],
        "components": {
            "securitySchemes": {
                "token": {
                    "type": "apiKey",
                    "in": "header",
                    "name": "Authorization",
                    "description": "UAT <token> or JWT <token>",
                }
            }
        },
        "paths": {
            "/api/v2/scm/upload/": {"post": _call("Update codes within the call", _UPDATED, _UPLOAD)},
            "/api/v2/scm/upload/async/": {"post": _call("Submit a job", task_id, _SUBMISSION)},
            "/api/v2/scm/tasks/{task_id}/": {
                "get": {**_call("Ask for the state of a job", _TASK), "parameters": [_ID]}
            },
            "/api/v2/me/": {"get": _call("Tell whether access works", _OBJECT)},
            "/api/v2/auth/login/": {"post": {**_call("Get a JWT", token, _CREDENTIALS), "security": []}},
        },
    }


def _call(summary: str, answer: dict[str, Any], body: dict[str, Any] | None = None) -> dict[str, Any]:
    refused = {"anyOf": [_FIELD_ERRORS, _DETAIL]}
    errors = {status: _answer("Error", _DETAIL) for status in ("401", "403", "404", "429")}
    call: dict[str, Any] = {
        "summary": summary,
        "responses": {
            "200": _answer("Done", answer),
            "400": _answer("Nothing was processed", refused),
            **errors,
        },
    }
    if body is not None:
        call["requestBody"] = {"required": True, "content": {"application/json": {"schema": body}}}
    return call


def _answer(description: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"schema": schema}}}
