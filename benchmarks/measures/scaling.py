"""Does ``get()`` get slower with more rules, or with more settings?

Three ratios answer this:

- The same key among 100,000 rules and among 10. The number of rules must not matter.
- 20,000 random keys among 100,000 rules, compared with a hand-written dict of the same keys. Here memory
  dominates: most look-ups of both miss the processor's caches.
- One setting while 2,000 others with rules exist, and while no other exists. Each round makes the others
  and drops them.

Conclusion: split settings and add rules as your application needs them; calls stay as fast.
"""

from __future__ import annotations

import gc
import random
from dataclasses import replace

from machinery.interleaved import REPEATED, loop_of, nanoseconds, nanoseconds_over
from machinery.ours import checked, setting_of
from machinery.ratio_table import Ratios
from machinery.shapes import INTRODUCTION, of_size


def measure_many_rules_and_one_key(ratios: Ratios) -> None:
    few, many = of_size(10), of_size(1_000 if ratios.quick else 100_000)
    times = nanoseconds(
        {name: f"{name}.get({few.arguments})" for name in ("few", "many")},
        {"few": checked(few)["ours"], "many": checked(many)["ours"]},
        rounds=ratios.rounds,
    )
    title = f"{many.title}, the same key (floor: {few.title})"
    ratios.add(title, times["many"], times["few"], at_most=1.2)


def measure_many_rules_and_many_keys(ratios: Ratios) -> None:
    shape = of_size(1_000 if ratios.quick else 100_000)
    users = [conditions["user"] for conditions, _ in shape.rules]
    # New strings, as requests bring them: equal to the keys in the table, and not identical.
    keys = ["".join(list(user)) for user in random.Random(1).choices(users, k=20_000)]  # noqa: S311
    times = nanoseconds_over(
        keys,
        {name: f"{name}(user=key)" for name in ("ours.get", "floor")},
        checked(shape),
        rounds=max(3, ratios.rounds // 3),
    )
    title = f"{shape.title}, 20,000 random keys"
    ratios.add(title, times["ours.get"], times["floor"], at_most=1.5)


def measure_many_settings(ratios: Ratios) -> None:
    shape = INTRODUCTION[0]
    number = 50 if ratios.quick else 2_000
    call = loop_of(f"ours.get({shape.arguments})", checked(shape))
    bare = loop_of("pass", {})
    seconds: dict[str, list[float]] = {"alone": [], "among others": []}
    times = 2_000
    for _ in range(3 if ratios.quick else 11):
        others = [setting_of(replace(shape, name=f"other_{each}")) for each in range(number)]
        call(times)
        seconds["among others"] += [call(times) for _ in range(3)]
        del others
        gc.collect()
        call(times)
        seconds["alone"] += [call(times) for _ in range(3)]
    loop = bare(times)
    alone, among = (
        [1e9 * (each - loop) / times / REPEATED for each in taken] for taken in seconds.values()
    )
    ratios.add(f"one setting among {number:,} (floor: alone)", among, alone, at_most=1.1)
