"""What is generated of `gapless-client`: models and operations from OpenAPI, records from the catalogue."""

import asyncio
import functools
import json
import keyword
import re
import tempfile
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from gateway.app import Gateway
from gateway.http import openapi
from runtime.settings import load
from schemas import catalog, generate

#: Names of operations; one that is missing here is named after its method and path.
_NAMES = {
    "POST /v1/invoices": "create_invoice",
    "GET /v1/invoices/{order_id}": "get_invoice",
    "GET /v1/invoices/{order_id}/document": "get_invoice_document",
    "GET /v1/invoices/{order_id}/credit-notes": "get_credit_notes",
    "POST /v1/invoices/{order_id}/credit-notes": "credit_invoice",
    "GET /v1/invoices/{order_id}/credit-notes/{refund_id}/document": "get_credit_note_document",
    "POST /v1/invoices/{order_id}/document-link": "create_document_link",
    "POST /v1/invoices/{order_id}/credit-notes/{refund_id}/document-link": "create_credit_note_link",
    "GET /v1/series": "get_series",
    "GET /v1/series/{series_id}/numbers/{number}": "get_number",
    "POST /v1/checkouts": "check_out",
    "GET /v1/orders": "get_orders",
    "GET /v1/orders/{order_id}": "get_order",
    "POST /v1/orders/{order_id}/shipments": "ship",
    "POST /v1/orders/{order_id}/deliveries": "deliver",
    "POST /v1/orders/{order_id}/cancellations": "cancel",
    "POST /v1/orders/{order_id}/refunds": "refund",
    "POST /v1/analytics/link": "create_analytics_link",
    "GET /v1/stock": "get_stock_levels",
    "GET /v1/stock/{sku}": "get_stock",
    "PUT /v1/stock/{sku}": "put_stock",
    "GET /v1/products": "get_products",
    "GET /v1/products/{product_id}": "get_product",
    "PUT /v1/products/{product_id}": "put_product",
    "DELETE /v1/products/{product_id}": "delete_product",
    "GET /v1/catalogue/{seller_id}/products": "get_catalogue",
    "GET /v1/catalogue/{seller_id}/products/{product_id}": "get_catalogue_product",
    "GET /v1/catalogue/{seller_id}/search": "search_catalogue",
    "GET /v1/synonyms": "get_synonyms",
    "PUT /v1/synonyms": "put_synonyms",
    "GET /v1/carts/{cart_id}": "get_cart",
    "DELETE /v1/carts/{cart_id}": "delete_cart",
    "PUT /v1/carts/{cart_id}/lines/{sku}": "put_cart_line",
    "DELETE /v1/carts/{cart_id}/lines/{sku}": "delete_cart_line",
    "POST /v1/carts/{cart_id}/merge": "merge_cart",
    "POST /v1/orders/{order_id}/tracking-link": "create_tracking_link",
    "GET /v1/orders/{order_id}/lines/{line}/review": "get_review",
    "PUT /v1/orders/{order_id}/lines/{line}/review": "put_review",
    "DELETE /v1/orders/{order_id}/lines/{line}/review": "withdraw_review",
    "POST /v1/orders/{order_id}/lines/{line}/review/moderation": "moderate_review",
    "GET /v1/reviews": "get_reviews",
    "GET /v1/ratings/{sku}": "get_rating",
    "GET /v1/webhooks": "get_webhooks",
    "POST /v1/webhooks": "create_webhook",
    "GET /v1/webhooks/{endpoint_id}": "get_webhook",
    "PATCH /v1/webhooks/{endpoint_id}": "change_webhook",
    "DELETE /v1/webhooks/{endpoint_id}": "delete_webhook",
    "GET /v1/webhooks/{endpoint_id}/secret": "get_webhook_secrets",
    "POST /v1/webhooks/{endpoint_id}/secret": "rotate_webhook_secret",
    "POST /v1/webhooks/{endpoint_id}/test": "test_webhook",
    "GET /v1/webhooks/{endpoint_id}/deliveries": "get_webhook_deliveries",
    "GET /v1/webhooks/{endpoint_id}/deliveries/{delivery_id}": "get_webhook_delivery",
    "POST /v1/webhooks/{endpoint_id}/replay": "replay_webhook",
    "GET /v1/email": "get_email",
    "PUT /v1/email": "set_email",
    "DELETE /v1/email": "delete_email",
    "POST /v1/email/test": "test_email",
    "GET /v1/email/deliveries": "get_email_deliveries",
    "GET /v1/email/deliveries/{delivery_id}": "get_email_delivery",
    "POST /v1/email/replay": "replay_email",
    "POST /v1/email/bounces": "report_bounce",
}
#: Not for storefronts, but for payment providers; the stream, which `follow_order` reads; and what is no JSON.
_LEFT_OUT = re.compile(
    r"/v1/providers/.*|/v1/orders/{order_id}/events|/v1/products/bulk|/v1/images.*|/v1/analytics/.*[.]csv"
)
_REF = "#/components/schemas/"
_PLAIN = {"string": "str", "integer": "int", "number": "float", "boolean": "bool", "null": "None"}
_COLUMNS = 120
_DONT_EDIT = "Generated: don't edit, run `make ops`."


@functools.cache
def _document() -> dict[str, Any]:
    """The gateway's OpenAPI document; nothing connects."""

    async def make() -> dict[str, Any]:
        with tempfile.TemporaryDirectory() as objects:
            gateway = Gateway(
                load(
                    kafka_bootstrap="127.0.0.1:1",
                    postgres_url="postgresql://nobody@127.0.0.1:1/nothing",
                    redis_url="redis://127.0.0.1:1",
                    objects_url=Path(objects).as_uri(),
                )
            )
            await gateway.stop()
            return openapi.document(gateway.application)

    return asyncio.run(make())


def render_models() -> str:
    """`models.py`: the types of bodies, each behind those that it consists of."""
    schemas = _document()["components"]["schemas"]
    classes: dict[str, str] = {}
    for _, _, operation in _operations():
        for node in (_body(operation), *_answers(operation), schemas["Problem"]):
            _define(node, schemas, classes)
    _define({"$ref": f"{_REF}Problem"}, schemas, classes)
    head = f'''"""The bodies of requests and responses. {_DONT_EDIT}"""

from typing import Any, Literal, NotRequired, TypedDict
'''
    return "\n\n".join([head, *classes.values()])


def render_operations() -> str:
    """`operations.py`: a method for each operation, as the two clients have them."""
    plain = "\n".join(_method(*each, is_async=False) for each in _operations())
    asynchronous = "\n".join(_method(*each, is_async=True) for each in _operations())
    return f'''"""The operations of a gateway, for both clients. {_DONT_EDIT}"""

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Iterator
from typing import Any, Literal
from urllib.parse import quote

from gapless_client import models


def _quoted(part: str | int) -> str:
    return quote(str(part), safe="")


class Operations(ABC):
    """Each operation; it returns when the gateway has answered."""

    @abstractmethod
    def _call(self, method: str, path: str, **how: Any) -> Any: ...

{plain}

class AsyncOperations(ABC):
    """Each operation, to be awaited."""

    @abstractmethod
    async def _call(self, method: str, path: str, **how: Any) -> Any: ...

{asynchronous}'''


def render_records() -> str:
    """`records.py`: the types of the records on the topics."""
    text = generate.generate()
    head = f'"""The topics\' records, of their newest versions; times are microseconds since 1970. {_DONT_EDIT}"""\n\n'
    return head + text[text.index("from typing") :]


def render_schemas() -> str:
    """`schemas.json`: each version of each record by its id, and the newest id of each record."""
    found = {schema.name: schema for topic in catalog.TOPICS.values() for schema in topic.schemas}
    newest = {name: schema.newest.schema_id for name, schema in sorted(found.items())}
    ids = {str(number): version.parsed for number, (_, version) in sorted(catalog.VERSIONS.items())}
    schemas = {number: {k: v for k, v in each.items() if not k.startswith("__")} for number, each in ids.items()}
    return json.dumps({"newest": newest, "schemas": _without_docs(schemas)}, separators=(",", ":")) + "\n"


def _without_docs(node: Any) -> Any:
    if isinstance(node, list):
        return [_without_docs(each) for each in node]
    if isinstance(node, dict):
        return {name: _without_docs(each) for name, each in node.items() if name != "doc"}
    return node


def _operations() -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    """Method, path and description of each operation that is for storefronts."""
    for path, methods in _document()["paths"].items():
        for method, operation in methods.items():
            if path.startswith("/v1/") and not _LEFT_OUT.fullmatch(path):
                yield method.upper(), path, operation


def _body(operation: Mapping[str, Any]) -> Any:
    content = operation.get("requestBody", {"content": {}})["content"]
    return content.get("application/json", {}).get("schema", {})


def _answers(operation: Mapping[str, Any]) -> list[Any]:
    """The types of successful responses; an empty one for what is no JSON."""
    found: list[Any] = []
    for status, response in operation["responses"].items():
        content = response.get("content", {})
        if status.startswith("2") and content:
            found += [each.get("schema", {}) if kind == "application/json" else {} for kind, each in content.items()]
    return found


def _define(node: Any, schemas: Mapping[str, Any], classes: dict[str, str]) -> None:
    """Add the types that stand in this one, and this one, to `classes`."""
    if isinstance(node, list):
        for each in node:
            _define(each, schemas, classes)
    elif isinstance(node, dict):
        name = node.get("$ref", "").removeprefix(_REF)
        if name and name not in classes:
            for each in schemas[name].get("properties", {}).values():
                _define(each, schemas, classes)
            classes[name] = _class(name, schemas[name])
        for part in ("anyOf", "items", "additionalProperties"):
            _define(node.get(part), schemas, classes)


def _class_name(name: str) -> str:
    """A type of two meanings has the name of its module before its own: `details.Payment` is `DetailsPayment`."""
    *_, module, own = ("", *name.split("."))
    return module.title().replace("_", "") + own


def _class(name: str, schema: Mapping[str, Any]) -> str:
    name = _class_name(name)
    required = schema.get("required", ())
    fields = {
        field: _type(each) if field in required else f"NotRequired[{_type(each)}]"
        for field, each in schema.get("properties", {}).items()
    }
    description = " ".join(schema.get("description", name).split())
    if any(keyword.iskeyword(field) for field in fields):
        made = "".join(f'        "{field}": {kind},\n' for field, kind in fields.items())
        return f'{name} = TypedDict(\n    "{name}",\n    {{\n{made}    }},\n)\n'
    text = textwrap.fill(
        f'"""{description}"""', _COLUMNS, initial_indent="    ", subsequent_indent="    ", break_long_words=False
    )
    made = "".join(f"    {field}: {kind}\n" for field, kind in fields.items())
    return f"class {name}(TypedDict):\n{text}\n\n{made}"


def _type(node: Mapping[str, Any], module: str = "") -> str:
    """How the type is written."""
    if "$ref" in node:
        return module + _class_name(str(node["$ref"]).removeprefix(_REF))
    if "anyOf" in node:
        kinds = dict.fromkeys(_type(each, module) for each in node["anyOf"])
        return " | ".join(sorted(kinds, key="None".__eq__))
    if "enum" in node and len(node["enum"]) <= 10:
        return f"Literal[{', '.join(json.dumps(each) for each in node['enum'])}]"
    kind = node.get("type")
    if isinstance(kind, list):
        return " | ".join(sorted((_PLAIN[each] for each in kind), key="None".__eq__))
    if kind == "array":
        return f"list[{_type(node.get('items', {}), module)}]"
    if kind == "object":
        within = node.get("additionalProperties")
        return f"dict[str, {_type(within, module) if isinstance(within, dict) else 'Any'}]"
    return _PLAIN.get(str(kind), "Any")


def _method(method: str, path: str, operation: Mapping[str, Any], *, is_async: bool) -> str:
    name = _NAMES.get(f"{method} {path}") or _name(method, path)
    answers = list(dict.fromkeys(_type(each, "models.") if each else "bytes" for each in _answers(operation)))
    returned = " | ".join(answers) or "None"
    arguments, how = ["self"], []
    parameters = operation.get("parameters", ())
    arguments += [f"{each['name']}: {_type(each['schema'])}" for each in parameters if each["in"] == "path"]
    if _body(operation):
        is_needed = operation["requestBody"]["required"]
        kind = _type(_body(operation), "models.")
        arguments.append(f"body: {kind}" if is_needed else f"body: {kind} | None = None")
        how.append("body=body" if is_needed else "body=body or {}")
    named, query = [], []
    for each in parameters:
        if each["in"] == "query":
            named.append(_argument(each))
            query.append(f'"{each["name"]}": {each["name"]}')
        elif each["name"] == "Prefer":
            named.append("wait_seconds: int | None = None")
            how.append("wait_seconds=wait_seconds")
    if query:
        how.append(f"query={{{', '.join(query)}}}")
    if any(each["name"] == "Idempotency-Key" for each in parameters):
        body = _body(operation)
        # Where it may be one of several, they have the same id.
        first = body.get("anyOf", [body])[0]["$ref"].removeprefix(_REF)
        properties = _document()["components"]["schemas"][first]["properties"]
        how.append(f'key="{next(each for each in ("credit_note_id", "refund_id", "order_id") if each in properties)}"')
    elif method == "POST" and not any(each["name"] == "Prefer" for each in parameters):
        # Commands name what they are about, and change it once; of the others, each is another.
        how.append("is_repeatable=False")
    if "bytes" in answers:
        how.append("is_json=False")
    signature = ", ".join([*arguments, "*", *named] if named else arguments)
    where = f'f"{_path(path)}"' if "{" in path else f'"{path}"'
    call = ", ".join([f'"{method}"', where, *how])
    later = " If it takes longer, the answer says only that it was accepted." if "202" in operation["responses"] else ""
    before, awaited = ("async ", "await ") if is_async else ("", "")
    made = f'''    {before}def {name}({signature}) -> {returned}:
        """{operation["summary"]}.{later}"""
        answer: {returned} = {awaited}self._call({call})
        return answer
'''
    names = [each["name"] for each in parameters]
    if method == "GET" and "cursor" in names:
        made += "\n" + _pages(name, operation, parameters, is_async=is_async)
    return made


def _argument(parameter: Mapping[str, Any]) -> str:
    kind = _type(parameter["schema"])
    return f"{parameter['name']}: {kind}" + ("" if parameter["required"] else " | None = None")


def _pages(name: str, operation: Mapping[str, Any], parameters: Any, *, is_async: bool) -> str:
    """A method that goes through all pages of a list."""
    [answer] = _answers(operation)
    properties = _document()["components"]["schemas"][answer["$ref"].removeprefix(_REF)]["properties"]
    [(items, kind)] = [(key, each["items"]) for key, each in properties.items() if each.get("type") == "array"]
    others = [each for each in parameters if each["in"] == "query" and each["name"] not in ("cursor", "limit")]
    where = [each["name"] for each in parameters if each["in"] == "path"]
    named = [_argument(each) for each in others]
    signature = ", ".join(["self", *(f"{each}: str" for each in where), *(["*", *named] if named else [])])
    passed = "".join(f"{each}, " for each in where) + "".join(f"{each['name']}={each['name']}, " for each in others)
    before, awaited, iterator = ("async ", "await ", "AsyncIterator") if is_async else ("", "", "Iterator")
    item = _type(kind, "models.")
    return f'''    {before}def each_{_one(name.removeprefix("get_"))}({signature}) -> {iterator}[{item}]:
        """{operation["summary"]}: all of them, page by page."""
        cursor: str | None = None
        while True:
            page = {awaited}self.{name}({passed}limit=100, cursor=cursor)
            for each in page["{items}"]:
                yield each
            cursor = page["next"]
            if cursor is None:
                return
'''


def _one(name: str) -> str:
    if name.endswith("series"):
        return name
    return name.removesuffix("ies") + "y" if name.endswith("ies") else name.removesuffix("s")


def _name(method: str, path: str) -> str:
    parts = [part.replace("-", "_") for part in path.removeprefix("/v1/").split("/") if not part.startswith("{")]
    verb = {"GET": "get", "POST": "create", "PUT": "put", "DELETE": "delete", "PATCH": "change"}[method]
    last = "_one" if path.endswith("}") and method == "GET" else ""
    return "_".join([verb, *parts]) + last


def _path(path: str) -> str:
    return re.sub(r"{(\w+)}", r"{_quoted(\1)}", path)
