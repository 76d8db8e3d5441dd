"""The faces of one segment that may be kept, gathered frame by frame; memory does not grow with the video."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from vidperson.face.align import align_faces, eye_distances
from vidperson.face.selection import (
    Mask,
    SelectionPolicy,
    above_levels,
    keep_labelled,
    keep_quality,
    match_label,
    pick_level,
    score_levels,
)
from vidperson.io.items import NO_SHOTS, Spool
from vidperson.media.image import encode_png, thumbnail_of
from vidperson.types import FACE_COLUMNS, Box, Detections, Float, Frame, Image

Boxes = Sequence[Sequence[float]]
Thumbnail = Callable[[], tuple[Image, float]]


@dataclass(frozen=True)
class SelectedFaces:
    """What is kept of a segment.

    rows: (N, 17) float32, columns ``vidperson.types.FACE_COLUMNS``.
    shots: (S, 3) float32 of the frames that were searched: seconds at which shots begin, width, height.
    quality: (N, 2) float32: eye distance in pixels, share of black pixels.
    crops: N PNG files of 112 x 112 RGB, to be read once.
    thumbnail: (height, 320, 3) uint8 RGB of the frame with the best face, narrower where it would be higher than 1280;
        None if no frame was seen.
    thumbnail_faces: the kept faces of that frame, in its pixels; those below the threshold where none is kept at all.
    thumbnail_region: x1 y1 x2 y2 in its pixels, the part of the frame that is the segment; None: all of it.
    """

    rows: Float
    quality: Float
    crops: Iterator[bytes]
    thumbnail: Image | None
    thumbnail_faces: Detections
    thumbnail_region: Box | None = None
    shots: Float = field(default_factory=lambda: NO_SHOTS)


class Candidates:
    """Faces that some threshold still in question would choose; their crops wait in a temporary file.

    labels: the labelled boxes of each labelled time, as ``Frame.label`` counts them; empty: every face counts.
    region: x1 y1 x2 y2 in pixels, the part of each frame that is the segment; None: all of it. It is only shown.
    """

    def __init__(self, policy: SelectionPolicy, labels: Sequence[Boxes] = (), region: Box | None = None) -> None:
        self.policy, self.labels, self.region = policy, labels, region
        self._levels = score_levels(policy.threshold)
        self._reached = np.zeros(len(self._levels), dtype=int)
        self._spool = Spool()
        self._rows = [np.zeros((0, len(FACE_COLUMNS)), np.float32)]
        self._quality = [np.zeros((0, 2), np.float32)]
        self._chosen = [np.zeros((0, len(self._levels)), bool)]
        self._match = [np.zeros((0, 2), np.float32)]
        self._best_score = 0.0
        self._thumb: Image | None = None
        self._thumb_rank = (False, -1.0, -1.0)
        self._thumb_frame, self._thumb_scale = -1, 1.0
        self._thumb_faces = Detections.empty()

    @property
    def min_score(self) -> float:
        """The lowest score that the detector has to report."""
        return float(self._levels[-1])

    @property
    def best_score(self) -> float:
        """The highest score of a face that counts, 0 where there is none; with labels only the labelled person's."""
        return self._best_score

    def has_sure_face(self) -> bool:
        """Whether a face that counts has reached ``policy.threshold``; with labels only the labelled person counts."""
        return bool(self._reached[0])

    def add(self, frame: Frame, found: Detections, thumbnail: Thumbnail | None = None) -> None:
        """Take the faces of one frame. thumbnail: makes what ``thumbnail_of`` does, for those who share the frame."""
        if self.labels:
            chosen, overlap, distance = match_label(
                found, self.labels[frame.label], self._levels, self.policy.max_centre_distance
            )
        else:
            chosen = above_levels(found, self._levels)
            overlap = distance = np.zeros(len(found), np.float32)
        self._show(frame, found, chosen, overlap, thumbnail or partial(thumbnail_of, frame.image))
        levels = 1
        if self.policy.fallback:
            enough = np.flatnonzero(self._reached >= self.policy.min_faces)
            levels = enough[0] + 1 if len(enough) else len(self._levels)
        wanted = np.flatnonzero(chosen[:, :levels].any(axis=1))
        self._reached += chosen.sum(axis=0)
        found, overlap = found[wanted], overlap[wanted]
        crops, black = align_faces(frame.image, found.landmarks)
        for crop in crops:
            self._spool.append(encode_png(crop))
        self._rows.append(found.as_rows(frame))
        self._quality.append(np.stack([eye_distances(found.landmarks), black], axis=1))
        self._chosen.append(chosen[wanted])
        self._match.append(np.stack([overlap, distance[wanted]], axis=1))

    def _show(self, frame: Frame, found: Detections, chosen: Mask, overlap: Float, thumbnail: Thumbnail) -> None:
        """Note the frame as the thumbnail if its faces are the best so far: a sure one, its overlap, its score."""
        sure = bool(chosen[:, 0].any())
        counted = np.flatnonzero(chosen[:, 0] if sure else chosen.any(axis=1))
        score = float(found.scores[counted].max(initial=0))
        self._best_score = max(self._best_score, score)
        rank = (sure, float(overlap[counted].max(initial=0)), score)
        if rank > self._thumb_rank:
            self._thumb_rank, self._thumb_frame, self._thumb_faces = rank, frame.index, found[counted]
            self._thumb, self._thumb_scale = thumbnail()

    def select(self) -> SelectedFaces:
        """Apply the policy to all that was added."""
        rows, quality, chosen, match = (
            np.concatenate(parts) for parts in (self._rows, self._quality, self._chosen, self._match)
        )
        level = pick_level(chosen, self.policy.min_faces) if self.policy.fallback else 0
        kept = np.flatnonzero(chosen[:, level])
        if self.labels:
            kept = kept[keep_labelled(match[kept, 0], match[kept, 1])]
        if self.policy.discard_low_quality:
            kept = kept[keep_quality(quality[kept, 0], quality[kept, 1])]
        kept = kept[np.argsort(rows[kept, 0], kind="stable")]  # a later look may add frames between those before
        rows, quality = rows[kept], quality[kept]
        shown = Detections.from_rows(rows[rows[:, 0] == self._thumb_frame]) if len(rows) else self._thumb_faces
        scaled = Detections(shown.boxes * self._thumb_scale, shown.scores, shown.landmarks * self._thumb_scale)
        x1, y1, x2, y2 = (side * self._thumb_scale for side in self.region or (0.0, 0.0, 0.0, 0.0))
        region = (x1, y1, x2, y2) if self.region else None
        return SelectedFaces(rows, quality, self._spool.read(kept.tolist()), self._thumb, scaled, region)
