"""Who calls a route: nobody, a fan, an administrator, a fan with a pass."""

from collections.abc import AsyncIterator

import httpx
import pytest
from fastapi import FastAPI

from common.clock import Clock
from common.security import (
    AdminUser,
    BearerVerifier,
    CurrentUser,
    KeySet,
    PassVerifier,
    QueuePass,
)
from common.web.problems import add_problem_handlers
from testkit import Bearer
from testkit import QueuePass as Passes
from testkit.identity import AUDIENCE, ISSUER


@pytest.fixture
async def client(bearer: Bearer, queue_pass: Passes) -> AsyncIterator[httpx.AsyncClient]:
    app, clock = FastAPI(), Clock()
    keys = KeySet(bearer.jwks_url, clock)
    app.state.bearer = BearerVerifier(keys, issuer=ISSUER, audience=AUDIENCE, clock=clock)
    app.state.passes = PassVerifier(queue_pass.keys.pass_public_keys, clock)
    add_problem_handlers(app)

    @app.get("/me")
    async def me(user: CurrentUser) -> str:
        return user.user_id

    @app.get("/admin")
    async def admin(user: AdminUser) -> str:
        return user.user_id

    @app.get("/inside")
    async def inside(admitted: QueuePass) -> str:
        return admitted.concert_id

    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://probe") as client:
        yield client


def refused(answer: httpx.Response) -> tuple[int, str]:
    assert answer.headers["content-type"] == "application/problem+json"
    return answer.status_code, answer.json()["code"]


@pytest.mark.parametrize(
    ("header", "challenge"),
    [
        (None, 'Bearer realm="stagedoor"'),
        ("Basic Zm9vOmJhcg==", 'Bearer realm="stagedoor"'),
        ("Bearer", 'Bearer realm="stagedoor"'),
        ("Bearer nonsense", 'Bearer realm="stagedoor", error="invalid_token"'),
    ],
)
async def test_nobody_is_401_with_a_challenge(
    client: httpx.AsyncClient, header: str | None, challenge: str
) -> None:
    headers = {"Authorization": header} if header else {}
    for path in ("/me", "/admin", "/inside"):
        answer = await client.get(path, headers=headers)
        assert refused(answer) == (401, "unauthenticated")
        assert answer.headers["www-authenticate"] == challenge


async def test_another_issuer_s_token_is_401(client: httpx.AsyncClient, bearer: Bearer) -> None:
    answer = await client.get("/me", headers=bearer("fan", iss="https://elsewhere"))
    assert refused(answer) == (401, "unauthenticated")


async def test_the_user_is_the_subject(client: httpx.AsyncClient, bearer: Bearer) -> None:
    answer = await client.get("/me", headers=bearer("팬") | {"X-User-Id": "other"})
    assert answer.json() == "팬"


async def test_one_role_opens_admin(client: httpx.AsyncClient, bearer: Bearer) -> None:
    assert (await client.get("/admin", headers=bearer("root", ["admin"]))).status_code == 200
    for roles in ([], ["Admin"], ["administrator"]):
        answer = await client.get("/admin", headers=bearer("root", roles))
        assert refused(answer) == (403, "forbidden")


async def test_a_pass_is_personal(
    client: httpx.AsyncClient, bearer: Bearer, queue_pass: Passes
) -> None:
    mine = queue_pass("fan", "concert")
    assert (await client.get("/inside", headers=bearer("fan") | mine)).json() == "concert"
    answer = await client.get("/inside", headers=bearer("thief") | mine)
    assert refused(answer) == (403, "pass-invalid")


async def test_a_pass_is_required(client: httpx.AsyncClient, bearer: Bearer) -> None:
    fan = bearer("fan")
    assert refused(await client.get("/inside", headers=fan)) == (403, "pass-required")
    answer = await client.get("/inside", headers=fan | {"Queue-Pass": "x.y.z"})
    assert refused(answer) == (403, "pass-invalid")
