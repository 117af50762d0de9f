"""Whether answers are what the gateway's own document says of them."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from openapi_schema_validator import OAS31Validator

PROBLEM = "application/problem+json"
_PLACEHOLDER = re.compile(r"{\w+}")


@dataclass(frozen=True)
class Described:
    """An operation of the document."""

    path: str
    method: str
    operation: Mapping[str, Any]


class Conformance:
    """Knows a document, and holds answers against it."""

    def __init__(self, document: dict[str, Any]) -> None:
        self.document = document
        self._validators: dict[str, OAS31Validator] = {}
        self._paths = [
            (re.compile(_PLACEHOLDER.sub("[^/]+", re.sub(r"[.+]", r"\\\g<0>", path))), path)
            for path in document["paths"]
        ]

    def find(self, method: str, path: str) -> Described | None:
        """What a request gets to; its path may have a query. As aiohttp, in the order of the document."""
        plain = path.partition("?")[0]
        method = "get" if method.upper() == "HEAD" else method.lower()
        for pattern, template in self._paths:
            if pattern.fullmatch(plain) and method in self.document["paths"][template]:
                return Described(template, method, self.document["paths"][template][method])
        return None

    def request_errors(self, described: Described, body: Any) -> list[str]:
        """What is wrong with a request's body."""
        schema = described.operation["requestBody"]["content"]["application/json"]["schema"]
        return list(self._errors(schema, body))

    def answer_errors(
        self, method: str, path: str, status: int, headers: Mapping[str, str], body: bytes
    ) -> Iterator[str]:
        """What of an answer isn't as the document says."""
        media_type = headers.get("Content-Type", "").partition(";")[0]
        described = self.find(method, path)
        if described is None:
            if status not in (400, 401, 404, 405) or media_type != PROBLEM:
                yield f"{status} {media_type} of nothing that the document knows"
            return
        responses = described.operation["responses"]
        if str(status) not in responses:
            yield f"{status}, and the document lists {', '.join(responses)}: {body[:200]!r}"
            return
        response = responses[str(status)]
        for name in response.get("headers", {}):
            if name not in headers and media_type != PROBLEM:
                yield f"{status} has no {name}"
        if method == "HEAD" or (not body and "content" not in response):
            return
        for listed, content in response.get("content", {}).items():
            # Also a range of types, such as image/*.
            if fnmatchcase(media_type, listed.partition(";")[0]):
                if "schema" in content:
                    yield from self._errors(content["schema"], json.loads(body))
                return
        yield f"{status} is {media_type}, and the document lists {', '.join(response.get('content', {})) or 'nothing'}"

    def _errors(self, schema: Mapping[str, Any], value: Any) -> Iterator[str]:
        key = json.dumps(schema, sort_keys=True)
        if key not in self._validators:
            self._validators[key] = OAS31Validator({**schema, "components": self.document["components"]})
        for error in self._validators[key].iter_errors(value):
            yield f"{error.json_path}: {error.message[:300]}"
