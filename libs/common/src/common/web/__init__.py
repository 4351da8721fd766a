"""HTTP as every service speaks it: strict in, problems out, documented, bounded.

A service's ``api`` module builds its routes on `Router` and imports everything else from here.

    router = Router(tags=["wallet"])
    Service = Annotated[WalletService, Depends(from_state("service"))]

    @router.post("/wallet/charges", status_code=201, responses=problems((409, "in-progress")))
    async def charge(body: Charge, user: CurrentUser, key: IdempotencyKey, it: Service) -> Entry:

Ready-made bytes (a cached availability) skip the model but stay documented:

    @router.get("/performances/{performance_id}/availability", response_model=Availability)
    async def availability(performance_id: ResourceId, service: Service) -> Response:
        return json_bytes(await service.availability(performance_id))
"""

from common.security import AdminUser, CurrentUser, QueuePass
from common.web.app import LARGEST_BODY_BYTES, PREFIX, create_web_app
from common.web.dependencies import (
    IdempotencyKey,
    Page,
    PageRequest,
    ResourceId,
    Wait,
    decode_cursor,
    encode_cursor,
    from_state,
    next_cursor,
)
from common.web.limits import RateLimit
from common.web.models import ItemPage, ProblemBody, RequestModel, ResponseModel
from common.web.problems import problem_response, problems, sent_headers, standard_problem
from common.web.requests import Router, deadline
from common.web.responses import json_bytes

__all__ = [
    "LARGEST_BODY_BYTES",
    "PREFIX",
    "AdminUser",
    "CurrentUser",
    "IdempotencyKey",
    "ItemPage",
    "Page",
    "PageRequest",
    "ProblemBody",
    "QueuePass",
    "RateLimit",
    "RequestModel",
    "ResourceId",
    "ResponseModel",
    "Router",
    "Wait",
    "create_web_app",
    "deadline",
    "decode_cursor",
    "encode_cursor",
    "from_state",
    "json_bytes",
    "next_cursor",
    "problem_response",
    "problems",
    "sent_headers",
    "standard_problem",
]
