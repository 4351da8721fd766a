"""The rules of a seating plan: what is wrong is named by its place."""

import copy
import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest

from concert_service.domain.plan import (
    MAX_ERRORS,
    MAX_SEATS,
    SeatingPlanInvalid,
    check_prices,
    parse_plan,
)
from concert_service.domain.seating import lay_out

EXAMPLES = Path(__file__).resolve().parents[4] / "examples"


def seat(guid: str, **changes: Any) -> dict[str, Any]:
    return {
        "seat_guid": guid,
        "seat_number": guid[-1],
        "position": {"x": 1, "y": 2.5},
        "category": "Standard",
        **changes,
    }


def plan() -> dict[str, Any]:
    """Two zones; every optional part of the format is used somewhere."""
    return {
        "name": "House",
        "size": {"width": 100, "height": 50},
        "categories": [{"name": "Standard", "color": "#00f"}, {"name": "VIP"}],
        "zones": [
            {
                "name": "Stalls",
                "zone_id": "stalls",
                "uuid": "0b2c0b4e-0000-4000-8000-000000000001",
                "position": {"x": 0, "y": 0},
                "rows": [
                    {
                        "row_number": "A",
                        "row_label": None,
                        "seat_label": None,
                        "row_number_position": "both",
                        "position": {"x": 0, "y": 10},
                        "seats": [seat("a1", radius=12), seat("a2", start_direction="<>")],
                    },
                    {
                        "row_number": "3",
                        "row_label": "Box %s",
                        "seat_label": "Chair %s",
                        "row_number_position": None,
                        "seats": [seat("b1", category="VIP")],
                    },
                ],
                "areas": [
                    {
                        "shape": "polygon",
                        "color": "red",
                        "border_color": "black",
                        "rotation": 45.5,
                        "position": {"x": 0, "y": 0},
                        "polygon": {"points": [{"x": 0, "y": 0}, {"x": 5, "y": 5}]},
                    },
                    {
                        "shape": "text",
                        "text": {"text": "Bar", "position": {"x": 0, "y": 0}, "size": 20},
                    },
                    {"shape": "circle", "circle": {"radius": 4}},
                    {"shape": "ellipse", "ellipse": {"radius": {"x": 4, "y": 5}}},
                    {"shape": "rectangle", "rectangle": {"width": 4, "height": 5}},
                ],
            },
            {
                "position": {"x": 0, "y": 30},
                "rows": [{"row_number": "", "seats": [seat("c1", seat_number="")]}],
            },
        ],
    }


FIRST = "/zones/0/rows/0/seats/0"
REMOVE = object()

# path of the value to replace → its new value → the place the error must name
BROKEN = [
    (("name",), REMOVE, "/name"),
    (("name",), 5, "/name"),
    (("name",), "a\nb", "/name"),
    (("name",), "x" * 101, "/name"),
    (("size",), REMOVE, "/size"),
    (("size", "width"), 10.5, "/size/width"),
    (("size", "depth"), 10, "/size/depth"),
    (("size", "height"), -1, "/size/height"),
    (("categories",), {}, "/categories"),
    (("categories", 0, "name"), "", "/categories/0/name"),
    (
        ("categories",),
        [{"name": "Standard"}, {"name": "VIP"}, {"name": "Standard"}],
        "/categories/2/name",
    ),
    (("categories", 1, "price"), 5, "/categories/1/price"),
    (("zones",), REMOVE, "/zones"),
    (("zones",), [], "/zones"),
    (("zones",), "stalls", "/zones"),
    (("zones", 0, "position"), REMOVE, "/zones/0/position"),
    (("zones", 0, "rows"), REMOVE, "/zones/0/rows"),
    (("zones", 1), None, "/zones/1"),
    (("zones", 1, "displayed"), True, "/zones/1/displayed"),
    (("zones", 1, "uuid"), "0b2c0b4e-0000-4000-8000-000000000001", "/zones/1/uuid"),
    (("zones", 0, "rows", 0, "row_number"), REMOVE, "/zones/0/rows/0/row_number"),
    (("zones", 0, "rows", 0, "row_number"), 1, "/zones/0/rows/0/row_number"),
    (
        ("zones", 0, "rows", 0, "row_number_position"),
        "left",
        "/zones/0/rows/0/row_number_position",
    ),
    (("zones", 0, "rows", 1, "seats"), REMOVE, "/zones/0/rows/1/seats"),
    (("zones", 0, "rows", 1, "seats", 0), [], "/zones/0/rows/1/seats/0"),
    (("zones", 0, "rows", 0, "seats", 0, "seat_guid"), REMOVE, f"{FIRST}/seat_guid"),
    (("zones", 0, "rows", 0, "seats", 0, "seat_guid"), "", f"{FIRST}/seat_guid"),
    (("zones", 0, "rows", 0, "seats", 1, "seat_guid"), "a1", "/zones/0/rows/0/seats/1/seat_guid"),
    (("zones", 1, "rows", 0, "seats", 0, "seat_guid"), "a1", "/zones/1/rows/0/seats/0/seat_guid"),
    (("zones", 0, "rows", 0, "seats", 0, "seat_number"), 1, f"{FIRST}/seat_number"),
    (("zones", 0, "rows", 0, "seats", 0, "category"), "Balcony", f"{FIRST}/category"),
    (("zones", 0, "rows", 0, "seats", 0, "category"), REMOVE, f"{FIRST}/category"),
    (("zones", 0, "rows", 0, "seats", 0, "position"), REMOVE, f"{FIRST}/position"),
    (("zones", 0, "rows", 0, "seats", 0, "position", "x"), "1", f"{FIRST}/position/x"),
    (("zones", 0, "rows", 0, "seats", 0, "position", "x"), True, f"{FIRST}/position/x"),
    (("zones", 0, "rows", 0, "seats", 0, "position", "x"), float("nan"), f"{FIRST}/position/x"),
    (("zones", 0, "rows", 0, "seats", 0, "position", "y"), 10**9, f"{FIRST}/position/y"),
    (("zones", 0, "rows", 0, "seats", 0, "position", "z"), 1, f"{FIRST}/position/z"),
    (("zones", 0, "rows", 0, "seats", 0, "radius"), "12", f"{FIRST}/radius"),
    (("zones", 0, "rows", 0, "seats", 0, "start_direction"), "up", f"{FIRST}/start_direction"),
    (("zones", 0, "rows", 0, "seats", 0, "a/b~c"), 1, f"{FIRST}/a~1b~0c"),
    (("zones", 0, "areas", 0, "shape"), "star", "/zones/0/areas/0/shape"),
    (
        ("zones", 0, "areas", 0, "polygon", "points", 1, "x"),
        REMOVE,
        "/zones/0/areas/0/polygon/points/1/x",
    ),
    (("zones", 0, "areas", 1, "text", "text"), REMOVE, "/zones/0/areas/1/text/text"),
    (
        ("zones", 0, "areas", 2, "uuid"),
        "0b2c0b4e-0000-4000-8000-000000000001",
        "/zones/0/areas/2/uuid",
    ),
    (("comment",), "mine", "/comment"),
]


def changed(path: tuple[Any, ...], value: Any) -> dict[str, Any]:
    document = copy.deepcopy(plan())
    target: Any = document
    for token in path[:-1]:
        target = target[token]
    if value is REMOVE:
        del target[path[-1]]
    else:
        target[path[-1]] = value
    return document


@pytest.mark.parametrize(
    ("path", "value", "place"),
    BROKEN,
    ids=[f"{place}-{i}" for i, (_, _, place) in enumerate(BROKEN)],
)
def test_a_broken_rule_is_named_by_its_place(path: tuple[Any, ...], value: Any, place: str) -> None:
    with pytest.raises(SeatingPlanInvalid) as caught:
        parse_plan(changed(path, value))
    assert [error.pointer for error in caught.value.errors] == [f"/seating_plan{place}"]
    assert all(error.detail for error in caught.value.errors)


def test_every_optional_part_is_accepted() -> None:
    assert len(list(parse_plan(plan()).placed_seats())) == 4


def test_all_errors_are_listed_in_plan_order_up_to_a_limit() -> None:
    document = plan()
    document["zones"][0]["rows"][0]["seats"] = [
        seat(f"s{number}", category="none") for number in range(MAX_ERRORS + 50)
    ]
    with pytest.raises(SeatingPlanInvalid) as caught:
        parse_plan(document)
    pointers = [error.pointer for error in caught.value.errors]
    assert pointers == [
        f"/seating_plan/zones/0/rows/0/seats/{number}/category" for number in range(MAX_ERRORS)
    ]


def test_a_duplicate_names_the_first_place_too() -> None:
    document = changed(("zones", 1, "rows", 0, "seats", 0, "seat_guid"), "a1")
    with pytest.raises(SeatingPlanInvalid) as caught:
        parse_plan(document)
    assert "/seating_plan/zones/0/rows/0/seats/0" in caught.value.errors[0].detail


def test_more_seats_than_the_limit_are_refused() -> None:
    document = plan()
    document["zones"][0]["rows"] = [
        {"row_number": str(row), "seats": [seat(f"{row}-{one}") for one in range(1001)]}
        for row in range(100)
    ]
    with pytest.raises(SeatingPlanInvalid) as caught:
        parse_plan(document)
    assert [error.pointer for error in caught.value.errors] == ["/seating_plan/zones"]
    assert str(MAX_SEATS) in caught.value.errors[0].detail


class TestPrices:
    def test_every_category_in_use_needs_one(self) -> None:
        errors = check_prices(parse_plan(plan()), {"Standard": 1000})
        assert [error.pointer for error in errors] == ["/prices/VIP"]

    def test_a_category_without_seats_needs_none(self) -> None:
        document = changed(("zones", 0, "rows", 1, "seats", 0, "category"), "Standard")
        assert check_prices(parse_plan(document), {"Standard": 1000}) == ()

    def test_an_unknown_category_is_refused(self) -> None:
        errors = check_prices(parse_plan(plan()), {"Standard": 1, "VIP": 2, "a/b": 3})
        assert [error.pointer for error in errors] == ["/prices/a~1b"]


class TestSeats:
    def test_labels_are_for_people(self) -> None:
        seats = lay_out(parse_plan(plan()), {"Standard": 1000, "VIP": 5000})
        assert [one.label for one in seats] == [
            "Stalls, Row A, Seat 1",
            "Stalls, Row A, Seat 2",
            "Stalls, Box 3, Chair 1",
            "c1",  # the plan says nothing else about this one
        ]

    def test_positions_have_no_gaps_and_neighbours_share_a_row(self) -> None:
        seats = lay_out(parse_plan(plan()), {"Standard": 1000, "VIP": 5000})
        assert [one.position for one in seats] == [0, 1, 2, 3]
        assert [one.row for one in seats] == ["0.0", "0.0", "0.1", "1.0"]
        assert [one.price for one in seats] == [1000, 1000, 5000, 1000]

    def test_a_label_fits_its_column(self) -> None:
        document = changed(("zones", 0, "rows", 1, "row_label"), "%s" * 50)
        document["zones"][0]["rows"][1] |= {"row_number": "9" * 100, "seat_label": "%s" + "x" * 98}
        document["zones"][0]["rows"][1]["seats"][0]["seat_number"] = "8" * 100
        document["zones"][0]["name"] = "z" * 100
        seats = lay_out(parse_plan(document), {"Standard": 1000, "VIP": 5000})
        assert max(len(one.label) for one in seats) <= 500


class TestExamples:
    @pytest.mark.parametrize(("name", "seats"), [("club", 400), ("hall", 1000), ("theatre", 600)])
    def test_follow_the_rules(self, name: str, seats: int) -> None:
        document = json.loads((EXAMPLES / f"{name}.json").read_text())
        assert len(list(parse_plan(document).placed_seats())) == seats

    @pytest.mark.parametrize("seats", [1, 9, 10, 11, 400, 1000, 2001, 100_000])
    def test_generated_plans_have_exactly_the_seats_asked_for(self, seats: int) -> None:
        spec = importlib.util.spec_from_file_location("generate", EXAMPLES / "generate.py")
        assert spec
        assert spec.loader
        generate = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(generate)
        document = generate.seating_plan(seats)
        assert document == generate.seating_plan(seats)
        parsed = parse_plan(document)
        assert len(list(parsed.placed_seats())) == seats
        assert check_prices(parsed, generate.prices(document)) == ()
