"""The texts that labels are relevant for, those of some labels at a time, however many there are in all."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from fanin.labels.bounded_ranges import bounded_ranges
from fanin.mapped_arrays import forget

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

MOST_WORK = 1 << 18
"""Tokens of the texts of the labels that are worked on at a time, where these are more than one group."""

MOST_PAIRS = 1 << 20
"""Pairs of label and text that are found in one pass over the positives, where they are of more than one block."""

_ROWS_AT_A_TIME = 1 << 14


class RelevantTexts(NamedTuple):
    """Labels at consecutive places, and the texts that they are relevant for."""

    start: int  # their first place
    stop: int  # the place behind the last
    place: NDArray[np.int64]  # (p,) of the label of every pair, from 0 at ``start``, ascending
    row: NDArray[np.int64]  # (p,) its text, ascending for each label
    pair: NDArray[np.int64]  # (p,) where it stands among all positives


def relevant_texts(
    indptr: NDArray[np.int64],
    labels: NDArray[np.integer],
    rows: NDArray[np.int64],
    order: NDArray[np.int64],
    lengths: Callable[[NDArray[np.int64]], NDArray[np.int64]],
    *,
    group_size: int = 1,
    work_of_label: int = 0,
) -> Iterator[RelevantTexts]:
    """Go through labels, block by block, with the texts of each.

    A block's work, the lengths of its texts summed over its pairs, is at most :data:`MOST_WORK` unless it is that of
    one group. The positives are read once to count them, and once more for every :data:`MOST_PAIRS` of them.

    >>> indptr, labels = np.array([0, 1, 3]), np.array([4, 2, 4])
    >>> found = relevant_texts(indptr, labels, np.arange(2), np.array([4, 7, 2]), np.ones_like)
    >>> [(block.stop, block.place.tolist(), block.row.tolist(), block.pair.tolist()) for block in found]
    [(3, [0, 0, 2], [0, 1, 1], [0, 2, 1])]

    Args:
        indptr: (N + 1,) the positives of text i are ``labels[indptr[i]:indptr[i + 1]]``.
        labels: (P,) label ids, perhaps in a file.
        rows: (n,) the texts to look at, ascending.
        order: (L,) the label at each place; positives of other labels are passed over.
        lengths: of some texts (n,).
        group_size: G, places that are not parted.
        work_of_label: added for every label, so that no block has too many labels of few texts.

    Yields:
        Blocks that begin at multiples of G, in order and without gaps.
    """
    L = len(order)
    place_of = np.full(1 + max(int(labels.max(initial=0)), int(order.max())), -1)
    place_of[order] = np.arange(L)
    counts, work = np.zeros(L, np.int64), np.full(L, work_of_label)
    for row, _, place in _pairs(indptr, labels, rows, place_of, 0, L):
        np.add.at(counts, place, 1)
        np.add.at(work, place, lengths(row))
    bounds = np.append(np.arange(0, L, group_size), L)  # of the groups
    blocks = [bounds[[lo, hi]] for lo, hi in bounded_ranges(np.add.reduceat(work, bounds[:-1]), MOST_WORK)]
    firsts = np.concatenate([[0], np.cumsum(counts)])  # of each place's pairs
    in_blocks = np.array([firsts[stop] - firsts[start] for start, stop in blocks])
    for lo, hi in bounded_ranges(in_blocks, MOST_PAIRS):
        begin, end = int(blocks[lo][0]), int(blocks[hi - 1][1])
        first = firsts[begin : end + 1] - firsts[begin]
        row, pair = _by_place(_pairs(indptr, labels, rows, place_of, begin, end), first)
        for start, stop in blocks[lo:hi]:
            own = slice(first[start - begin], first[stop - begin])
            place = np.repeat(np.arange(stop - start), counts[start:stop])
            yield RelevantTexts(int(start), int(stop), place, row[own], pair[own])


def _pairs(
    indptr: NDArray[np.int64],
    labels: NDArray[np.integer],
    rows: NDArray[np.int64],
    place_of: NDArray[np.int64],
    begin: int,
    end: int,
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]]:
    """The pairs of the labels at the places begin to end, text by text: text, number and place from begin on."""
    for start in range(0, len(rows), _ROWS_AT_A_TIME):
        some = rows[start : start + _ROWS_AT_A_TIME]
        first = indptr[some]
        length = indptr[some + 1] - first
        before = np.cumsum(length) - length
        pair = np.arange(length.sum()) + np.repeat(first - before, length)
        place = place_of[labels[pair]] - begin
        own = (place >= 0) & (place < end - begin)
        yield np.repeat(some, length)[own], pair[own], place[own]
    forget(labels)


def _by_place(
    pairs: Iterator[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]], first: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Text and number of the pairs sorted by place, those of place i from ``first[i]`` on."""
    rows, numbers = np.empty(first[-1], np.int64), np.empty(first[-1], np.int64)
    free = first[:-1].copy()  # where the next pair of each place goes
    for row, number, place in pairs:
        order = np.argsort(place, kind="stable")
        sorted_places = place[order]
        begins = np.flatnonzero(np.diff(sorted_places, prepend=-1))
        count = np.diff(begins, append=len(order))
        target = free[sorted_places] + np.arange(len(order)) - np.repeat(begins, count)
        rows[target], numbers[target] = row[order], number[order]
        free[sorted_places[begins]] += count
    return rows, numbers
