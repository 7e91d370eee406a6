"""Compares the shelves with what a week needs and writes the shopping list."""

from collections import Counter
from datetime import date

from pantry.items import Item, Shelf


def available(shelves: list[Shelf]) -> Counter[str]:
    """The amount of every item over all shelves."""
    amounts: Counter[str] = Counter()
    for shelf in shelves:
        for item in shelf.items.values():
            amounts[item.name] += item.amount
    return amounts


def missing(shelves: list[Shelf], needs: dict[str, float]) -> dict[str, float]:
    """What has to be bought so that the needs are met."""
    amounts = available(shelves)
    result = {}
    for name, needed in needs.items():
        if amounts[name] < needed:
            result[name] = needed - amounts[name]
    return result


def expiring(shelves: list[Shelf], days: int, today: date) -> list[Item]:
    """Items that should be eaten soon, the most urgent first."""
    items = []
    for shelf in shelves:
        for item in shelf.items.values():
            if item.expires_within(days, today):
                items.append(item)
    return sorted(items, key=lambda item: item.best_before)


def format_list(needs: dict[str, float]) -> str:
    """The shopping list as text, one line for each item."""
    lines = []
    for name, amount in sorted(needs.items()):
        lines.append(f"{name}: {amount:.0f}")
    return "\n".join(lines)
