"""Draw the pictures of docs/performance.md: how rules become a function, and what a look-up takes.

``tox -e draw`` runs it with the version of matplotlib that the pictures in docs/images/ were drawn with;
another version may write them in other words. The first picture shows what `heksher._rules.codegen`
decides and writes for the page's example. The second one shows ``results/by_rules.json``, which
`tox -e peers` saves.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import BuiltinMethodType
from typing import Any

from heksher import Setting
from heksher._rules.codegen import emit
from heksher._rules.contexts import Defaults
from heksher._rules.plan import decide
from heksher._rules.table import RuleTable, TableRule
from heksher.setting import state_of

ROOT = Path(__file__).resolve().parents[2]
BY_RULES = ROOT / "benchmarks" / "results" / "by_rules.json"
IMAGES = ROOT / "docs" / "images"

# These can be distinguished with any kind of colour vision, and in grey.
BLUE, RED, GREY, LIGHT = "#0072b2", "#c24e00", "#6a6a6a", "#dddddd"

#: The height of a line of code and the width of a character, in points.
LINE, CHARACTER = 15, 6.02

#: Texts remain texts, so that they can be searched. The salt makes each run write the same bytes.
STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "heksher",
    "font.family": ["sans-serif"],
    "font.sans-serif": ["DejaVu Sans"],
    "font.monospace": ["DejaVu Sans Mono"],
    "font.size": 10,
    "axes.edgecolor": GREY,
    "xtick.color": GREY,
    "ytick.color": GREY,
}


def main() -> None:
    """Draw both pictures."""
    IMAGES.mkdir(exist_ok=True)
    with importlib.import_module("matplotlib").rc_context(STYLE):
        draw_compiling(IMAGES / "compiling.svg")
        draw_by_rules(json.loads(BY_RULES.read_text()), IMAGES / "by_rules.svg")


# --- from rules to a function ---------------------------------------------------------------------

FEATURES = ("environment", "user")
DEFAULTS = Defaults({"environment": "dev"})
RULES = (
    TableRule(5, (("user", "jim"),), 1),
    TableRule(10, (("environment", "dev"), ("user", "joe")), 2),
    TableRule(20, (("environment", "prod"), ("user", "joe")), 3),
    TableRule(300, (("environment", "prod"),), 4),
)
#: Arguments of calls that omit the environment, and of calls that pass it.
LEFT_OUT = ("user='joe'", "user='eve'")
GIVEN = ("environment='prod', user='joe'", "environment='prod', user='eve'")


@dataclass(frozen=True)
class Compiling:
    """The content of the first picture.

    Attributes:
        kept: the features of each rule that a folded look-up still uses; None if the rule vanishes.
        objects: the objects that the function uses, each as "name = value".
        source: the lines of the function.
        left_out, given: calls with their results.
    """

    kept: list[tuple[str, ...] | None]
    objects: list[str]
    source: list[str]
    left_out: list[str]
    given: list[str]


def compiling() -> Compiling:
    """Let the library plan the example."""
    table = table_of(*RULES)
    source = emit(decide(FEATURES, table, DEFAULTS, started=True), inline=True)
    cache_ttl = Setting("cache_ttl", int, FEATURES, 60)
    state = state_of(cache_ttl)
    state.publish(state.prepare(table, DEFAULTS))

    def answered(arguments: str) -> str:
        call = f"cache_ttl.get({arguments})"
        return f"{call} == {eval(call, {'cache_ttl': cache_ttl})}"  # noqa: S307 - our own code

    return Compiling(
        kept=[kept(rule) for rule in RULES],
        objects=[f"{name} = {spelt(value)}" for name, value in source.objects.items()],
        source=source.text.splitlines(),
        left_out=[answered(each) for each in LEFT_OUT],
        given=[answered(each) for each in GIVEN],
    )


def table_of(*rules: TableRule[int]) -> RuleTable[int]:
    """Return the table of a setting with these rules."""
    return RuleTable(60, rules, FEATURES)


def kept(rule: TableRule[int]) -> tuple[str, ...] | None:
    """Return the features that a look-up uses after folding only *rule*; None if the rule vanishes."""
    folded = decide(FEATURES, table_of(rule), DEFAULTS, started=True).folded
    return folded.look_ups[0].key if folded is not None and folded.look_ups else None


def spelt(value: object) -> str:
    """Return the source of *value*, which may be the ``get`` of a dict."""
    return (
        f"{value.__self__!r}.{value.__name__}"
        if isinstance(value, BuiltinMethodType)
        else repr(value)
    )


def draw_compiling(file: Path) -> None:
    """Draw the rules, the folded rules, the dicts made of them, and the function that uses the dicts.

    Blue is for calls that omit the environment, red for the other calls.
    """
    shown = compiling()
    width, height = 840, 224 + LINE * len(shown.source)
    figure = sheet(width, height)
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(height, 0))
    axes.axis("off")

    heading(axes, 20, 28, "The rules")
    rule_table(axes, 20, 50, [FEATURES] * len(RULES))
    heading(axes, 212, 28, "Fold environment=dev")
    rule_table(axes, 212, 50, shown.kept)
    heading(axes, 404, 28, "Decide what calls ask")
    folded, unfolded = code(axes, 404, 50, shown.objects)
    arrow(axes, [(177, 94), (203, 94)], BLUE)
    arrow(axes, [(369, folded), (398, folded)], BLUE)
    arrow(axes, [(95, 143), (95, 172), (384, 172), (384, unfolded), (398, unfolded)], RED)
    axes.text(105, 166, "environment given: nothing to fold", color=RED, size=9)

    arrow(axes, [(412, 150), (412, 186)], GREY)
    axes.text(422, 171, "Compile it, with these in place of their names", color=GREY, size=9)

    heading(axes, 20, 204, "Calls")
    heading(axes, 404, 204, "Emit the function")
    folded, unfolded = code(axes, 404, 226, shown.source)
    for answers, color, y in ((shown.left_out, BLUE, folded), (shown.given, RED, unfolded)):
        for number, text in enumerate(answers):
            mono(axes, 20, y + 3 + LINE * number, text, color)
        arrow(axes, [(26 + CHARACTER * len(answers[0]), y), (398, y)], color)
    save(figure, file)


def rule_table(axes: Any, x: float, y: float, kept: Sequence[Sequence[str] | None]) -> None:
    """Write the rules, and strike through the conditions and rules that are not *kept*."""
    places = dict(zip((*FEATURES, "value"), (x, x + 78, x + 150), strict=True))
    for name, place in places.items():
        axes.text(place, y, name, color=GREY, size=9, ha="right" if name == "value" else "left")
    for row, (rule, left) in enumerate(zip(RULES, kept, strict=True), 1):
        line = y + 21 * row
        axes.plot((x, x + 150), (line - 14, line - 14), color=LIGHT, linewidth=0.8)
        conditions = dict(rule.conditions)
        for name in FEATURES:
            wanted = conditions.get(name, "any")
            counts = left is not None and name in left and name in conditions
            mono(axes, places[name], line, wanted, "black" if counts else GREY)
            if left is not None and name in conditions and name not in left:
                strike(axes, places[name], places[name] + CHARACTER * len(wanted), line)
        color = GREY if left is None else "black"
        mono(axes, places["value"], line, str(rule.value), color, ha="right")
        if left is None:
            strike(axes, x, x + 150, line)


def strike(axes: Any, begin: float, end: float, y: float) -> None:
    """Draw a line through the text at *y*."""
    axes.plot((begin - 2, end + 2), (y - 3, y - 3), color="black", linewidth=1.2)


def code(axes: Any, x: float, y: float, lines: Sequence[str]) -> tuple[float, float]:
    """Write *lines*; return the heights of the first blue line and of the first red line."""
    heights: dict[str, float] = {}
    for number, line in enumerate(lines):
        text = line.lstrip()
        color = BLUE if "folded·find·" in text else RED if "find·" in text else "black"
        height = y + LINE * number
        # SVG drops spaces at the beginning of a line.
        mono(axes, x + CHARACTER * (len(line) - len(text)), height, text, color)
        heights.setdefault(color, height - 3)
    return heights[BLUE], heights[RED]


def mono(axes: Any, x: float, y: float, text: str, color: str, **options: Any) -> None:
    """Write *text* as code."""
    axes.text(x, y, text, color=color, family="monospace", **options)


def heading(axes: Any, x: float, y: float, text: str) -> None:
    """Write *text* above a part of the picture."""
    axes.text(x, y, text, size=11, weight="bold")


def arrow(axes: Any, corners: Sequence[tuple[float, float]], color: str) -> None:
    """Draw an arrow around *corners*."""
    axes.plot(*zip(*corners, strict=True), color=color, linewidth=1.4)
    look = {"arrowstyle": "-|>", "color": color, "shrinkA": 0, "shrinkB": 0}
    axes.annotate("", corners[-1], corners[-2], arrowprops=look)


# --- what a look-up takes -------------------------------------------------------------------------


def draw_by_rules(results: Mapping[str, Any], file: Path) -> None:
    """Draw the nanoseconds of a look-up by number of rules, with a line for each series."""
    figure = sheet(776, 372)
    axes = figure.add_axes((0.09, 0.13, 0.68, 0.7), xscale="log", yscale="log", ylim=(20, 20_000))
    # The lines of ours and the floor nearly touch, so their names are above and below them.
    looks = {"ours": (BLUE, "o", 12), "floor": (GREY, "s", -12)}
    for name, times in results["series"].items():
        color, marker, above = looks.get(name, (RED, "^", 0))
        axes.plot(results["rules"], times, color=color, marker=marker, gid=name.replace(" ", "-"))
        axes.annotate(
            f"{name}: {times[-1]:,.0f} ns",
            (results["rules"][-1], times[-1]),
            (10, above),
            textcoords="offset points",
            va="center",
            color=color,
            weight="bold",
            annotation_clip=False,
        )
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.yaxis.set_major_formatter("{x:,.0f} ns")
    axes.minorticks_off()
    axes.tick_params(length=0)
    axes.grid(axis="y", color=LIGHT)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.set_xlabel("number of rules", color=GREY)
    figure.text(0.026, 0.93, "What a look-up takes", size=11, weight="bold")
    how = f"{results['python']}; the floor is a function by hand; both scales are logarithmic"
    figure.text(0.026, 0.88, how, size=9, color=GREY)
    save(figure, file)


# --- both -----------------------------------------------------------------------------------------


def sheet(width: float, height: float) -> Any:
    """Return an empty figure of that size in points. It is white, also on a dark page."""
    figure = importlib.import_module("matplotlib.figure").Figure
    return figure(figsize=(width / 72, height / 72), facecolor="white")


def save(figure: Any, file: Path) -> None:
    """Write *figure* as SVG, the same bytes each time."""
    figure.savefig(file, metadata={"Date": None, "Creator": None})


if __name__ == "__main__":
    main()
