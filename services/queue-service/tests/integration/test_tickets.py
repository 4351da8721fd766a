"""Signed tickets: forged, changed, or somebody else's, they gain nothing."""

import base64

import pytest


def change(token, position):
    version, payload, signature = token.split(".")
    if position == "version":
        return f"2.{payload}.{signature}"
    if position == "signature":
        flipped = "A" if signature[5] != "A" else "B"
        return f"{version}.{payload}.{signature[:5]}{flipped}{signature[6:]}"
    if position == "unsigned":
        return f"{version}.{payload}."
    data = base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4))
    better = base64.urlsafe_b64encode(data.replace(b",3,1]", b",1,1]")).rstrip(b"=").decode()
    assert better != payload
    return f"{version}.{better}.{signature}"


@pytest.fixture
async def lost_queue(service, lose_keys):
    queue = await service.queue(mode="paused")
    fans = [queue.fan() for _ in range(3)]
    for fan in fans:
        await fan.join()
    lose_keys(f"{service.settings.redis_prefix}{{{queue.concert_id}}}:*")
    return fans


@pytest.mark.parametrize("position", ["version", "payload", "signature", "unsigned"])
async def test_a_changed_ticket_restores_nothing(lost_queue, position):
    fan = lost_queue[2]
    answer = await fan.poll(**{"Queue-Ticket": change(fan.token, position)})
    assert (answer.status_code, answer.json()["code"]) == (404, "no-ticket")
    assert (await fan.return_with_ticket()).json()["number"] == 3


async def test_another_fans_ticket_restores_nothing(lost_queue):
    thief, owner = lost_queue[2], lost_queue[0]
    answer = await thief.poll(**{"Queue-Ticket": owner.token})
    assert (answer.status_code, answer.json()["code"]) == (404, "no-ticket")


async def test_a_ticket_of_another_concert_restores_nothing(service, lost_queue):
    elsewhere = await service.queue(mode="paused")
    fan = lost_queue[0]
    fan.concert_id = elsewhere.concert_id
    answer = await fan.return_with_ticket()
    assert (answer.status_code, answer.json()["code"]) == (404, "no-ticket")


@pytest.mark.parametrize("token", ["", ".", "1..", "x" * 4000, "1.bnVsbA.bnVsbA", "1.%.="])
async def test_rubbish_is_no_ticket(service, token):
    queue = await service.queue(mode="paused")
    answer = await queue.fan().poll(**{"Queue-Ticket": token})
    assert (answer.status_code, answer.json()["code"]) == (404, "no-ticket")
