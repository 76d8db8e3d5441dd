"""Large text lists of two or three columns, read in blocks as arrays: no Python object per line.

Memory is some blocks and the arrays that come out. Columns are separated by spaces or tabs; blank lines are skipped.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vidperson.errors import DataError

PathLike = str | os.PathLike[str]
Words = NDArray[np.uint64]
Positions = NDArray[np.int64]

_BLOCK_BYTES = 1 << 20  # what is made of it stays in the processor's cache
_LONGEST_LINE = 1 << 24  # bytes; joining the blocks of a longer one would take for ever
_FRONT = 16  # bytes in front of a block, since numbers are read from their ends
_SPACE, _TAB, _NEWLINE, _RETURN = 32, 9, 10, 13
_LOW_BYTES = np.array([(1 << 8 * count) - 1 for count in range(9)], dtype=np.uint64)
_POWERS = 10.0 ** np.arange(17)


class Block:
    """Some whole lines of a file.

    begins, ends: (L, C) int64, where in the block the C fields of L lines lie. lines: 1-based number of the first line.
    """

    def __init__(self, content: bytes, path: PathLike, line: int) -> None:
        self.path, self.first_line = path, line
        size = _FRONT + len(content)
        self._bytes = np.zeros(size + 24 - size % 8, dtype=np.uint8)
        self._bytes[_FRONT:size] = np.frombuffer(content, dtype=np.uint8)
        self._words: Words = self._bytes.view("<u8")
        breaks = np.flatnonzero(self._bytes[_FRONT:size] <= _SPACE) + _FRONT
        kinds = self._bytes[breaks]
        newlines = kinds == _NEWLINE
        self.num_lines = int(np.count_nonzero(newlines))
        self._check_kinds(breaks, kinds)
        before = np.concatenate([[_FRONT - 1], breaks[:-1]])
        filled = breaks - before > 1  # a field ends at this break
        if filled.all():
            self._field_counts = np.diff(np.flatnonzero(newlines), prepend=-1)
        else:
            self._field_counts = np.diff(np.cumsum(filled)[newlines], prepend=0)
            before, breaks = before[filled], breaks[filled]
        self.begins: Positions = before + 1
        self.ends: Positions = breaks

    def _check_kinds(self, breaks: Positions, kinds: NDArray[np.uint8]) -> None:
        wrong = (kinds != _SPACE) & (kinds != _NEWLINE)
        if wrong.any():
            wrong &= kinds != _TAB
            if wrong.any():
                at = int(np.argmax(wrong))
                line = self.first_line + int(np.count_nonzero(kinds[:at] == _NEWLINE))
                if kinds[at] == _RETURN and self._bytes[breaks[at] + 1] == _NEWLINE:
                    message = f"Windows line end (CRLF); run: sed -i 's/\\r$//' '{os.fspath(self.path)}'"
                else:
                    message = f"control character {chr(kinds[at])!r}; expected spaces between the columns"
                raise DataError(message, self.path, line)

    def arrange(self, columns: int, expected: str) -> None:
        """Give ``begins`` and ``ends`` their (L, C) shape.

        Raises DataError naming the first line that has fields, but not ``columns`` of them.
        """
        counts = self._field_counts
        wrong = counts != columns
        if wrong.any():
            wrong &= counts != 0
            if wrong.any():
                line = int(np.argmax(wrong))
                fields = int(counts[:line].sum())
                found = bytes(self._bytes[self.begins[fields] : self.ends[fields + int(counts[line]) - 1]])
                text = found.decode("utf-8", "backslashreplace")
                raise DataError(f"expected '{expected}', found '{text}'", self.path, self.first_line + line)
        self.begins, self.ends = self.begins.reshape(-1, columns), self.ends.reshape(-1, columns)

    @property
    def fields_of_first(self) -> int:
        """How many fields the first line with any has; 0 when all are blank."""
        return int(self._field_counts[int(np.argmax(self._field_counts > 0))])

    def line_of(self, row: int) -> int:
        """1-based number in the file of a row of ``begins``; blank lines count in a file."""
        return self.first_line + int(np.flatnonzero(self._field_counts)[row])

    @property
    def content(self) -> bytes:
        """What ``begins`` and ``ends`` point into."""
        return self._bytes.tobytes()

    def line(self, row: int) -> str:
        return bytes(self._bytes[self.begins[row, 0] : self.ends[row, -1]]).decode("utf-8", "backslashreplace")

    def _load(self, positions: Positions) -> Words:
        """The eight bytes from each position on, the first one lowest."""
        at = positions >> 3
        shift = ((positions & 7) << 3).astype(np.uint64)
        return (self._words[at] >> shift) | ((self._words[at + 1] << np.uint64(1)) << (np.uint64(63) - shift))

    def words(self, column: int) -> tuple[list[Words], Words]:
        """The texts of a column as words of eight bytes, padded with zeros, each (L,); and (L,) hashes of them."""
        begins = self.begins[:, column]
        lengths = self.ends[:, column] - begins
        last = len(self._bytes) - 16
        words = []
        key = np.zeros(len(begins), dtype=np.uint64)
        for offset in range(0, int(lengths.max(initial=0)), 8):
            word = self._load(np.minimum(begins + offset, last)) & _LOW_BYTES[np.clip(lengths - offset, 0, 8)]
            words.append(word)
            if offset and not word.any():
                continue
            key = (key ^ word) * np.uint64(0x9E3779B97F4A7C15)
            key ^= key >> np.uint64(29)
        return words, key * np.uint64(0xBF58476D1CE4E5B9)

    def numbers(self, column: int) -> NDArray[np.float64]:
        """(L,) float64, correctly rounded; NaN where the text is no number.

        Plain decimals of up to 15 digits are whole numbers over a power of ten, both exact; the rest goes to float().
        """
        begins, ends = self.begins[:, column], self.ends[:, column]
        signs = self._bytes[begins]
        negative = signs == ord("-")
        begins = begins + (negative | (signs == ord("+")))
        lengths = ends - begins
        head = self._load(begins)
        dots = head ^ np.uint64(0x2E2E2E2E2E2E2E2E)
        dots = (dots - np.uint64(0x0101010101010101)) & ~dots & np.uint64(0x8080808080808080)
        wholes = (np.bitwise_count((dots & (~dots + np.uint64(1))) - np.uint64(1)) >> 3).astype(np.int64)
        wholes = np.minimum(wholes, lengths)  # digits before the point, which is among the first eight or not there
        decimals = np.maximum(lengths - wholes - 1, 0)
        fraction, strange = _digits(self._load(ends - 8), np.minimum(decimals, 8))
        if (decimals > 8).any():
            upper, odd = _digits(self._load(ends - 16), np.clip(decimals - 8, 0, 8))
            fraction, strange = fraction + upper * np.uint64(10**8), strange | odd
        # What stands in front of the point is moved to the end of its word.
        whole, odd = _digits(_shift_up(head, 8 - wholes), wholes)
        scale = _POWERS[np.minimum(decimals, 16)]
        strange |= odd | (wholes + decimals == 0) | (decimals > 16)
        strange |= (wholes == 8) & (lengths > 8)
        strange |= whole * scale + fraction >= 2.0**53
        mantissa = whole * scale.astype(np.uint64) + fraction
        values = mantissa.astype(np.float64) / scale
        np.negative(values, out=values, where=negative)
        rows = np.flatnonzero(strange).tolist()
        content = self.content if rows else b""
        for row in rows:
            values[row] = _number(content[self.begins[row, column] : self.ends[row, column]])
        return values


def _shift_up(words: Words, places: NDArray[np.int64]) -> Words:
    half = (places << 2).astype(np.uint64)  # twice, as a shift by all 64 bits is not defined
    return (words << half) << half


def _digits(words: Words, counts: NDArray[np.int64]) -> tuple[Words, NDArray[np.bool_]]:
    """The decimal number in the last ``counts`` (0..8) of eight characters, and whether they are other than digits."""
    digits = (words ^ np.uint64(0x3030303030303030)) & ~_LOW_BYTES[8 - counts]
    strange = ((digits + np.uint64(0x7676767676767676)) | digits) & np.uint64(0x8080808080808080) != 0
    digits = (digits * np.uint64(10) + (digits >> np.uint64(8))) & np.uint64(0x00FF00FF00FF00FF)
    digits = (digits * np.uint64(100) + (digits >> np.uint64(16))) & np.uint64(0x0000FFFF0000FFFF)
    digits = (digits * np.uint64(10000) + (digits >> np.uint64(32))) & np.uint64(0x00000000FFFFFFFF)
    return digits, strange


def _number(text: bytes) -> float:
    try:
        return float(text) if b"_" not in text else np.nan
    except ValueError:
        return np.nan


def read_blocks(path: PathLike) -> Iterator[Block]:
    """The file in blocks of whole lines; blank ones count as lines.

    Raises DataError when it is missing, has Windows line ends, control characters, or a line without an end.
    """
    if not Path(path).is_file():
        raise DataError("no such file", path)
    line, rest = 1, b""
    with open(path, "rb") as stream:
        while content := stream.read(_BLOCK_BYTES):
            end = content.rfind(b"\n") + 1
            if not end:
                rest += content
                if len(rest) > _LONGEST_LINE:
                    raise DataError(f"a line of more than {_LONGEST_LINE} bytes; it is no list", path, line)
                continue
            block = Block(rest + content[:end], path, line)
            rest = content[end:]
            line += block.num_lines
            yield block
    if rest:
        yield Block(rest + b"\n", path, line)


@dataclass
class Ids:
    """The ids of one column: those that are different, in order of first appearance, and which one a line has."""

    names: list[str]
    index: NDArray[np.int32]


class IdCollector:
    """Gathers a column of ids over the blocks of a file.

    Ids that were seen before are looked up by arrays: a hash gives the one id that may be meant, all its bytes are
    compared. What fails that, new ids and those that lost their place in the table to another one, go through a
    dict, each once per block.
    """

    def __init__(self, what: str) -> None:
        self._what = what
        self._numbers: dict[bytes, int] = {}
        self._names: list[str] = []
        self._parts: list[NDArray[np.int32]] = []
        self._bits = 12
        self._table = np.full(1 << self._bits, -1, dtype=np.int32)
        self._hashes: Words = np.zeros(256, dtype=np.uint64)
        self._store: list[Words] = []  # per word of the ids, those of all ids

    def add(self, block: Block, column: int) -> None:
        """Raises DataError for an id that is not UTF-8, or has white space of other scripts."""
        words, hashes = block.words(column)
        while len(self._store) < len(words):
            self._store.append(np.zeros(len(self._hashes), dtype=np.uint64))
        numbers = self._table[hashes >> np.uint64(64 - self._bits)]
        known = numbers >= 0
        for place, store in enumerate(self._store):
            known &= store[numbers] == (words[place] if place < len(words) else np.uint64(0))
        unknown = np.flatnonzero(~known)
        while len(unknown):  # once, unless two ids share their hash
            _, firsts, which = np.unique(hashes[unknown], return_index=True, return_inverse=True)
            rows = unknown[firsts]
            same = np.ones(len(unknown), dtype=bool)
            for word in words:
                same &= word[unknown] == word[rows][which]
            numbers[unknown[same]] = self._look_up(block, column, rows, words, hashes)[which[same]]
            unknown = unknown[~same]
        self._parts.append(numbers)

    def _look_up(
        self, block: Block, column: int, rows: Positions, words: list[Words], hashes: Words
    ) -> NDArray[np.int32]:
        """(R,) numbers of the ids in some rows; new ones get the next number."""
        numbers = np.empty(len(rows), dtype=np.int32)
        begins, ends = (place[rows, column].tolist() for place in (block.begins, block.ends))
        content = block.content
        for i in np.argsort(rows).tolist():
            text = content[begins[i] : ends[i]]
            number = self._numbers.setdefault(text, len(self._names))
            numbers[i] = number
            if number == len(self._names):
                row = int(rows[i])
                self._names.append(self._checked(text, block, row))
                self._remember(number, [word[row] for word in words], hashes[row])
        return numbers

    def _remember(self, number: int, words: list[np.uint64], hashed: np.uint64) -> None:
        if number == len(self._hashes):
            self._hashes = np.concatenate([self._hashes, np.zeros_like(self._hashes)])
            self._store = [np.concatenate([store, np.zeros_like(store)]) for store in self._store]
        self._hashes[number] = hashed
        for place, store in enumerate(self._store):
            store[number] = words[place] if place < len(words) else 0
        if 16 * number > len(self._table):
            self._bits += 2
            self._table = np.full(1 << self._bits, -1, dtype=np.int32)
            places = self._hashes[: number + 1] >> np.uint64(64 - self._bits)
            self._table[places[::-1]] = np.arange(number, -1, -1, dtype=np.int32)
        place = int(hashed) >> (64 - self._bits)
        if self._table[place] < 0:
            self._table[place] = number

    def _checked(self, text: bytes, block: Block, row: int) -> str:
        try:
            name = text.decode("utf-8")
        except UnicodeDecodeError as error:
            raise DataError(f"not UTF-8 text: {error.reason}", block.path, block.line_of(row)) from None
        if name.split() != [name] or "\x7f" in name:
            raise DataError(
                f"{self._what} {name!r} has white space or a control character", block.path, block.line_of(row)
            )
        return name

    @property
    def names(self) -> list[str]:
        """The different ids so far, in order of first appearance."""
        return self._names

    def ids(self) -> Ids:
        parts = self._parts or [np.empty(0, dtype=np.int32)]
        return Ids(self._names, np.concatenate(parts))
