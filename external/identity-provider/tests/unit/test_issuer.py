"""The fake issuer's tokens are what services verify, across rotation and restart."""

import json
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from common.clock import Clock
from common.security import BearerVerifier, Identity, KeySet, TokenInvalid
from identity_provider.app import create_app
from identity_provider.settings import IdentityProviderSettings
from testkit.openapi import assert_complete

ISSUER = "http://issuer.test"


@pytest.fixture
def settings(tmp_path: Path) -> IdentityProviderSettings:
    return IdentityProviderSettings(identity_issuer=ISSUER, data_dir=tmp_path)


def client_of(settings: IdentityProviderSettings) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(create_app(settings))
    return httpx.AsyncClient(transport=transport, base_url=ISSUER)


@pytest.fixture
async def client(settings: IdentityProviderSettings) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(settings) as client:
        yield client


async def login(client: httpx.AsyncClient, user_id: str = "fan", *roles: str) -> str:
    answer = await client.post("/api/v1/dev/login", json={"user_id": user_id, "roles": roles})
    assert answer.status_code == 200
    assert answer.json()["expires_in"] == 3600
    return str(answer.json()["access_token"])


async def verify(client: httpx.AsyncClient, folder: Path, token: str) -> Identity:
    """As a service would, with the key set as published now."""
    discovery = (await client.get("/.well-known/openid-configuration")).json()
    assert discovery["issuer"] == ISSUER
    keys = await client.get(discovery["jwks_uri"])
    file = folder / "jwks.json"
    file.write_bytes(keys.content)
    clock = Clock()
    verifier = BearerVerifier(
        KeySet(file.as_uri(), clock), issuer=ISSUER, audience="stagedoor", clock=clock
    )
    return await verifier.verify(token)


async def test_a_token_names_user_and_roles(client: httpx.AsyncClient, tmp_path: Path) -> None:
    token = await login(client, "root", "admin")
    assert await verify(client, tmp_path, token) == Identity("root", frozenset({"admin"}))


async def test_one_rotation_leaves_tokens_valid_and_two_do_not(
    client: httpx.AsyncClient, tmp_path: Path
) -> None:
    old = await login(client)
    first = (await client.post("/dev/rotate")).json()["kid"]
    new = await login(client)
    assert await verify(client, tmp_path, old) == await verify(client, tmp_path, new)
    keys = (await client.get("/.well-known/jwks.json")).json()["keys"]
    assert keys[0]["kid"] == first
    assert len(keys) == 2
    assert all("d" not in key for key in keys)  # never the private half
    await client.post("/dev/rotate")
    with pytest.raises(TokenInvalid):
        await verify(client, tmp_path, old)


async def test_a_restart_keeps_tokens_and_the_signing_key(
    client: httpx.AsyncClient, settings: IdentityProviderSettings, tmp_path: Path
) -> None:
    await client.post("/dev/rotate")
    token = await login(client)
    before = (await client.get("/.well-known/jwks.json")).json()
    async with client_of(settings) as restarted:
        assert await verify(restarted, tmp_path, token) == Identity("fan")
        assert (await restarted.get("/.well-known/jwks.json")).json() == before


async def test_private_keys_are_for_the_owner_alone(
    client: httpx.AsyncClient, settings: IdentityProviderSettings
) -> None:
    files = list((settings.data_dir / "keys").iterdir())
    assert len(files) == 1
    assert files[0].stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"user_id": ""},
        {"user_id": "a b"},
        {"user_id": "x" * 129},
        {"user_id": 5},
        {"user_id": "fan", "roles": "admin"},
        {"user_id": "fan", "roles": ["Admin!"]},
        {"user_id": "fan", "password": "x"},
    ],
)
async def test_refuses_what_is_no_login(client: httpx.AsyncClient, body: object) -> None:
    answer = await client.post("/api/v1/dev/login", json=body)
    assert (answer.status_code, json.loads(answer.content)["code"]) == (422, "request-invalid")


async def test_roles_may_be_left_out(client: httpx.AsyncClient, tmp_path: Path) -> None:
    answer = await client.post("/api/v1/dev/login", json={"user_id": "fan"})
    token = answer.json()["access_token"]
    assert await verify(client, tmp_path, token) == Identity("fan")


def test_the_contract_is_complete(settings: IdentityProviderSettings) -> None:
    assert_complete(create_app(settings))


async def test_is_ready_at_once(client: httpx.AsyncClient) -> None:
    for name in ("live", "ready"):
        assert (await client.get(f"/health/{name}")).status_code == 200
