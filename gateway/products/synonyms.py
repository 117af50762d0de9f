"""/v1/synonyms: the words that mean the same to a seller's buyers, for search."""

from collections.abc import Callable
from datetime import UTC, datetime

import msgspec
from aiohttp import web

from domain.synonyms import SYNONYMS_BYTES_MAX, check
from gateway.http import bodies, problems
from gateway.http.bodies import json_answer
from gateway.http.intake import Intake, read_body
from gateway.http.openapi import DeclaredResponse, Parameter, operation
from gateway.http.parameters import permits
from gateway.http.problems import ProblemError
from gateway.products.synonym_shapes import SynonymsBody, SynonymsView, as_records, shown
from sinks.postgres.lanes import PostgresUnavailableError
from sinks.postgres.synonyms import StaleSynonyms, Synonyms

_IF_MATCH = Parameter(
    "If-Match", "header", {"type": "string"}, "The ETag of the synonyms that may be changed, or `*` for any."
)

_decoder = msgspec.json.Decoder(SynonymsBody)


class SynonymKeeping:
    """Shows and changes synonyms, in Postgres, with their events."""

    def __init__(self, intake: Intake, synonyms: Synonyms, partitions: Callable[[], int]) -> None:
        """`partitions` says how many each topic has, or raises `ProblemError` where that is not known."""
        self._intake = intake
        self._synonyms = synonyms
        self._partitions = partitions

    def routes(self) -> list[web.RouteDef]:
        """The resource."""
        return [web.get("/v1/synonyms", self.get), web.put("/v1/synonyms", self.put)]

    @operation(
        "The seller's synonyms",
        DeclaredResponse(200, "All of them", SynonymsView, headers=("ETag",)),
    )
    async def get(self, _: web.Request, seller_id: str) -> web.Response:
        """GET /v1/synonyms, from Postgres."""
        with problems.needing_postgres():
            found = await self._synonyms.read(seller_id)
        return json_answer(shown(found.version, found.groups), headers=_etag(found.version))

    @operation(
        "Set the seller's synonyms, all of them",
        DeclaredResponse(200, "The synonyms as they are now", SynonymsView, headers=("ETag",)),
        body=SynonymsBody,
        parameters=[_IF_MATCH],
        problems=[problems.INVALID_FIELD, problems.PRECONDITION_FAILED],
    )
    async def put(self, request: web.Request, seller_id: str) -> web.Response:
        """PUT /v1/synonyms."""
        with self._intake.place(request, seller_id):
            body = await read_body(request, SYNONYMS_BYTES_MAX)
            groups = as_records(bodies.decode_small(_decoder, body))
            refusal = check(groups)
            if refusal is not None:
                raise problems.refused(refusal)
            partitions = self._partitions()
            try:
                result = await self._synonyms.put(
                    seller_id, groups, permits(request.headers), partitions, datetime.now(UTC)
                )
            except PostgresUnavailableError:
                raise ProblemError(
                    problems.UNAVAILABLE,
                    "Postgres does not answer, so it is unknown whether the change was made: send it again, which is"
                    " safe",
                    retry_after_seconds=2,
                ) from None
        if isinstance(result, StaleSynonyms):
            raise ProblemError(
                problems.PRECONDITION_FAILED,
                f"the synonyms are at version {result.version}, to which If-Match doesn't permit a change:"
                " read them and decide again",
                headers=_etag(result.version),
                more={"version": result.version},
            )
        return json_answer(shown(result.version, result.groups), headers=_etag(result.version))


def _etag(version: int) -> dict[str, str]:
    return {"ETag": f'"{version}"'}
