"""Decoding no more frames of a video than the wanted ones need.

Left out are the frames that no other needs, and those between the last wanted frame before a key frame and that key
frame. Which frames there are, and when they are shown, is told by the packets before anything is decoded.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterator
from dataclasses import replace
from heapq import heappop, heappush
from itertools import takewhile
from math import inf
from typing import Any

import av
from av.video.frame import PictureType

from vidperson.media.decoder import DEEPEST_REORDERING, Decoder, Marking
from vidperson.media.packets import Kind, kind_reader, sequence_size
from vidperson.media.sampling import Shot

_LONGEST_QUEUE = 1500  # packets that wait to be left out, a minute of video
_LARGEST_QUEUE = 16 << 20  # their bytes
_SHORT_REST = 64  # packets behind the last wanted frame that are decoded all the same


class Surprise(Exception):
    """The file is not what its packets tell, or it is damaged: it has to be decoded in full."""


class _Entry:
    """A packet that is not decoded yet.

    stamp: when its frame is shown, None if it shows none.
    taken: it left the queue. after_gap: before it, some were left out that others need.
    """

    __slots__ = ("after_gap", "entry", "heads", "packet", "spare", "stamp", "taken")

    def __init__(self, packet: av.Packet[Any], kind: Kind) -> None:
        self.packet, self.entry, self.spare = packet, kind.entry, kind.spare and not kind.entry
        self.heads = kind.heads
        self.stamp = packet.pts if kind.shown and not packet.is_discard else None
        self.taken = self.after_gap = False


class PlannedDecoder(Decoder):
    """Decodes what the wanted frames need only; their indices, times and pixels are those of :class:`Decoder`.

    Where it does not know the codec or the container, it does as that one does. :meth:`selected` raises Surprise
    where packets and frames do not match one to one, and at any damage in what is decoded; damage elsewhere goes
    unseen. What little follows the last wanted frame is decoded, so that a file that was cut is noticed.
    """

    def selected(self, marking: Marking, sees: bool = False) -> Generator[tuple[Shot, int | None], None, int]:
        kind_of = None if self._independent or self.container.format.name == "avi" else self._kind_reader()
        if kind_of is None or sees:
            return (yield from super().selected(marking, sees))
        self._kind_of = kind_of
        self._queue: deque[_Entry] = deque()  # in the order of decoding
        self._queued = 0  # bytes
        self._size: bytes | None = None
        self._expected: list[int] = []  # heap of the stamps of frames that the decoder has not given yet
        self._held: dict[int, av.VideoFrame] = {}  # by stamp: frames decoded before it is known whether they are wanted
        self._wanted: dict[int, tuple[Shot, int | None]] = {}  # by stamp: to come out of the decoder
        self._run: deque[tuple[Shot, int | None]] = deque()  # wanted B-frames; a loss can still smear them
        self._sound = -inf  # the stamp up to which they are not
        marks = marking(self._scheduled(), self.clock)
        while True:
            try:
                shot, label = next(marks)
            except StopIteration as end:
                past_end = end.value
                break
            yield from self._decide(shot, label)
        if self._ended and 0 < len(self._queue) <= _SHORT_REST:
            yield from self._rest()
        yield from self._drained()
        return past_end

    def _kind_reader(self) -> Any:
        codec = self.stream.codec_context
        return kind_reader(codec.codec.canonical_name, codec.extradata)

    def _scheduled(self) -> Iterator[Shot]:
        """All frames in display order, with entries of the queue for images."""
        waiting: list[tuple[int, int, _Entry]] = []
        last: int | None = None
        for number, packet in enumerate(self._packets()):
            if packet is not None:
                entry = self._entry(packet)
                self._queue.append(entry)
                self._queued += packet.size
                if entry.stamp is not None:
                    heappush(waiting, (entry.stamp, number, entry))
            # no frame is shown before it can be decoded
            limit = None if packet is None else packet.dts
            while waiting and (
                packet is None or len(waiting) > DEEPEST_REORDERING or (limit is not None and waiting[0][0] < limit)
            ):
                stamp, _, entry = heappop(waiting)
                if last is not None and stamp <= last:
                    raise Surprise
                last = stamp
                shot = replace(self._shot(stamp, None), picture=entry, key=entry.entry)
                if self._is_too_long(shot):
                    return
                self._intact += 1
                yield shot
        self._ended = True

    def _entry(self, packet: av.Packet[Any]) -> _Entry:
        if packet.pts is None or not self._is_whole(packet) or _has_new_headers(packet):
            raise Surprise
        data = bytes(packet)
        entry = _Entry(packet, self._kind_of(data, packet.is_keyframe))
        size = sequence_size(self.stream.codec_context.codec.canonical_name, data)
        if size and self._size and size != self._size:
            raise Surprise  # the decoder drops frames there
        self._size = size or self._size
        if not self._queue and self._packets_seen == 1 and not entry.entry:
            raise Surprise
        return entry

    def _decide(self, shot: Shot, label: int | None) -> Iterator[tuple[Shot, int | None]]:
        """Decode and leave out what is sure when the fate of the next frame is known."""
        entry: _Entry = shot.picture
        stamp = entry.stamp or 0
        if entry.entry:
            self._leave_out_before(entry)
        picture = self._held.pop(stamp, None)
        if label is None and shot.index:
            if len(self._queue) > _LONGEST_QUEUE or self._queued > _LARGEST_QUEUE:
                yield from self._decode_through(entry, stamp)
        elif picture is not None:
            self._run.append((replace(shot, picture=picture), label))
            yield from self._ripe()
        else:
            self._wanted[stamp] = shot, label
            yield from self._decode_through(entry, stamp)

    def _leave_out_before(self, entry: _Entry) -> None:
        """Where decoding can begin at an entry, and what is shown before it is done with."""
        stamp = entry.stamp or 0
        before = list(takewhile(lambda one: one is not entry, self._queue))
        if entry.taken or any(one.stamp is not None and one.stamp > stamp for one in before):
            return
        if any(one.heads & ~entry.heads for one in before):  # it needs headers that it does not repeat
            return
        left_out = [self._take() for _ in before]
        if not all(one.spare for one in left_out):  # they make the frames behind it that are shown before it
            entry.after_gap = True
            self._queue = deque(one for one in self._queue if one.stamp is None or one.stamp >= stamp)
            self._queued = sum(one.packet.size for one in self._queue)

    def _take(self) -> _Entry:
        entry = self._queue.popleft()
        entry.taken = True
        self._queued -= entry.packet.size
        return entry

    def _decode_through(self, last: _Entry, decided: float) -> Iterator[tuple[Shot, int | None]]:
        """Decode the queue up to an entry, but what no frame needs.

        decided: the stamp up to which it is known what is wanted.
        """
        while not last.taken:
            entry = self._take()
            stamp = entry.stamp
            known = stamp is None or stamp <= decided
            if not entry.spare or not known or stamp in self._wanted:
                if entry.after_gap:
                    yield from self._drained(decided)
                    self.stream.codec_context.flush_buffers()
                if stamp is not None:
                    heappush(self._expected, stamp)
                yield from self._given(self._decoded(entry.packet), decided)

    def _rest(self) -> Iterator[tuple[Shot, int | None]]:
        """Decode the end, too: a file that was cut is often seen by its last frame only."""
        for entry in self._queue:
            entry.spare = False
        yield from self._decode_through(self._queue[-1], inf)

    def _decoded(self, packet: av.Packet[Any] | None) -> list[av.VideoFrame]:
        pictures = self._decode(packet)
        if pictures is None:
            raise Surprise
        return pictures

    def _drained(self, decided: float = inf) -> Iterator[tuple[Shot, int | None]]:
        """The wanted ones of the frames that the decoder still has."""
        yield from self._given(self._decoded(None), decided)
        if self._expected:
            raise Surprise
        self._sound = inf
        yield from self._ripe()
        self._sound = -inf

    def _given(self, pictures: list[av.VideoFrame], decided: float) -> Iterator[tuple[Shot, int | None]]:
        """The wanted ones of the decoder's frames."""
        for picture in pictures:
            if picture.is_corrupt or not self._expected or picture.pts != heappop(self._expected):
                raise Surprise
            if picture.interlaced_frame and self.stream.codec_context.name == "h264":
                raise Surprise  # a frame may be two packets
            self.decoded += 1
            if picture.pict_type != PictureType.B:
                self._sound = picture.pts
            if picture.pts in self._wanted:
                shot, label = self._wanted.pop(picture.pts)
                self._run.append((replace(shot, picture=picture), label))
            elif picture.pts > decided:
                self._held[picture.pts] = picture
            yield from self._ripe()

    def _ripe(self) -> Iterator[tuple[Shot, int | None]]:
        while self._run:
            shot, label = self._run[0]
            if shot.picture.pts > self._sound and len(self._run) <= DEEPEST_REORDERING:
                return
            self._run.popleft()
            if not shot.index:
                yield shot, None
            if shot.index or label is not None:
                yield shot, label


def _has_new_headers(packet: av.Packet[Any]) -> bool:
    return packet.has_sidedata("new_extradata") or packet.has_sidedata("param_change")
