"""Items on a shelf and the amounts that are left of them."""

from dataclasses import dataclass, field
from datetime import date, timedelta


@dataclass
class Item:
    """One kind of food, with the amount that is left of it."""

    name: str
    amount: float
    unit: str = "g"
    best_before: date | None = None

    def is_empty(self) -> bool:
        return self.amount <= 0

    def is_stale(self, today: date) -> bool:
        return self.best_before is not None and self.best_before < today

    def expires_within(self, days: int, today: date) -> bool:
        if self.best_before is None:
            return False
        return self.best_before <= today + timedelta(days=days)


@dataclass
class Shelf:
    """A named place that holds items by their name."""

    name: str
    items: dict[str, Item] = field(default_factory=dict)

    def add(self, item: Item) -> None:
        known = self.items.get(item.name)
        if known is None:
            self.items[item.name] = item
        else:
            known.amount += item.amount

    def take(self, name: str, amount: float) -> float:
        known = self.items.get(name)
        if known is None:
            raise KeyError(name)
        taken = min(amount, known.amount)
        known.amount -= taken
        if known.is_empty():
            del self.items[name]
        return taken

    def stale(self, today: date) -> list[Item]:
        return [item for item in self.items.values() if item.is_stale(today)]

    def total(self, unit: str) -> float:
        return sum(item.amount for item in self.items.values() if item.unit == unit)
