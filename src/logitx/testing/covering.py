"""Choose few combinations of options so that every pair of options occurs in at least one of them.

The bugs of this field live in pairs: label smoothing with a mask, a tuple axis with class weights, half precision with
a non-last axis. The full product of the options is out of reach; a covering array of strength two is not.
"""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Collection, Hashable, Mapping, Sequence

Choice = tuple[str, Hashable]  # a factor and one of its levels


def pairwise(
    factors: Mapping[str, Sequence[Hashable]], forbidden: Collection[frozenset[Choice]] = ()
) -> list[dict[str, Hashable]]:
    """Cover every allowed pair of levels of two factors by a short list of rows.

    Greedy and deterministic: each row starts from a pair that is still uncovered and then takes, factor by factor, the
    level that covers most new pairs.

    Parameters
    ----------
    factors : mapping of str to sequence
        The levels of every factor.
    forbidden : collection of frozenset, optional
        Pairs ``frozenset({(factor, level), (factor, level)})`` that must not occur together.

    Returns
    -------
    list of dict
        One level of every factor in each row.

    Raises
    ------
    ValueError
        Where a row cannot be completed because of `forbidden`.

    Examples
    --------
    >>> rows = pairwise({"a": (1, 2), "b": (1, 2), "c": (1, 2)})
    >>> len(rows) < 2 * 2 * 2
    True
    """
    names = list(factors)
    banned = set(forbidden)
    uncovered = {
        frozenset(pair): None
        for one, two in itertools.combinations(names, 2)
        for pair in itertools.product([(one, a) for a in factors[one]], [(two, b) for b in factors[two]])
        if frozenset(pair) not in banned
    }
    rows: list[dict[str, Hashable]] = []
    while uncovered:
        row = dict(sorted(next(iter(uncovered)), key=lambda choice: names.index(choice[0])))
        for name in sorted((name for name in names if name not in row), key=lambda name: -len(factors[name])):
            row[name] = _best_level(name, factors[name], row, uncovered, banned, len(rows))
        for pair in itertools.combinations(row.items(), 2):
            uncovered.pop(frozenset(pair), None)
        rows.append({name: row[name] for name in names})
    return rows


def _best_level(
    name: str,
    levels: Sequence[Hashable],
    row: Mapping[str, Hashable],
    uncovered: Mapping[frozenset[Choice], None],
    banned: Collection[frozenset[Choice]],
    number: int,
) -> Hashable:
    best: tuple[int, int] | None = None
    chosen: Hashable = None
    for level in levels:
        pairs = [frozenset(((name, level), choice)) for choice in row.items()]
        if any(pair in banned for pair in pairs):
            continue
        # ties are broken by a hash, so that the free places of the rows do not all hold the first level
        score = (sum(pair in uncovered for pair in pairs), zlib.crc32(f"{number}/{name}/{level}".encode()))
        if best is None or score > best:
            best, chosen = score, level
    if best is None:
        raise ValueError(f"forbidden: no level of {name!r} fits the row {dict(row)!r}; allowed is at least one")
    return chosen
