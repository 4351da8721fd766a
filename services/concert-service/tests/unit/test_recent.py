"""What a process keeps stays bounded."""

from concert_service.service.recent import Recent


def test_the_least_recently_used_goes_first() -> None:
    recent: Recent[str] = Recent(10)
    recent.put("a", "A", 4)
    recent.put("b", "B", 4)
    assert recent.get("a") == "A"
    recent.put("c", "C", 4)
    assert recent.get("b") is None
    assert (recent.get("a"), recent.get("c")) == ("A", "C")


def test_replacing_does_not_add_weight() -> None:
    recent: Recent[int] = Recent(10)
    for number in range(100):
        recent.put("a", number, 5)
    recent.put("b", 1, 5)
    assert (recent.get("a"), recent.get("b")) == (99, 1)


def test_what_is_too_heavy_drives_out_the_rest_and_is_kept() -> None:
    recent: Recent[str] = Recent(10)
    recent.put("a", "A", 4)
    recent.put("big", "B", 40)
    assert (recent.get("a"), recent.get("big")) == (None, "B")
    recent.put("c", "C", 4)
    assert (recent.get("big"), recent.get("c")) == (None, "C")
