import pytest

from audit.facts import inversions, most_at_once
from audit.rules import ALL_RULES
from audit.rules.order import overfull

FOREVER = float("inf")


class TestInversions:
    @pytest.mark.parametrize(
        ("admitted", "expected"),
        [
            ([], 0),
            ([(1, 1), (1, 2), (1, 5)], 0),  # 3 and 4 left the line
            ([(1, 1), (1, 3), (1, 2)], 1),
            ([(1, 2), (1, 2)], 1),  # admitted twice
            ([(1, 9), (2, 1), (1, 10)], 0),  # another epoch counts by itself
        ],
    )
    def test_counts_admissions_below_an_earlier_one(
        self, admitted: list[tuple[int, int]], expected: int
    ) -> None:
        assert inversions(admitted) == expected


class TestMostAtOnce:
    @pytest.mark.parametrize(
        ("stays", "expected"),
        [
            ([], 0),
            ([(0, 1), (1, 2)], 1),  # one leaves as the next enters
            ([(0, 2), (1, 3), (1, 2)], 3),
            ([(0, FOREVER), (5, FOREVER)], 2),
        ],
    )
    def test_counts_overlapping_stays(
        self, stays: list[tuple[float, float]], expected: int
    ) -> None:
        assert most_at_once(stays) == expected


class TestOverfull:
    def stay(self, name: str, began: float, ended: float | None) -> dict[str, object]:
        return {"pass_id": name, "began": began, "ended": ended}

    def test_names_who_entered_a_full_room(self) -> None:
        stays = [self.stay("a", 10, 20), self.stay("b", 11, None), self.stay("c", 12, None)]
        found = overfull(stays, [{"since": 0, "max_active": 2}])
        assert found == ["pass_id=c, inside=3, max_active=2"]

    def test_a_lowered_limit_counts_after_a_second(self) -> None:
        limits = [{"since": 0, "max_active": 2}, {"since": 100, "max_active": 1}]
        inside = [self.stay("a", 10, None)]
        assert overfull([*inside, self.stay("b", 100.5, None)], limits) == []
        assert len(overfull([*inside, self.stay("b", 101.5, None)], limits)) == 1

    def test_passthrough_has_no_limit(self) -> None:
        stays = [self.stay("a", 1, None), self.stay("b", 2, None)]
        assert overfull(stays, [{"since": 0, "max_active": None}]) == []


class TestRules:
    def test_every_rule_says_what_its_failure_means(self) -> None:
        assert all((rule.__doc__ or "").strip() for rule in ALL_RULES)

    def test_every_statement_of_the_design_has_a_rule(self) -> None:
        assert {rule.invariant for rule in ALL_RULES} == set(range(1, 8))

    def test_names_are_unique(self) -> None:
        assert len({rule.name for rule in ALL_RULES}) == len(ALL_RULES)
