"""The table and the chart, and the provider's script."""

import xml.etree.ElementTree as ElementTree

import pytest

from bench import chart, provider, table
from bench.rows import Budget, Row
from bench.series import Series


def row(figure: float, title: str = "a thing") -> Row:
    return Row(
        name="thing",
        title=title,
        unit="ms",
        measured=Series((figure, figure + 1)),
        floor=Series((1.0,)),
        floor_title="nothing <at all>",
        figure=figure,
        figure_unit="ms",
        budget=Budget(10, "at most"),
        notes=("  a note",),
    )


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.01234, "0.0123"), (1.234, "1.23"), (12.34, "12.3"), (123.4, "123"), (12345.6, "12346"), (4.0, "4"), (0.0, "0")],
)
def test_numbers_are_short(value: float, text: str) -> None:
    assert table.number(value) == text


def test_a_missed_budget_is_marked() -> None:
    text = table.render([row(5.5), row(20.5)])
    lines = text.splitlines()
    assert lines[2].endswith("ok")
    assert lines[3].endswith("OVER")
    assert "floor: nothing <at all>" in text
    assert "  a note" in text


def test_the_chart_is_one_well_formed_document() -> None:
    root = ElementTree.fromstring(chart.render([row(5), row(15), row(1e9, "more & <more>")], "then & there"))
    bars = [each for each in root.iter("{http://www.w3.org/2000/svg}rect") if each.get("class") in ("ok", "over")]
    limit = next(root.iter("{http://www.w3.org/2000/svg}line")).get("x1")
    ends = [float(bar.get("x", 0)) + float(bar.get("width", 0)) for bar in bars]
    assert [bar.get("class") for bar in bars] == ["ok", "over", "over"]
    assert ends[0] < float(limit or 0) < ends[1] < ends[2]
    track = next(each for each in root.iter("{http://www.w3.org/2000/svg}rect") if each.get("class") == "track")
    assert ends[2] <= float(track.get("x", 0)) + float(track.get("width", 0)), "a long bar is cut"
    assert "more & <more>" in "".join(root.itertext())


def test_the_provider_reads_what_its_message_asks_for() -> None:
    assert provider.script(provider.message(300, 25)) == (300, 25)
    assert provider.script("hello") == (10, 0)
