"""Draw the picture of the README, ``overview.svg``: how a rule gets from an operator to ``get()``.

``tox -e draw`` runs it. The texts are large, so that they can be read on a telephone, where the picture
is 350 pixels wide. The picture has a background of its own and follows the browser's theme, light or dark.
"""

from __future__ import annotations

from pathlib import Path
from xml.sax.saxutils import escape

PICTURE = Path(__file__).resolve().parents[2] / "docs" / "images" / "overview.svg"
WIDTH, HEIGHT = 520, 344

STYLE = """
  svg { --page: #ffffff; --box: #f3f6fa; --line: #59636e; --text: #1f2328; --soft: #59636e;
        --key: #0969da; --bad: #cf222e; --good: #1a7f37; }
  @media (prefers-color-scheme: dark) {
    svg { --page: #0d1117; --box: #1c2330; --line: #9198a1; --text: #f0f6fc; --soft: #a4acb5;
          --key: #6cb6ff; --bad: #ff7b72; --good: #57c46c; }
  }
  text { font: 16px -apple-system, "Segoe UI", "DejaVu Sans", Arial, sans-serif; fill: var(--text); }
  .title { font-weight: 600; }
  .soft { fill: var(--soft); font-size: 15px; }
  .code { font-family: ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace; font-size: 15px; }
  .bad { fill: var(--bad); font-weight: 600; }
  .good { fill: var(--good); font-weight: 600; }
  .key { fill: var(--key); font-weight: 600; }
  .page { fill: var(--page); }
  .box { fill: var(--box); stroke: var(--line); }
  .application { fill: none; stroke: var(--line); stroke-dasharray: 5 4; }
  .arrow { fill: none; stroke: var(--line); stroke-width: 2; marker-end: url(#head); }
  .rule { stroke: var(--line); stroke-opacity: 0.4; }
  .cross { fill: none; stroke: var(--bad); stroke-width: 4; stroke-linecap: round; }
  #head path { fill: var(--line); }
"""


def main() -> None:
    """Write the picture."""
    PICTURE.write_text(picture(), encoding="utf-8")


def picture() -> str:
    """Return the picture as SVG."""
    parts = [
        f'<rect class="page" width="{WIDTH}" height="{HEIGHT}" rx="8"/>',
        # On the left, from the bottom to the top: the operator changes the service.
        box(12, 40, 166, 62),
        text(95, 66, "Heksher service", "title"),
        text(95, 88, "settings and rules", "soft"),
        arrow(95, 230, 95, 108),
        text(105, 160, "adds a rule:", "soft", "start"),
        text(105, 180, "user=jim: 5", "code key", "start"),
        box(12, 230, 166, 62),
        text(95, 266, "operator", "title"),
        # On the right, from the top to the bottom: the application fetches and looks up.
        '<rect class="application" x="274" y="16" width="230" height="288" rx="10"/>',
        text(389, 34, "your application", "soft"),
        box(288, 44, 202, 54),
        text(389, 66, "background update", "title"),
        text(389, 86, "every few seconds", "soft"),
        arrow(389, 98, 389, 124),
        box(288, 130, 202, 90),
        text(389, 151, "rules in memory", "title"),
        '<line class="rule" x1="300" x2="478" y1="161" y2="161"/>',
        text(302, 181, "user=jim", "code key", "start"),
        text(476, 181, "5", "code key", "end"),
        text(302, 206, "default", "code", "start"),
        text(476, 206, "60", "code", "end"),
        arrow(389, 220, 389, 246),
        box(288, 252, 202, 40),
        text(389, 277, 'get(user="jim") → 5', "code"),
        # Between them: the outage.
        arrow(178, 71, 282, 71),
        '<path class="cross" d="M 216 61 l 20 20 m 0 -20 l -20 20"/>',
        text(226, 50, "outage", "bad"),
        text(260, 330, "In an outage, get() goes on with the last rules.", "good"),
    ]
    body = "\n".join(f"  {part}" for part in parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        f'width="{WIDTH}" height="{HEIGHT}">\n'
        f"<style>{STYLE}</style>\n"
        '<defs><marker id="head" viewBox="0 0 10 10" refX="7" refY="5" markerWidth="5" '
        'markerHeight="5" orient="auto"><path d="M 0 0 L 10 5 L 0 10 z"/></marker></defs>\n'
        f"{body}\n</svg>\n"
    )


def box(x: int, y: int, width: int, height: int) -> str:
    """Return a box with round corners."""
    return f'<rect class="box" x="{x}" y="{y}" width="{width}" height="{height}" rx="6"/>'


def text(x: int, y: int, content: str, kind: str, anchor: str = "middle") -> str:
    """Return a line of text on the baseline *y*."""
    return f'<text x="{x}" y="{y}" class="{kind}" text-anchor="{anchor}">{escape(content)}</text>'


def arrow(x1: int, y1: int, x2: int, y2: int) -> str:
    """Return an arrow to the second point."""
    return f'<path class="arrow" d="M {x1} {y1} L {x2} {y2}"/>'


if __name__ == "__main__":
    main()
