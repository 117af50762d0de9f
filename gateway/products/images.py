"""Pictures of products that sellers upload: kept in the object store by their content, and served for ever."""

import asyncio
import hashlib
import io
import logging
import re
from typing import TypedDict

from aiohttp import web

from domain.numbering import SELLER_ID
from domain.refusals import INVALID_FIELD, Refusal
from gateway.http import problems
from gateway.http.bodies import json_answer
from gateway.http.intake import Intake, read_body
from gateway.http.openapi import DeclaredResponse, Parameter, open_operation, operation, whole
from gateway.http.parameters import entity_tags
from gateway.http.problems import ProblemError
from sinks.object_store.store import NotStoredError, ObjectStore, StoreUnavailableError

_log = logging.getLogger(__name__)

IMAGE_BYTES_MAX = 2 * 1024 * 1024
#: Each side; a small file can claim to be a wall of pixels, which buyers' browsers would unpack.
SIDE_PIXELS_MAX = 8_000
#: Pillow's name of a format → ending and media type. No SVG: it can hold scripts.
_FORMATS = {"PNG": ("png", "image/png"), "JPEG": ("jpg", "image/jpeg"), "WEBP": ("webp", "image/webp")}
#: What Pillow calls a JPEG with further pictures behind it, as phones take them; others show its first.
_SEVERAL_JPEGS = "MPO"
_TYPE_OF = dict(_FORMATS.values())
_NAME = re.compile(r"([0-9a-f]{64})\.(" + "|".join(_TYPE_OF) + ")")
_PUBLIC = "public, max-age=31536000, immutable"
_STORE_SECONDS_MAX = 10.0
_RETRY_SECONDS = 2
_HEADERS = ("ETag", "Cache-Control")

_SELLER = Parameter(
    "seller_id", "path", {"type": "string", "pattern": whole(SELLER_ID)}, "Whose picture.", required=True
)
_IMAGE = Parameter(
    "name", "path", {"type": "string", "pattern": whole(_NAME)}, "The last part of its URL.", required=True
)
_IF_NONE_MATCH = Parameter("If-None-Match", "header", {"type": "string"}, "The ETag of one's own copy.")


class ImageView(TypedDict):
    """An uploaded picture; sizes in pixels."""

    url: str
    width: int
    height: int


class Images:
    """Keeps and serves pictures."""

    def __init__(self, intake: Intake, store: ObjectStore, public_url: str | None) -> None:
        """`public_url` None: as the caller addresses us."""
        self._intake = intake
        self._store = store
        self._public_url = public_url

    def routes(self) -> list[web.RouteDef]:
        """The resources; reading is open to all as the catalogue is."""
        return [web.post("/v1/images", self.post), web.get("/v1/images/{seller_id}/{name}", self.get)]

    @operation(
        "Upload a picture for products: a PNG, JPEG or WebP file",
        DeclaredResponse(201, "Where it is; the same file has the same URL", ImageView, headers=("Location",)),
        body=bytes,
        body_media_type="image/*",
        problems=[problems.INVALID_FIELD, problems.UNAVAILABLE],
    )
    async def post(self, request: web.Request, seller_id: str) -> web.Response:
        """POST /v1/images."""
        with self._intake.place(request, seller_id):
            body = await read_body(request, IMAGE_BYTES_MAX)
            ending, width, height = _checked(body)
            name = f"{hashlib.sha256(body).hexdigest()}.{ending}"
            try:
                async with asyncio.timeout(_STORE_SECONDS_MAX):
                    await self._store.put_if_absent(_key(seller_id, name), body)
            except (StoreUnavailableError, TimeoutError) as error:
                raise _unavailable("takes", error) from None
        base = self._public_url or f"{request.scheme}://{request.host}"
        view: ImageView = {
            "url": f"{base.rstrip('/')}/v1/images/{seller_id}/{name}",
            "width": width,
            "height": height,
        }
        return json_answer(view, status=201, headers={"Location": view["url"]})

    @open_operation(
        "An uploaded picture, for buyers",
        DeclaredResponse(
            200, "The picture, which never changes", media_type="image/*", headers=("ETag", "Cache-Control")
        ),
        DeclaredResponse(304, "The caller already has it", headers=("ETag", "Cache-Control")),
        parameters=[_SELLER, _IMAGE, _IF_NONE_MATCH],
        problems=[problems.NOT_FOUND, problems.UNAVAILABLE],
    )
    async def get(self, request: web.Request) -> web.Response:
        """GET /v1/images/{seller_id}/{name}."""
        seller_id, name = request.match_info["seller_id"], request.match_info["name"]
        named = _NAME.fullmatch(name)
        if named is None or SELLER_ID.fullmatch(seller_id) is None:
            raise _unknown()
        sha256, ending = named.groups()
        headers = {
            "ETag": f'"{sha256}"',
            "Cache-Control": _PUBLIC,
            # Whatever a browser makes of the bytes, nothing in them runs.
            "X-Content-Type-Options": "nosniff",
            "Content-Security-Policy": "default-src 'none'; sandbox",
        }
        known = entity_tags(request.headers, "If-None-Match")
        if known is not None and known.match_weakly(sha256):
            return web.Response(status=304, headers=headers)
        try:
            async with asyncio.timeout(_STORE_SECONDS_MAX):
                body = await self._store.get(_key(seller_id, name))
        except NotStoredError:
            raise _unknown() from None
        except (StoreUnavailableError, TimeoutError) as error:
            raise _unavailable("returns", error) from None
        if hashlib.sha256(body).hexdigest() != sha256:
            _log.error("the picture %s is not the one that was uploaded", _key(seller_id, name))
            raise ProblemError(problems.INTERNAL, "the stored picture is damaged: upload it again")
        return web.Response(body=body, content_type=_TYPE_OF[ending], headers=headers)


def _key(seller_id: str, name: str) -> str:
    return f"images/{seller_id}/{name}"


def _checked(body: bytes) -> tuple[str, int, int]:
    """Ending, width and height of a picture. Raises `ProblemError`."""
    # On use: most gateways never see a picture.
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(io.BytesIO(body), formats=list(_FORMATS)) as picture:
            width, height = picture.size
            ending, _ = _FORMATS["JPEG" if picture.format == _SEVERAL_JPEGS else str(picture.format)]
            picture.verify()
    except UnidentifiedImageError:
        raise _refused("must be a PNG, JPEG or WebP file") from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise _refused(f"cannot be read as a picture: {error}") from None
    if max(width, height) > SIDE_PIXELS_MAX:
        raise _refused(f"must have at most {SIDE_PIXELS_MAX:,} pixels on each side, not {width:,} x {height:,}")
    return ending, width, height


def _refused(rule: str) -> ProblemError:
    return problems.refused(Refusal(INVALID_FIELD, "image", rule))


def _unknown() -> ProblemError:
    return ProblemError(problems.NOT_FOUND, "there is no such picture")


def _unavailable(does: str, error: Exception) -> ProblemError:
    _log.warning("the object store %s no pictures: %s: %s", does, type(error).__name__, error)
    return ProblemError(problems.UNAVAILABLE, "the object store is unavailable", retry_after_seconds=_RETRY_SECONDS)
