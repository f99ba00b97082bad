"""Rows as a chart: how much of its budget each figure uses, in one self-contained SVG."""

from collections.abc import Sequence
from xml.sax.saxutils import escape

from bench.rows import Row
from bench.table import budget_text, number

_WIDTH, _LABEL_WIDTH, _VALUE_WIDTH = 1040, 360, 240
_ROW_HEIGHT, _BAR_HEIGHT, _TOP, _BOTTOM = 34, 16, 74, 34
_SCALE_MAX = 2.0
"""Bars end at twice the budget; a longer one is cut, and its number says how long it is."""

_STYLE = """
text { font: 13px system-ui, sans-serif; fill: #1f2933 }
.title { font-size: 17px; font-weight: 600 }
.faint { fill: #61707f; font-size: 12px }
.ground { fill: #ffffff } .track { fill: #eef1f4 } .ok { fill: #2f855a } .over { fill: #c2410c }
.limit { stroke: #1f2933; stroke-width: 1.5; stroke-dasharray: 4 3 }
@media (prefers-color-scheme: dark) {
  text { fill: #e6eaee } .faint { fill: #9aa7b4 } .ground { fill: #14191f } .track { fill: #232b34 }
  .ok { fill: #48bb78 } .over { fill: #f08a4b } .limit { stroke: #e6eaee }
}
"""


def render(rows: Sequence[Row], caption: str) -> str:
    """An SVG document. `caption` says when and where it was measured."""
    height = _TOP + _ROW_HEIGHT * len(rows) + _BOTTOM
    track = _WIDTH - _LABEL_WIDTH - _VALUE_WIDTH
    limit_x = _LABEL_WIDTH + track / _SCALE_MAX
    bottom = height - _BOTTOM
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" role="img"'
        ' aria-label="Share of each budget that is used">',
        f"<style>{_STYLE}</style>",
        f'<rect class="ground" width="{_WIDTH}" height="{height}"/>',
        '<text class="title" x="20" y="30">Budgets: how much of each is used</text>',
        f'<text class="faint" x="20" y="50">{escape(caption)}</text>',
        *(_bar(row, _TOP + index * _ROW_HEIGHT, track) for index, row in enumerate(rows)),
        f'<line class="limit" x1="{limit_x}" y1="{_TOP - 10}" x2="{limit_x}" y2="{bottom}"/>',
        f'<text class="faint" x="{limit_x}" y="{bottom + 18}" text-anchor="middle">the budget</text>',
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _bar(row: Row, y: int, track: int) -> str:
    used = row.budget.used(row.figure)
    width = max(2.0, min(used, _SCALE_MAX) / _SCALE_MAX * track)
    middle = y + _ROW_HEIGHT // 2
    bar_y = middle - _BAR_HEIGHT // 2
    value = f"{number(row.figure)} {row.figure_unit} ({budget_text(row)})"
    size = f'x="{_LABEL_WIDTH}" y="{bar_y}" height="{_BAR_HEIGHT}" rx="3"'
    return (
        f'<text x="{_LABEL_WIDTH - 12}" y="{middle + 4}" text-anchor="end">{escape(row.title)}</text>'
        f'<rect class="track" {size} width="{track}"/>'
        f'<rect class="{row.verdict}" {size} width="{width:.1f}"/>'
        f'<text x="{_LABEL_WIDTH + track + 12}" y="{middle + 4}">{escape(value)}</text>'
    )
