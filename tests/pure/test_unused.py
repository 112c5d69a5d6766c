"""What is listed of many rules that are not used."""

from __future__ import annotations

from heksher._client.unused import Listed, first_of


def test_rules_are_counted_beyond_those_that_are_listed() -> None:
    assert Listed("ab") == ("a", "b")
    assert (Listed("ab").total, Listed("ab", 7).total, Listed[str]().total) == (2, 7, 0)


def test_each_group_has_its_turn_and_the_order_stays() -> None:
    groups = [Listed("abc", 900), Listed[str](), Listed("d"), Listed("ef")]
    everything = first_of(groups, 10)
    assert (everything, everything.total) == (("a", "b", "c", "d", "e", "f"), 903)
    for limit, listed in ((3, "ade"), (4, "abde"), (5, "abdef"), (0, "")):
        some = first_of(groups, limit)
        assert (some, some.total) == (tuple(listed), 903)
    assert first_of([]) == ()
