import asyncio
from collections import Counter

from house import House, succeeded

from local_stack.demo.client import API, FanClient
from testkit import eventually


async def balance(house: House, fan: FanClient) -> int:
    answer = await fan.get("/wallet")
    assert answer.status == 200, answer.body
    return int(answer.body["balance"]["amount"])


async def until_balance(house: House, fan: FanClient, amount: int) -> None:
    async def reached() -> bool:
        return await balance(house, fan) == amount

    await eventually(reached, within_seconds=10)


class TestPayment:
    async def test_after_expiry_it_is_refused_or_refunded_and_the_seat_is_free(
        self, house: House
    ) -> None:
        sale = await house.open_sale(seats=4, hold_seconds=1)
        fan = await sale.fan()
        hold = await sale.hold(fan)
        await fan.client.charge(hold["total"]["amount"], twice=False)

        async def over() -> bool:
            answer = await fan.client.reservation(hold["reservation_id"])
            return bool(answer.body["state"] == "expired")

        await eventually(over, within_seconds=3)
        answer = await fan.client.pay(hold["reservation_id"], twice=False)
        assert (answer.status, answer.code) == (410, "hold-expired")
        await until_balance(house, fan.client, hold["total"]["amount"])
        await sale.until_available(hold["seats"][0]["seat_id"])
        rival = await sale.fan("rival")
        assert (await sale.hold(rival))["seats"] == hold["seats"]

    async def test_eight_at_once_charge_once(self, house: House) -> None:
        sale = await house.open_sale(seats=4)
        fan = await sale.fan()
        hold = await sale.hold(fan)
        price = hold["total"]["amount"]
        await fan.client.charge(8 * price, twice=False)
        answers = await asyncio.gather(
            *(fan.client.pay(hold["reservation_id"], twice=False) for _ in range(8))
        )
        assert sum(succeeded(answer) for answer in answers) == 1
        refused = Counter(answer.code for answer in answers if not succeeded(answer))
        assert set(refused) <= {"already-paid", "payment-in-progress"}
        assert await balance(house, fan.client) == 7 * price

    async def test_the_same_request_repeated_is_answered_byte_for_byte(self, house: House) -> None:
        sale = await house.open_sale(seats=4)
        fan = await sale.fan()
        hold = await sale.hold(fan)
        await fan.client.charge(hold["total"]["amount"], twice=True)
        assert succeeded(await fan.client.pay(hold["reservation_id"], twice=True))
        assert house.recorder.replay_mismatches == []
        assert await balance(house, fan.client) == 0

    async def test_cancelling_after_confirmation_refunds_once_and_frees_the_seat(
        self, house: House
    ) -> None:
        sale = await house.open_sale(seats=4)
        fan = await sale.fan()
        hold = await sale.hold(fan)
        price = hold["total"]["amount"]
        await fan.client.charge(price, twice=False)
        assert succeeded(await fan.client.pay(hold["reservation_id"], twice=False))
        for _ in range(2):
            answer = await fan.client.cancel(hold["reservation_id"])
            assert answer.status == 200
            assert answer.body["state"] in {"cancelled", "refunded"}
        await until_balance(house, fan.client, price)
        await sale.until_available(hold["seats"][0]["seat_id"])

        async def refunded() -> bool:
            answer = await fan.client.reservation(hold["reservation_id"])
            return bool(answer.body["state"] == "refunded")

        await eventually(refunded, within_seconds=5)

    async def test_a_cancelled_performance_refunds_everybody(self, house: House) -> None:
        sale = await house.open_sale(seats=12)
        fans = [await sale.fan(f"buyer{n}") for n in range(4)]
        prices = []
        for number, fan in enumerate(fans):
            hold = await sale.hold(fan, sale.seat_ids[number : number + 1])
            prices.append(hold["total"]["amount"])
            await fan.client.charge(prices[-1], twice=False)
            assert succeeded(await fan.client.pay(hold["reservation_id"], twice=False))
        waiting = await sale.fan("holder")
        held = await sale.hold(waiting, sale.seat_ids[8:9])
        answer = await house.http.put(
            f"{API}/admin/performances/{sale.performance_id}",
            headers=await house.admin(),
            json={"sale": "cancelled"},
        )
        assert answer.status_code == 200, answer.text
        for fan, price in zip(fans, prices, strict=True):
            await until_balance(house, fan.client, price)

        async def hold_over() -> bool:
            found = await waiting.client.reservation(held["reservation_id"])
            return bool(found.body["state"] == "cancelled")

        await eventually(hold_over, within_seconds=5)
