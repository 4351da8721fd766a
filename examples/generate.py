#!/usr/bin/env python3
"""Makes seating plans of any size, the same for the same number each time.

    python examples/generate.py 1000 > plan.json     # a plan of exactly 1,000 seats
    python examples/generate.py --examples           # writes the plans of this folder anew

Only the standard library is used, so that anything may import `seating_plan` from this file.
The format is the open one of pretix's plan editor (see services/concert-service/README.md).
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

MAX_SEATS = 100_000
SPACING = 25
"""Pixels between neighbours."""

VIP_ROWS = 6

Plan = dict[str, Any]
Block = tuple[str, str, str, int, int]
"""Zone name, zone id, category, rows, seats a row."""


def seating_plan(seats: int) -> Plan:
    """A hall of exactly that many seats: the front third of its rows VIP, the rest Standard.

    Args:
        seats: 1 to 100,000.

    Raises:
        ValueError: another number.
    """
    if not 1 <= seats <= MAX_SEATS:
        raise ValueError(f"seats must be 1 to {MAX_SEATS}, not {seats}")
    per_row = max(10, min(200, round(seats**0.5 * 1.25)))
    rows = [min(per_row, seats - start) for start in range(0, seats, per_row)]
    vip_rows = (len(rows) + 2) // 3
    zone = _zone("Main hall", "main", 0)
    for index, length in enumerate(rows):
        category = "VIP" if index < vip_rows else "Standard"
        zone["rows"].append(_row("main", index, length, category))
    used = ["VIP", "Standard"] if vip_rows < len(rows) else ["VIP"]
    return _plan(f"Hall of {seats:,} seats", used, [zone])


def prices(plan: Plan) -> dict[str, int]:
    """A price in won for each category of the plan."""
    known = {"VIP": 165_000, "Standard": 99_000, "Balcony": 77_000, "Table": 88_000}
    return {category["name"]: known[category["name"]] for category in plan["categories"]}


def club() -> Plan:
    """400 seats: 40 tables of four before the stage, 240 behind them."""
    tables, seats = _zone("Tables", "tables", 0), _zone("Floor", "floor", 500)
    for table in range(40):
        row = _row("tables", table, 4, "Table")
        row |= {"row_number": str(table + 1), "row_label": "Table %s", "seat_label": "Chair %s"}
        tables["rows"].append(row)
    for index in range(12):
        seats["rows"].append(_row("floor", index, 20, "Standard"))
    tables["areas"].append(_stage(100))
    return _plan("Club", ["Table", "Standard"], [tables, seats])


def hall() -> Plan:
    """1,000 seats in 25 rows of 40, the first six rows VIP."""
    zone = _zone("Main hall", "main", 0)
    for index in range(25):
        zone["rows"].append(_row("main", index, 40, "VIP" if index < VIP_ROWS else "Standard"))
    zone["areas"].append(_stage(1000))
    return _plan("Hall", ["VIP", "Standard"], [zone])


def theatre() -> Plan:
    """600 seats in two zones: stalls of 18 rows that grow wider, and a balcony."""
    stalls, balcony = _zone("Stalls", "stalls", 0), _zone("Balcony", "balcony", 600)
    for index in range(18):
        category = "VIP" if index < VIP_ROWS else "Standard"
        stalls["rows"].append(_row("stalls", index, 16 + index, category))
    for index in range(6):
        balcony["rows"].append(_row("balcony", index, 26 + (index % 2), "Balcony"))
    stalls["areas"].append(_stage(600))
    return _plan("Theatre", ["VIP", "Standard", "Balcony"], [stalls, balcony])


def _plan(name: str, used: list[str], zones: list[Plan]) -> Plan:
    colors = {"VIP": "#b3261e", "Standard": "#1d6fa5", "Balcony": "#4b7f52", "Table": "#8a5a00"}
    places = [
        (seat["position"]["x"] + row["position"]["x"], row["position"]["y"] + zone["position"]["y"])
        for zone in zones
        for row in zone["rows"]
        for seat in row["seats"]
    ]
    return {
        "name": name,
        "size": {
            "width": max(x for x, _ in places) + 4 * SPACING,
            "height": max(y for _, y in places) + 4 * SPACING,
        },
        "categories": [{"name": category, "color": colors[category]} for category in used],
        "zones": zones,
    }


def _zone(name: str, zone_id: str, y: int) -> Plan:
    position = {"x": 2 * SPACING, "y": y + 2 * SPACING}
    return {"name": name, "zone_id": zone_id, "position": position, "rows": [], "areas": []}


def _row(zone_id: str, index: int, length: int, category: str) -> Plan:
    number = _letters(index)
    return {
        "row_number": number,
        "row_number_position": "both",
        "position": {"x": 0, "y": (index + 3) * SPACING},
        "seats": [
            {
                "seat_guid": f"{zone_id}-{number}-{seat + 1}",
                "seat_number": str(seat + 1),
                "position": {"x": seat * SPACING, "y": 0},
                "category": category,
            }
            for seat in range(length)
        ],
    }


def _letters(index: int) -> str:
    """Name a row as theatres do: A, B … Z, AA, AB and so on."""
    text = ""
    index += 1
    while index:
        index, digit = divmod(index - 1, 26)
        text = chr(ord("A") + digit) + text
    return text


def _stage(width: int) -> Plan:
    return {
        "shape": "rectangle",
        "color": "#dddddd",
        "border_color": "#888888",
        "rotation": 0,
        "position": {"x": 0, "y": 0},
        "rectangle": {"width": width, "height": 2 * SPACING},
        "text": {
            "text": "Stage",
            "color": "#333333",
            "size": 16,
            "position": {"x": width // 2, "y": SPACING},
        },
    }


def _write(folder: Path) -> None:
    for plan in (club(), hall(), theatre()):
        path = folder / f"{plan['name'].lower()}.json"
        path.write_text(json.dumps(plan, indent=1) + "\n")


def main(arguments: list[str]) -> int:
    """The command; exit code 2 for a number that is no number of seats."""
    parser = argparse.ArgumentParser(description="Make a seating plan.")
    parser.add_argument("seats", nargs="?", type=int, help="how many seats, 1 to 100000")
    parser.add_argument("--examples", action="store_true", help="write this folder's plans anew")
    options = parser.parse_args(arguments)
    if options.examples:
        _write(Path(__file__).parent)
        return 0
    try:
        plan = seating_plan(options.seats or 0)
    except ValueError as error:
        parser.error(str(error))
    json.dump(plan, sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
