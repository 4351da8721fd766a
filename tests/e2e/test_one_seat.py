import asyncio
from collections import Counter

from house import House

RIVALS = 200


class TestOneSeat:
    async def test_two_hundred_fans_want_it_and_one_gets_it(self, house: House) -> None:
        sale = await house.open_sale(seats=2)
        fans = await asyncio.gather(*(sale.fan(f"rival{n}") for n in range(RIVALS)))
        wish = sale.wish(sale.seat_ids[:1])
        answers = await asyncio.gather(
            *(fan.client.reserve(fan.pass_token, wish, twice=False) for fan in fans)
        )
        assert Counter(answer.status for answer in answers) == {201: 1, 409: RIVALS - 1}
        losers = [answer for answer in answers if answer.status == 409]
        assert {answer.code for answer in losers} == {"seat-unavailable"}
        assert all(answer.body["unavailable_seats"] == sale.seat_ids[:1] for answer in losers)

    async def test_another_fans_pass_opens_nothing(self, house: House) -> None:
        sale = await house.open_sale(seats=4)
        owner = await sale.fan("owner")
        thief = await house.person("thief")
        answer = await thief.reserve(owner.pass_token, sale.wish(sale.seat_ids[:1]), twice=False)
        assert (answer.status, answer.code) == (403, "pass-invalid")
        missing = await thief.reserve("", sale.wish(sale.seat_ids[:1]), twice=False)
        assert (missing.status, missing.code) == (403, "pass-required")
        assert (await sale.hold(owner))["state"] == "held"
