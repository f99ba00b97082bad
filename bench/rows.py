"""A row of the result: what was measured, beside what, and whether it keeps its budget."""

from dataclasses import dataclass, field
from typing import Any, Literal

from bench.series import Series


@dataclass(frozen=True, slots=True)
class Budget:
    """The bound of a figure, in the figure's unit. `text` replaces the bound in the table where it says more."""

    bound: float
    side: Literal["at most", "at least"]
    text: str = ""

    def keeps(self, figure: float) -> bool:
        return figure <= self.bound if self.side == "at most" else figure >= self.bound

    def used(self, figure: float) -> float:
        """How much of the budget the figure uses: 1.0 is all of it, more is over."""
        if self.side == "at most":
            return figure / self.bound
        return self.bound / figure if figure > 0 else float("inf")


@dataclass(frozen=True, slots=True)
class Row:
    """`figure` is what the budget is about, made of `measured` and `floor` (which have the unit `unit`); its own unit
    is `figure_unit`. `details` go into the JSON, `notes` below the table."""

    name: str
    title: str
    unit: str
    measured: Series
    floor: Series | None
    figure: float
    figure_unit: str
    budget: Budget
    floor_title: str = ""
    notes: tuple[str, ...] = ()
    details: dict[str, Any] = field(default_factory=dict)

    @property
    def verdict(self) -> Literal["ok", "over"]:
        return "ok" if self.budget.keeps(self.figure) else "over"

    def as_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "title": self.title,
            "unit": self.unit,
            "measured": self.measured.as_json(),
            "floor": self.floor.as_json() if self.floor is not None else None,
            "floorTitle": self.floor_title,
            "figure": round(self.figure, 6),
            "figureUnit": self.figure_unit,
            "budget": {"side": self.budget.side, "bound": self.budget.bound},
            "verdict": self.verdict,
            "notes": list(self.notes),
            "details": self.details,
        }
