"""Headers of the pages of a table: none may state more bytes than all pages of its column.

pyarrow reserves what a header states before it unpacks anything, which for a damaged header may be a gigabyte.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, BinaryIO, NamedTuple

_MOST_BYTES = 1 << 14  # of a header: its statistics may hold two values of the column
_UNPACKED, _PACKED = 2, 3  # fields of a page header
_STOP, _INTEGERS, _DOUBLE, _BINARY, _LISTS, _STRUCT = 0, (4, 5, 6), 7, 8, (9, 10), 12


class _Page(NamedTuple):
    header: int  # bytes
    unpacked: int
    packed: int


def check_pages(file: BinaryIO, metadata: Any, names: list[str]) -> None:
    """Raise for a page of one of these columns that states more than its column does."""
    for group in map(metadata.row_group, range(metadata.num_row_groups)):
        for chunk in map(group.column, range(group.num_columns)):
            if chunk.path_in_schema.partition(".")[0] in names:
                most = max(chunk.total_compressed_size, chunk.total_uncompressed_size)
                for page in _pages_of_chunk(file, chunk):
                    if not (0 <= page.unpacked <= most and 0 <= page.packed <= most):
                        raise ValueError(
                            f"a page of column {chunk.path_in_schema!r} states {page.packed} bytes that unpack to"
                            f" {page.unpacked}; allowed are at most {most}, what all its pages have"
                        )


def _pages_of_chunk(file: BinaryIO, chunk: Any) -> Iterator[_Page]:
    """Yield the pages until one is left whose header is too long, or is none; pyarrow then says what is wrong."""
    starts = [at for at in (chunk.dictionary_page_offset, chunk.data_page_offset) if at]
    at = min(starts, default=0)
    end = at + chunk.total_compressed_size
    while at < end:
        file.seek(at)
        try:
            page = _page_header(file.read(_MOST_BYTES))
        except (IndexError, RecursionError):
            return
        yield page
        at += page.header + page.packed


def _page_header(data: bytes) -> _Page:
    """Read a header in Thrift's compact protocol."""
    at, field, found = 0, 0, {}
    while data[at] & 15 != _STOP:
        field, kind, at = _field(data, at, field)
        if kind in _INTEGERS:
            found[field], at = _integer(data, at)
        else:
            at = _after(data, at, kind)
    return _Page(at + 1, found.get(_UNPACKED, 0), found.get(_PACKED, 0))


def _field(data: bytes, at: int, before: int) -> tuple[int, int, int]:
    """Return the number and the kind of a field, and where its value begins."""
    step, kind = data[at] >> 4, data[at] & 15
    if step:
        return before + step, kind, at + 1
    number, at = _integer(data, at + 1)
    return number, kind, at


def _length(data: bytes, at: int) -> tuple[int, int]:
    """Return a number of seven bits a byte, and where it ends."""
    value, shift = 0, 0
    while True:
        value |= (data[at] & 127) << shift
        shift, at = shift + 7, at + 1
        if data[at - 1] < 128 or shift > 63:
            return value, at


def _integer(data: bytes, at: int) -> tuple[int, int]:
    value, at = _length(data, at)
    return (value >> 1) ^ -(value & 1), at


def _after(data: bytes, at: int, kind: int, in_list: bool = False) -> int:
    """Return where a value ends that is not needed."""
    if kind in _INTEGERS:
        return _length(data, at)[1]
    if kind == _DOUBLE:
        return at + 8
    if kind == _BINARY:
        size, at = _length(data, at)
        return at + size
    if kind in _LISTS:
        size, of = data[at] >> 4, data[at] & 15
        size, at = _length(data, at + 1) if size == 15 else (size, at + 1)
        for _ in range(size):
            at = _after(data, at, of, in_list=True)
            if at > len(data):
                raise IndexError
        return at
    if kind == _STRUCT:
        field = 0
        while data[at] & 15 != _STOP:
            field, of, at = _field(data, at, field)
            at = _after(data, at, of)
        return at + 1
    return at + (1 if in_list or kind == 3 else 0)  # a byte; True and False are kinds of their own
