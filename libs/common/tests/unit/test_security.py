"""Bearer tokens and passes: what proves somebody, what does not, and what it costs the issuer."""

import asyncio
import base64
import hashlib
import hmac
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from common.clock import Clock
from common.errors import DependencyUnavailable
from common.security import (
    BearerVerifier,
    KeySet,
    Pass,
    PassSigner,
    PassVerifier,
    TokenInvalid,
)
from testkit import eventually

NOW = datetime(2026, 11, 21, tzinfo=UTC)
KEYS = {kid: rsa.generate_private_key(65537, 2048) for kid in ("one", "two")}
PASS_KEYS = {kid: Ed25519PrivateKey.generate() for kid in ("p1", "p2")}


class StillClock(Clock):
    """Time that moves only when told."""

    def __init__(self) -> None:
        super().__init__()
        self.moment = NOW
        self.seconds = 1000.0

    def now(self) -> datetime:
        return self.moment

    def monotonic(self) -> float:
        return self.seconds

    def forward(self, seconds: float) -> None:
        self.moment += timedelta(seconds=seconds)
        self.seconds += seconds


def jwk(kid: str) -> dict[str, Any]:
    public: dict[str, Any] = jwt.algorithms.RSAAlgorithm.to_jwk(
        KEYS[kid].public_key(), as_dict=True
    )
    return public | {"kid": kid, "use": "sig", "alg": "RS256"}


def claims(**changes: Any) -> dict[str, Any]:
    usual = {
        "iss": "https://issuer",
        "aud": "stagedoor",
        "sub": "fan",
        "roles": ["admin"],
        "exp": int(NOW.timestamp()) + 60,
    }
    return {name: value for name, value in (usual | changes).items() if value is not None}


def token(kid: str = "one", key: Any = None, **changes: Any) -> str:
    return jwt.encode(claims(**changes), key or KEYS[kid], algorithm="RS256", headers={"kid": kid})


def encoded(part: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode()


def unsigned() -> str:
    return f"{encoded({'alg': 'none', 'kid': 'one'})}.{encoded(claims())}."


def signed_with_the_public_key() -> str:
    """The classic confusion: HS256 with the RSA public key as the secret."""
    pem = KEYS["one"].public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    head = f"{encoded({'alg': 'HS256', 'kid': 'one'})}.{encoded(claims())}"
    mac = hmac.new(pem, head.encode(), hashlib.sha256).digest()
    return f"{head}.{base64.urlsafe_b64encode(mac).rstrip(b'=').decode()}"


def tampered() -> str:
    head, _, signature = token().split(".")
    return f"{head}.{encoded(claims(sub='somebody else'))}.{signature}"


@pytest.fixture
def clock() -> StillClock:
    return StillClock()


@pytest.fixture
def jwks(tmp_path: Path) -> Callable[..., Path]:
    def write(*kids: str) -> Path:
        file = tmp_path / "jwks.json"
        file.write_text(json.dumps({"keys": [jwk(kid) for kid in kids]}))
        return file

    return write


@pytest.fixture
def verifier(jwks: Callable[..., Path], clock: StillClock) -> BearerVerifier:
    keys = KeySet(jwks("one").as_uri(), clock)
    return BearerVerifier(keys, issuer="https://issuer", audience="stagedoor", clock=clock)


class TestBearer:
    async def test_names_the_caller(self, verifier: BearerVerifier) -> None:
        identity = await verifier.verify(token())
        assert (identity.user_id, identity.roles) == ("fan", {"admin"})
        assert identity.is_admin

    @pytest.mark.parametrize(
        "bad",
        [
            token(exp=int(NOW.timestamp())),  # expired this instant
            token(exp=None),
            token(exp="soon"),
            token(exp=True),
            token(exp=float("inf")),
            token(nbf=int(NOW.timestamp()) + 1),
            token(iss="https://other"),
            token(iss=None),
            token(aud="reservation"),
            token(aud=None),
            token(sub=None),
            token(sub=""),
            token(sub="x" * 129),
            token(sub="a\nb"),
            token(roles="admin"),
            token(roles=[1]),
            token(kid="two"),  # not published
            token(key=KEYS["two"]),  # another key under a known name
            f"{encoded({'alg': 'RS256', 'kid': None})}.{encoded(claims())}.x",
            jwt.encode(claims(), KEYS["one"], algorithm="RS256"),  # no key id
            jwt.encode(claims(), KEYS["one"], algorithm="RS512", headers={"kid": "one"}),
            unsigned(),
            signed_with_the_public_key(),
            tampered(),
            "",
            "a.b.c",
            "..",
            "*",  # no token is ever a pattern
            "é",
            "x" * 10_000,
            encoded({"alg": "RS256", "kid": "one"}) + "." + "[" * 3000 + ".x",
        ],
    )
    async def test_proves_nobody(self, verifier: BearerVerifier, bad: str) -> None:
        with pytest.raises(TokenInvalid):
            await verifier.verify(bad)

    async def test_a_remembered_token_still_expires(
        self, verifier: BearerVerifier, clock: StillClock
    ) -> None:
        remembered = token()
        await verifier.verify(remembered)
        clock.forward(59.999)
        await verifier.verify(remembered)
        clock.forward(0.001)
        with pytest.raises(TokenInvalid):
            await verifier.verify(remembered)

    async def test_a_remembered_token_is_not_verified_again(
        self, verifier: BearerVerifier, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        remembered = token()
        first = await verifier.verify(remembered)
        monkeypatch.setattr(jwt, "decode", None)
        assert await verifier.verify(remembered) is first

    async def test_the_memory_is_bounded(
        self, verifier: BearerVerifier, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("common.security.identity.CACHED_TOKENS", 2)
        for user in "abc":
            await verifier.verify(token(sub=user))
        assert len(verifier._known) == 2


class TestKeys:
    async def test_a_new_key_is_found_and_the_old_one_stays(
        self, verifier: BearerVerifier, jwks: Callable[..., Path], clock: StillClock
    ) -> None:
        await verifier.verify(token("one"))
        jwks("two", "one")
        clock.forward(5)
        await verifier.verify(token("two"))
        await verifier.verify(token("one", sub="other"))

    async def test_a_key_taken_away_stops_being_believed(
        self, verifier: BearerVerifier, jwks: Callable[..., Path], clock: StillClock
    ) -> None:
        await verifier.verify(token("one"))
        jwks("two")
        clock.forward(301)
        with pytest.raises(TokenInvalid):
            await verifier.verify(token("one", sub="other", exp=int(NOW.timestamp()) + 9999))

    async def test_unknown_ids_ask_the_issuer_at_most_every_five_seconds(
        self, clock: StillClock, jwks: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        keys = KeySet(jwks("one").as_uri(), clock)
        asked = 0
        read = keys._read

        async def counted() -> Any:
            nonlocal asked
            asked += 1
            return await read()

        monkeypatch.setattr(keys, "_read", counted)
        await keys.get("one")
        for _ in range(100):
            clock.forward(0.1)  # ten seconds in all
            with pytest.raises(TokenInvalid):
                await keys.get("forged")
        assert asked == 3

    async def test_known_keys_survive_the_issuer(
        self, verifier: BearerVerifier, jwks: Callable[..., Path], clock: StillClock
    ) -> None:
        await verifier.verify(token())
        jwks("one").unlink()
        clock.forward(3600)
        later = int(clock.now().timestamp()) + 60
        assert (await verifier.verify(token(exp=later))).user_id == "fan"

    @pytest.mark.parametrize(
        "content", ["", "{}", '{"keys": []}', '{"keys": [{"kty": "RSA", "kid": "one"}]}', "[1]"]
    )
    async def test_without_any_key_it_is_an_outage_not_a_verdict(
        self, clock: StillClock, tmp_path: Path, content: str
    ) -> None:
        file = tmp_path / "keys.json"
        file.write_text(content)
        with pytest.raises(DependencyUnavailable):
            await KeySet(file.as_uri(), clock).get("one")

    async def test_a_weak_or_foreign_key_is_not_taken(
        self, clock: StillClock, tmp_path: Path
    ) -> None:
        weak: dict[str, Any] = jwt.algorithms.RSAAlgorithm.to_jwk(
            rsa.generate_private_key(65537, 1024).public_key(), as_dict=True
        )
        secret = {"kty": "oct", "k": "c2VjcmV0", "kid": "secret"}
        encryption = jwk("two") | {"use": "enc"}
        document = {"keys": [jwk("one"), weak | {"kid": "weak"}, secret, encryption]}
        file = tmp_path / "keys.json"
        file.write_text(json.dumps(document))
        keys = KeySet(file.as_uri(), clock)
        await keys.get("one")
        for kid in ("weak", "secret", "two"):
            with pytest.raises(TokenInvalid):
                await keys.get(kid)

    async def test_an_issuer_that_hangs_costs_a_second_once(
        self, clock: StillClock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("common.security.identity._FETCH_SECONDS", 0.5)
        asked = 0

        async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal asked
            asked += 1
            await reader.read()
            writer.close()

        server = await asyncio.start_server(hang, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        keys = KeySet(f"http://127.0.0.1:{port}/jwks.json", clock)
        for _ in range(50):
            with pytest.raises(DependencyUnavailable):
                await keys.get("one")
        server.close()
        assert asked == 1

    async def test_a_warm_process_asks_nobody_on_the_first_request(
        self, verifier: BearerVerifier, jwks: Callable[..., Path]
    ) -> None:
        await verifier.warm_up()
        jwks("one").unlink()
        assert (await verifier.verify(token())).user_id == "fan"

    async def test_aging_keys_are_fetched_while_the_old_ones_serve(
        self, jwks: Callable[..., Path], clock: StillClock
    ) -> None:
        keys = KeySet(jwks("one").as_uri(), clock)
        await keys.get("one")
        jwks("one", "two")
        clock.forward(241)
        await keys.get("one")

        async def fetched() -> bool:
            return "two" in keys._keys

        await eventually(fetched, within_seconds=2)


@pytest.fixture
def pass_keys(tmp_path: Path) -> Path:
    folder = tmp_path / "passes"
    folder.mkdir()
    publish(folder, "p1")
    return folder


def publish(folder: Path, kid: str) -> None:
    pem = PASS_KEYS[kid].public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    (folder / f"{kid}.pem").write_bytes(pem)


def signer(kid: str = "p1") -> PassSigner:
    pem = PASS_KEYS[kid].private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return PassSigner(pem.decode(), kid)


ADMITTED = Pass("fan", "concert", "pass", NOW + timedelta(seconds=60))


class TestPass:
    def test_comes_back_as_it_was_signed(self, pass_keys: Path, clock: StillClock) -> None:
        assert PassVerifier(pass_keys, clock).verify(signer().sign(ADMITTED)) == ADMITTED

    def test_expires_also_when_remembered(self, pass_keys: Path, clock: StillClock) -> None:
        verifier = PassVerifier(pass_keys, clock)
        signed = signer().sign(ADMITTED)
        clock.forward(59.9)
        verifier.verify(signed)
        clock.forward(0.1)
        with pytest.raises(TokenInvalid):
            verifier.verify(signed)

    @pytest.mark.parametrize(
        "changes",
        [{"aud": "stagedoor"}, {"pass_id": None}, {"concert_id": 5}, {"sub": None}, {"exp": None}],
    )
    def test_is_complete(self, pass_keys: Path, clock: StillClock, changes: dict[str, Any]) -> None:
        usual = jwt.decode(signer().sign(ADMITTED), options={"verify_signature": False})
        body = {name: value for name, value in (usual | changes).items() if value is not None}
        bad = jwt.encode(body, PASS_KEYS["p1"], algorithm="EdDSA", headers={"kid": "p1"})
        with pytest.raises(TokenInvalid):
            PassVerifier(pass_keys, clock).verify(bad)

    def test_an_identity_is_no_pass(self, pass_keys: Path, clock: StillClock) -> None:
        with pytest.raises(TokenInvalid):
            PassVerifier(pass_keys, clock).verify(token(kid="p1", key=KEYS["one"]))

    def test_keys_rotate_while_the_process_runs(self, pass_keys: Path, clock: StillClock) -> None:
        verifier = PassVerifier(pass_keys, clock)
        verifier.verify(signer("p1").sign(ADMITTED))
        new = signer("p2").sign(ADMITTED)
        publish(pass_keys, "p2")
        clock.forward(1)
        with pytest.raises(TokenInvalid):
            verifier.verify(new)  # the directory was read a second ago
        clock.forward(5)
        verifier.verify(new)
        assert [key["kid"] for key in verifier.public_jwks()["keys"]] == ["p1", "p2"]
        assert all("d" not in key for key in verifier.public_jwks()["keys"])
