"""A seating plan of the size asked for: one of the examples, or the examples' own generator."""

import json
import runpy
from typing import Any

from local_stack.layout import repository

MOST_SEATS = 100_000


def seating_plan(seats: int) -> tuple[dict[str, Any], dict[str, int]]:
    """A plan with exactly that many seats, and a price for each of its categories.

    Raises:
        ValueError: fewer than 1 or more than ``MOST_SEATS``.
    """
    examples = repository() / "examples"
    generator = runpy.run_path(str(examples / "generate.py"))
    for path in sorted(examples.glob("*.json")):
        plan = json.loads(path.read_text())
        if _seats_of(plan) == seats:
            return plan, generator["prices"](plan)
    plan = generator["seating_plan"](seats)
    return plan, generator["prices"](plan)


def _seats_of(plan: dict[str, Any]) -> int:
    return sum(len(row["seats"]) for zone in plan["zones"] for row in zone["rows"])
