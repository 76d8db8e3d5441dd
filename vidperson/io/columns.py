"""Large text lists of two or three columns, read in blocks as arrays: no Python object per line.

Memory is some blocks and the arrays that come out. Columns are separated by spaces or tabs; blank lines are skipped.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vidperson.errors import DataError

PathLike = str | os.PathLike[str]
Words = NDArray[np.uint64]
Positions = NDArray[np.int64]

_BLOCK_BYTES = 1 << 19  # what is made of it stays in the processor's cache
_BLOCKS_READ = 8  # at a time
_LONGEST_LINE = 1 << 24  # bytes; joining the blocks of a longer one would take for ever
_FRONT = _BACK = b"0" * 24  # so that eight bytes at a time can be read around the lines
_SPACE, _TAB, _NEWLINE, _RETURN = 32, 9, 10, 13
_LOW_BYTES = np.array([(1 << 8 * count) - 1 for count in range(9)], dtype=np.uint64)
_HIGH_BYTES = ~_LOW_BYTES[::-1]
_DECIMALS = np.append(_LOW_BYTES[:1], _LOW_BYTES)
_HASH_FACTORS = (0x9E3779B97F4A7C15, 0xD6E8FEB86659FD93, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB)
_POWERS = 10 ** np.arange(17, dtype=np.uint64)
_LANES = {16: 0x00FF00FF00FF00FF, 32: 0x0000FFFF0000FFFF, 64: 0x00000000FFFFFFFF}
_TO_END = np.array([56 - 8 * count for count in range(8)], dtype=np.uint64)


class Block:
    """Some whole lines of a file.

    begins, lengths: (C, L) int64 once arranged: where in the block the C fields of L lines lie, blank lines left out.
    """

    def __init__(self, content: bytes, path: PathLike, line: int) -> None:
        """content: whole lines between ``_FRONT`` and ``_BACK``. line: 1-based number of the first."""
        self.path, self.first_line = path, line
        self._content = content
        self._bytes = np.frombuffer(content, dtype=np.uint8)
        self._words: Words = np.frombuffer(content, dtype="<u8", count=len(content) // 8)
        self._breaks: Positions = np.flatnonzero(self._bytes <= _SPACE)
        self._kinds = self._bytes.take(self._breaks, mode="clip")
        self.num_lines = int(np.count_nonzero(self._kinds == _NEWLINE))
        self._check_kinds()

    def _check_kinds(self) -> None:
        kinds = self._kinds
        if self.num_lines + np.count_nonzero(kinds == _SPACE) + np.count_nonzero(kinds == _TAB) == len(kinds):
            return
        at = int(np.argmax((kinds != _SPACE) & (kinds != _NEWLINE) & (kinds != _TAB)))
        line = self.first_line + int(np.count_nonzero(kinds[:at] == _NEWLINE))
        if kinds[at] == _RETURN and self._bytes[self._breaks[at] + 1] == _NEWLINE:
            message = f"Windows line end (CRLF); run: sed -i 's/\\r$//' '{os.fspath(self.path)}'"
        else:
            message = f"control character {chr(kinds[at])!r}; expected spaces between the columns"
        raise DataError(message, self.path, line)

    @cached_property
    def _filled(self) -> NDArray[np.bool_]:
        """Whether a field ends at a break."""
        return np.diff(self._breaks, prepend=len(_FRONT) - 1) > 1

    @cached_property
    def _field_counts(self) -> NDArray[np.int64]:
        """Fields of each line."""
        return np.diff(np.cumsum(self._filled)[self._kinds == _NEWLINE], prepend=0)

    def arrange(self, columns: int, expected: str) -> None:
        """Find the fields. Raises DataError naming the first line that has fields, but not ``columns`` of them."""
        breaks = self._breaks
        if self.num_lines * columns == len(breaks) and (self._kinds[columns - 1 :: columns] == _NEWLINE).all():
            ends = breaks.reshape(-1, columns).T
            self.begins: Positions = np.empty(ends.shape, dtype=np.int64)
            self.begins[0, :1] = len(_FRONT)
            np.add(ends[-1, :-1], 1, out=self.begins[0, 1:])
            np.add(ends[:-1], 1, out=self.begins[1:])
            self.lengths: Positions = np.subtract(ends, self.begins, order="C")
            if self.lengths.all():
                return
        filled = self._filled
        counts = self._field_counts
        begins, ends = np.append(len(_FRONT) - 1, breaks[:-1])[filled] + 1, breaks[filled]
        wrong = (counts != columns) & (counts != 0)
        if wrong.any():
            line = int(np.argmax(wrong))
            fields = int(counts[:line].sum())
            found = self._content[begins[fields] : ends[fields + int(counts[line]) - 1]]
            text = found.decode("utf-8", "backslashreplace")
            raise DataError(f"expected '{expected}', found '{text}'", self.path, self.first_line + line)
        self.begins, self.lengths = (np.ascontiguousarray(a.reshape(-1, columns).T) for a in (begins, ends - begins))

    def __len__(self) -> int:
        """How many lines have fields."""
        return self.begins.shape[1]

    @property
    def fields_of_first(self) -> int:
        """How many fields the first line with any has; 0 when all are blank."""
        return int(self._field_counts[int(np.argmax(self._field_counts > 0))])

    def line_of(self, row: int) -> int:
        """1-based number in the file of a column of ``begins``; blank lines count in a file."""
        return self.first_line + int(np.flatnonzero(self._field_counts)[row])

    def line(self, row: int) -> str:
        end = self.begins[-1, row] + self.lengths[-1, row]
        return self._content[self.begins[0, row] : end].decode("utf-8", "backslashreplace")

    def texts(self, column: int, rows: Positions) -> list[bytes]:
        """The fields of a column in some rows."""
        begins, lengths = self.begins[column, rows].tolist(), self.lengths[column, rows].tolist()
        return [self._content[begin : begin + length] for begin, length in zip(begins, lengths, strict=True)]

    def _load(self, positions: Positions, count: int = 1) -> list[Words]:
        """``count`` times the next eight bytes from each position on, the first one lowest; anything outside."""
        at = positions >> 3
        shift = (positions.view(np.uint64) & 7) << 3
        rest = shift ^ 63
        loaded = []
        high = self._words.take(at, mode="clip")
        for i in range(1, count + 1):
            low, high = high, self._words[i:].take(at, mode="clip")
            low >>= shift
            upper = high << 1
            upper <<= rest
            low |= upper
            loaded.append(low)
        return loaded

    def words(self, column: int) -> list[Words]:
        """The texts of a column as words of eight bytes, padded with zeros, each (L,)."""
        begins, lengths = self.begins[column], self.lengths[column]
        shortest, longest = (int(lengths.min()), int(lengths.max())) if len(lengths) else (0, 0)
        words = self._load(begins, (longest + 7) // 8)
        for i in range(shortest // 8, len(words)):
            words[i] &= _LOW_BYTES.take(lengths - 8 * i, mode="clip")
        return words

    def equal(self, column: int, text: bytes) -> NDArray[np.bool_]:
        """(L,) bool: which fields of a column are ``text``."""
        same = self.lengths[column] == len(text)
        for i, word in enumerate(self._load(self.begins[column], (len(text) + 7) // 8)):
            part = text[8 * i : 8 * i + 8]
            same &= word & _LOW_BYTES[len(part)] == int.from_bytes(part, "little")
        return same

    def numbers(self, column: int) -> NDArray[np.float64]:
        """(L,) float64, correctly rounded; NaN where the text is no number.

        Plain decimals of up to 15 digits are whole numbers over a power of ten, both exact; the rest goes to float().
        """
        begins, lengths = self.begins[column], self.lengths[column]
        head, tail = self._load(begins, 2)
        negative = ((head & 0xFF) == ord("-")).astype(np.uint64)
        # Where the point is: among the first eight bytes, else there is none.
        dots = head ^ 0x2E2E2E2E2E2E2E2E
        dots = (dots - 0x0101010101010101) & ~dots & 0x8080808080808080
        point = (np.bitwise_count(~dots & (dots - 1)) >> 3).astype(np.int64)
        np.minimum(point, lengths, out=point)
        # What stands in front of it is moved to the end of its word, what stands behind it to the front.
        to_end = _TO_END.take(point, mode="clip")
        fraction = head >> np.uint64(8)
        fraction >>= 56 - to_end
        tail <<= to_end
        fraction |= tail
        head <<= 8
        head <<= to_end
        wholes, decimals = point - negative.view(np.int64), lengths - point  # the point is one of the decimals
        whole, strange = _digits(head, _HIGH_BYTES.take(wholes, mode="clip"), min(int(wholes.max(initial=0)), 8))
        fraction, odd = _digits(fraction, _DECIMALS.take(decimals, mode="clip"))
        strange |= odd | ((wholes == 0) & (decimals <= 1))
        values = (whole * 10**8 + fraction).astype(np.float64)
        values /= 1e8
        long = np.flatnonzero(decimals > 9)
        if len(long):
            places = np.minimum(decimals[long] - 1, 16)
            upper, lower = self._load((begins + lengths)[long] - 16, 2)
            upper, odd = _digits(upper, _HIGH_BYTES.take(places - 8), int(places.max()) - 8)
            lower, strange_too = _digits(lower, _HIGH_BYTES[8])
            parts, scale = upper * np.uint64(10**8) + lower, _POWERS.take(places)
            too_long = (decimals[long] > 17) | (whole[long] * scale.astype(np.float64) + parts >= 2.0**53)
            strange[long] |= odd | strange_too | too_long
            values[long] = (whole[long] * scale + parts) / scale.astype(np.float64)
        values.view(np.uint64)[:] |= negative << 63
        rows = np.flatnonzero(strange)
        values[rows] = [_number(text) for text in self.texts(column, rows)]
        return values


def _hashes(words: list[Words]) -> Words:
    """(L,) hashes of texts as ``Block.words`` gives them: a sum over their words, so that padding changes nothing."""
    key = np.zeros(len(words[0]) if words else 0, dtype=np.uint64)
    for i, word in enumerate(words):
        key += word * (_HASH_FACTORS[i % len(_HASH_FACTORS)] + 2 * i)
    key ^= key >> 32
    key *= _HASH_FACTORS[0]
    return key


def _digits(words: Words, mask: Words | np.uint64, most: int = 8) -> tuple[Words, NDArray[np.bool_]]:
    """The decimal number of eight characters, of which those outside the mask count as 0; and whether it is none.

    most: how many of the last characters may be within the mask.
    """
    digits = words ^ np.uint64(0x3030303030303030)
    digits &= mask
    strange = ((digits + 0x7676767676767676) | digits) & 0x8080808080808080 != 0
    width = 8
    while width < 8 * most:  # neighbours become one number of twice the width
        upper = digits >> width
        digits *= 10 ** (width // 8)
        digits += upper
        width *= 2
        digits &= _LANES[width]
    digits >>= 64 - width
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
    with open(path, "rb", buffering=0) as stream:
        while content := stream.read(_BLOCKS_READ * _BLOCK_BYTES):
            begin = 0
            while begin < len(content):
                end = content.rfind(b"\n", begin, begin + _BLOCK_BYTES) + 1 or content.find(b"\n", begin) + 1
                if not end:
                    rest += content[begin:]
                    if len(rest) > _LONGEST_LINE:
                        raise DataError(f"a line of more than {_LONGEST_LINE} bytes; it is no list", path, line)
                    break
                block = Block(b"".join((_FRONT, rest, memoryview(content)[begin:end], _BACK)), path, line)
                line += block.num_lines
                begin, rest = end, b""
                yield block
    if rest:
        yield Block(_FRONT + rest + b"\n" + _BACK, path, line)


@dataclass
class Ids:
    """The ids of one column: those that are different, in order of first appearance, and which one a line has."""

    names: list[str]
    index: NDArray[np.int32]


class IdCollector:
    """Gathers a column of ids over the blocks of a file.

    Each id has a place in a table where its number stands: that of its hash, or the first one behind it that was
    free. So ids are looked up by arrays, and compared byte by byte.
    """

    def __init__(self, what: str) -> None:
        self._what = what
        self._names: list[str] = []
        self._parts: list[NDArray[np.int32]] = []
        self._bits = 14
        self._table = np.full(1 << self._bits, -1, dtype=np.int32)
        self._hashes: Words = np.zeros(256, dtype=np.uint64)
        self._store: list[Words] = []  # per word of the ids, those of all ids

    def add(self, block: Block, column: int) -> None:
        """Keep the numbers of the ids of a column for :meth:`ids`. Raises DataError as :meth:`numbers`."""
        self._parts.append(self.numbers(block, column))

    def numbers(self, block: Block, column: int) -> NDArray[np.int32]:
        """(L,) positions in ``names`` of the ids of a column; new ones are added to them.

        Raises DataError for an id that is not UTF-8, or has white space of other scripts.
        """
        words = block.words(column)
        while len(self._store) < len(words):
            self._store.append(np.zeros(len(self._hashes), dtype=np.uint64))
        # Of lines with the same id in a row one is looked up.
        changed = np.zeros(len(block), dtype=bool)
        changed[:1] = True
        for word in words:
            changed[1:] |= word[1:] != word[:-1]
        heads = np.flatnonzero(changed)
        if len(heads) < len(block):
            words = [word[heads] for word in words]
        hashes = _hashes(words)
        numbers = self._look_up(words, hashes)
        unknown = np.flatnonzero(numbers < 0)
        if len(unknown):
            first: dict[bytes, int] = {}
            for row, text in zip(unknown.tolist(), block.texts(column, heads[unknown]), strict=True):
                first.setdefault(text, row)
            rows = np.fromiter(first.values(), dtype=np.int64, count=len(first))
            self._names += self._checked(list(first), block, heads[rows])
            self._enter([word[rows] for word in words], hashes[rows])
            numbers[unknown] = self._look_up([word[unknown] for word in words], hashes[unknown])
        if len(heads) < len(block):
            numbers = np.repeat(numbers, np.diff(heads, append=len(block)))
        return numbers.astype(np.int32)

    def _look_up(self, words: list[Words], hashes: Words) -> Positions:
        """(L,) numbers of ids, -1 for new ones."""
        places = self._places(hashes)
        numbers, others = self._compare(places, words)
        while len(others):
            places[others] = (places[others] + 1) & (len(self._table) - 1)
            numbers[others], still = self._compare(places[others], [word[others] for word in words])
            others = others[still]
        return numbers

    def _places(self, hashes: Words) -> Positions:
        return (hashes >> (64 - self._bits)).view(np.int64)

    def _compare(self, places: Positions, words: list[Words]) -> tuple[Positions, Positions]:
        """(L,) numbers of ids, -1 for those that are not in these places; and for which of them another one is."""
        numbers = self._table.take(places, mode="clip").astype(np.int64)
        same = np.ones(len(numbers), dtype=bool)
        for i, store in enumerate(self._store):  # that of number -1 is the last, which no id has
            same &= store.take(numbers, mode="wrap") == (words[i] if i < len(words) else 0)
        different = np.flatnonzero(~same)
        others = different[numbers[different] >= 0]
        numbers[different] = -1
        return numbers, others

    def _enter(self, words: list[Words], hashes: Words) -> None:
        """Give the newest ids their places."""
        begin, end = len(self._names) - len(hashes), len(self._names)
        while end >= len(self._hashes):
            self._hashes = np.concatenate([self._hashes, np.zeros_like(self._hashes)])
            self._store = [np.concatenate([store, np.zeros_like(store)]) for store in self._store]
        self._hashes[begin:end] = hashes
        for store, word in zip(self._store, words, strict=False):
            store[begin:end] = word
        if 4 * end > len(self._table):
            self._bits = (8 * end).bit_length()
            self._table = np.full(1 << self._bits, -1, dtype=np.int32)
            begin = 0
        numbers = np.arange(begin, end)
        places = self._places(self._hashes[begin:end])
        while len(numbers):
            free = self._table[places] < 0
            self._table[places[free]] = numbers[free]
            left = self._table[places] != numbers
            numbers, places = numbers[left], (places[left] + 1) & (len(self._table) - 1)

    def _checked(self, texts: list[bytes], block: Block, rows: Positions) -> list[str]:
        """The ids in some rows as they are to be: see ``add``."""
        together = b"\n".join(texts)
        if together.isascii() and b"\x7f" not in together:
            return together.decode().split("\n")
        names = []
        for row, text in zip(rows.tolist(), texts, strict=True):
            try:
                name = text.decode("utf-8")
            except UnicodeDecodeError as error:
                raise DataError(f"not UTF-8 text: {error.reason}", block.path, block.line_of(row)) from None
            if name.split() != [name] or "\x7f" in name:
                message = f"{self._what} {name!r} has white space or a control character"
                raise DataError(message, block.path, block.line_of(row))
            names.append(name)
        return names

    @property
    def names(self) -> list[str]:
        """The different ids so far, in order of first appearance."""
        return self._names

    def ids(self) -> Ids:
        parts = self._parts or [np.empty(0, dtype=np.int32)]
        return Ids(self._names, np.concatenate(parts))
