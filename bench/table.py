"""Rows as a table for people."""

from collections.abc import Sequence

from bench.rows import Row
from bench.series import Series

_HEAD = ("what", "measured", "floor", "of floor", "figure", "budget", "")


def number(value: float) -> str:
    """Three significant digits or all before the point: 0.0123, 1.23, 12.3, 123, 1235."""
    size = abs(value)
    if size >= 100 or value == int(value):
        return f"{value:.0f}"
    if size >= 10:
        return f"{value:.1f}"
    return f"{value:.2f}" if size >= 1 else f"{value:.3g}"


def _series(series: Series | None, unit: str) -> str:
    """Median and the middle half of the samples."""
    if series is None:
        return ""
    spread = f" ({number(series.quantile(0.25))}..{number(series.quantile(0.75))})" if len(series.values) > 1 else ""
    return f"{number(series.median)}{spread} {unit}"


def budget_text(row: Row) -> str:
    return row.budget.text or f"{row.budget.side} {number(row.budget.bound)}"


def cells(row: Row) -> tuple[str, ...]:
    return (
        row.title,
        _series(row.measured, row.unit),
        _series(row.floor, row.unit),
        f"{number(row.measured.median / row.floor.median)} x" if row.floor is not None else "",
        f"{number(row.figure)} {row.figure_unit}",
        budget_text(row),
        "ok" if row.verdict == "ok" else "OVER",
    )


def render(rows: Sequence[Row]) -> str:
    """The table and, below it, what each floor is and the notes."""
    lines = [_HEAD, *(cells(row) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(_HEAD))]
    text = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]
    text.insert(1, "  ".join("-" * width for width in widths).rstrip())
    text += ["", "Medians, and in brackets the middle half of the samples. Floors and notes:"]
    for row in rows:
        floor = f"floor: {row.floor_title}" if row.floor is not None else "no floor"
        text += [f"- {row.name}: {floor}", *row.notes]
    return "\n".join(text)
