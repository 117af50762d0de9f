"""Pictures of products: uploaded by the seller, shown to all, for ever the same."""

import hashlib
import io
from collections.abc import AsyncIterator

import pytest
from PIL import Image

from gateway.products.images import IMAGE_BYTES_MAX, SIDE_PIXELS_MAX
from tests.conftest import Services
from tests.integration.gateways import KEYS, Answer, Client, Topics, running
from tests.integration.test_products import product, put

PUBLIC = "https://shop.example/api/"


def picture(kind: str = "PNG", size: tuple[int, int] = (40, 30), colour: str = "teal") -> bytes:
    """A picture file."""
    made = io.BytesIO()
    Image.new("RGB", size, colour).save(made, kind)
    return made.getvalue()


@pytest.fixture
async def client(services: Services, ledger: str, topics: Topics) -> AsyncIterator[Client]:
    """A client of the seller `demo`, whose shop has an address of its own."""
    async with running(services, ledger, topics, public_url=PUBLIC) as made:
        yield made


async def upload(client: Client, body: bytes, content_type: str = "image/png") -> Answer:
    """POST /v1/images."""
    return await client.call("POST", "/v1/images", {"Content-Type": content_type}, data=io.BytesIO(body))


@pytest.mark.parametrize(
    ("kind", "ending", "media_type"),
    [("PNG", "png", "image/png"), ("JPEG", "jpg", "image/jpeg"), ("WEBP", "webp", "image/webp")],
)
async def test_what_is_uploaded_is_shown_to_all_and_kept_by_caches(
    client: Client, kind: str, ending: str, media_type: str
) -> None:
    body = picture(kind)
    made = await upload(client, body)
    digest = hashlib.sha256(body).hexdigest()
    url = f"{PUBLIC}v1/images/demo/{digest}.{ending}"
    assert (made.status, made.json) == (201, {"url": url, "width": 40, "height": 30})
    assert made.headers["Location"] == url
    anybody, path = client.as_(None), f"/v1/images/demo/{digest}.{ending}"
    shown = await anybody.get(path)
    assert (shown.status, shown.body, shown.headers["Content-Type"]) == (200, body, media_type)
    assert shown.headers["Cache-Control"] == "public, max-age=31536000, immutable"
    assert shown.headers["X-Content-Type-Options"] == "nosniff"
    assert (await anybody.get(path, If_None_Match=shown.headers["ETag"])).status == 304
    # The same file again is the same picture; and a product takes its URL.
    assert (await upload(client, body)).json == made.json
    named = product(images=[{"url": made.json["url"], "alt": "A mug"}])
    assert (await put(client, f"pictured-{ending}", named)).status in (200, 201)


async def test_a_jpeg_with_further_pictures_in_it_is_a_jpeg(client: Client) -> None:
    """As phones take them: with a preview, or a map of depths."""
    made = io.BytesIO()
    pictures = [Image.new("RGB", (40, 30), colour) for colour in ("teal", "gold")]
    pictures[0].save(made, "MPO", save_all=True, append_images=pictures[1:])
    uploaded = await upload(client, made.getvalue(), "image/jpeg")
    assert (uploaded.status, uploaded.json["width"], uploaded.json["url"][-4:]) == (201, 40, ".jpg")
    shown = await client.get(uploaded.json["url"].removeprefix(PUBLIC.rstrip("/")))
    assert (shown.body, shown.headers["Content-Type"]) == (made.getvalue(), "image/jpeg")


async def test_no_seller_shows_anothers_picture_as_its_own(client: Client) -> None:
    made = await upload(client, picture(colour="red"))
    path = made.json["url"].removeprefix(PUBLIC.rstrip("/"))
    assert (await client.get(path)).status == 200
    assert (await client.get(path.replace("/demo/", "/other/"))).status == 404
    other = await upload(client.as_(KEYS["other"]), picture(colour="red"))
    assert other.json["url"] == made.json["url"].replace("/demo/", "/other/")


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "must be a PNG, JPEG or WebP file"),
        (
            b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>",
            "must be a PNG, JPEG or WebP file",
        ),
        (b"GIF89a" + bytes(64), "must be a PNG, JPEG or WebP file"),
        (picture()[:60], "cannot be read as a picture"),
        (picture(size=(SIDE_PIXELS_MAX + 1, 1)), "at most 8,000 pixels on each side, not 8,001 x 1"),
    ],
    ids=["empty", "svg", "gif", "cut", "wide"],
)
async def test_what_is_no_picture_is_refused_with_the_reason(client: Client, body: bytes, said: str) -> None:
    refused = await upload(client, body)
    assert (refused.status, refused.json["field"]) == (422, "image")
    assert said in refused.json["detail"]


async def test_a_picture_has_bounds_and_names_have_a_form(client: Client) -> None:
    assert (await upload(client, bytes(IMAGE_BYTES_MAX + 1))).status == 413
    assert (await upload(client.as_(None), picture())).status == 401
    missing = "0" * 64
    for name in (f"{missing}.png", f"{missing}.svg", "..%2F..%2Fsecret", "x.png"):
        assert (await client.get(f"/v1/images/demo/{name}")).status == 404


async def test_a_damaged_picture_is_never_shown(client: Client, services: Services) -> None:
    """Torn by a power failure, say; uploading it again mends it."""
    body = picture(colour="gold")
    path = (await upload(client, body)).json["url"].removeprefix(PUBLIC.rstrip("/"))
    (services.objects / path.removeprefix("/v1/")).write_bytes(body[:-20])
    assert (await client.get(path)).status == 500
    assert (await upload(client, body)).status == 201
    assert (await client.get(path)).body == body


async def test_without_the_store_it_says_so(services: Services, ledger: str, topics: Topics) -> None:
    nowhere = "http://127.0.0.1:1"
    async with running(services, ledger, topics, objects_url="s3://nowhere", objects_endpoint=nowhere) as client:
        refused = await upload(client, picture())
        assert (refused.status, refused.json["detail"]) == (503, "the object store is unavailable")
        assert int(refused.headers["Retry-After"]) > 0
        assert (await client.get(f"/v1/images/demo/{'0' * 64}.png")).status == 503
