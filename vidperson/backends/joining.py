"""Tracks of several modalities in a video become persons: who is seen by the face, from behind, or heard.

What is heard and what shows only what somebody wears say less than a face. So they join a face where they can, or carry
on the name of one:

- A face inside the box of a body in the same frames is of the same person. Such a body adds its time.
- A body in which no face was found is compared with the other bodies of the video: people keep their clothes. It takes
  over the name of the one that is most likely the same person, as probable as that is.
- A voice joins who is seen while it talks, if that is more probable than not: by the number of those who are seen, and
  by whether both are probably the same person of the gallery, or both nobody of it.
- A voice that joins nobody takes over the name of the most similar voice of the video that did.

Log-likelihood ratios of a face and a voice that belong together are added, each times its trust over that of the better
one: a small face does not outvote a long utterance, nor a short one a large face. That the quality of what was found
guides the fusion is the idea of F. Liu et al., "Person Recognition at Altitude and Range: Fusion of Face, Body Shape
and Gait" (FarSight, arXiv 2505.04616); its estimator is trained, this one is a rule.
"""

from __future__ import annotations

import bisect
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import NamedTuple

import numpy as np

from vidperson.answers import Track
from vidperson.backends.decisions import posteriors
from vidperson.backends.exact import Double
from vidperson.types import CUT_BY_BOX, HEARD, ITEMS, Calibration

GOOD_SIZE = {"faces": 20.0, "bodies": 100.0, "speech": 3.0}
"""What is found -> the size from which on it is trusted in full: distance of the eyes or height in pixels, seconds."""
TALKER_IS_SEEN = 0.7
"""How probable it is that one of those who are seen is the one who talks."""
SAME_CLOTHES, SAME_CLOTHES_LATER = 0.2, 0.01
"""How probable it is, before they are compared, that two bodies are one person: in one shot, and in two of a video.

Networks for bodies mistake many for each other in dark scenes and in crowds, to which a shot often cuts."""
SAME_VOICE = 0.5
"""The same of two voices."""
_MILLISECOND = 0.001  # to which times of tracks are rounded
_INSIDE = 0.8  # of the box of a face that is inside that of its body
_COMMON = 0.5  # of a face's frames in which it is there; of a voice's time in which somebody is seen
_ALIKE = 0.0  # log-likelihood ratio of two faces from which on they may be in one body


@dataclass(frozen=True)
class Evidence:
    """What is known of T tracks of a video by one modality.

    units: (T, D) unit vectors. sizes: (T,) as in ``GOOD_SIZE``.
    llrs: (T, K) log-likelihood ratios of the K persons that come into question, the same ones for all modalities; 0 for
        persons of whom nothing is known by this modality. others: (T,) ln of the sum of the ratios of all others.
    calibration: how cosines of two tracks become log-likelihood ratios; None: not known, so they carry on no name.
    """

    modality: str
    tracks: Sequence[Track]
    units: Double
    sizes: Double
    llrs: Double
    others: Double
    calibration: Calibration | None

    @property
    def trust(self) -> Double:
        """(T,) 0..1 by the size."""
        return np.minimum(1.0, self.sizes / GOOD_SIZE[ITEMS[self.modality]])


class Joined(NamedTuple):
    """Tracks that are of one person and belong together.

    members: modality and number of each track, the one to show first.
    llrs: (K,) and others: as of :class:`Evidence`, of all together.
    """

    members: tuple[tuple[str, int], ...]
    llrs: Double
    others: float


class _Group(NamedTuple):
    """A person so far: see :class:`Joined`. spans: start and end of each member. trust: of the best one."""

    members: tuple[tuple[str, int], ...]
    spans: tuple[tuple[float, float], ...]
    llrs: Double
    others: float
    trust: float


@dataclass(frozen=True)
class _Gallery:
    """prior: that somebody is of the gallery. persons: how many are in it. compared: K of them."""

    prior: float
    persons: int
    compared: int

    def shares(self, llrs: Double, others: float) -> Double:
        """(K + 2,) probabilities of the persons, of nobody of the gallery, and of its other persons together."""
        found, nobody = posteriors(llrs, self.prior, self.persons, others)
        return np.array([*found, nobody, max(0.0, 1.0 - float(found.sum()) - nobody)])

    @property
    def before(self) -> Double:
        """(K + 2,) the same before anything was seen."""
        if not self.persons:
            return np.array([1.0, 0.0])
        each = self.prior / self.persons
        return np.array([*[each] * self.compared, 1 - self.prior, each * (self.persons - self.compared)])

    def agreement(self, one: Double, other: Double) -> float:
        """How many times more probable two tracks are if they are one person, by their shares; 1: they do not tell."""
        before = self.before
        there = before > 0
        return float((one[there] * other[there] / before[there]).sum())

    def carried(self, shares: Double, sure: float) -> tuple[Double, float]:
        """Log-likelihood ratios of who is, as probable as ``sure``, the person with these shares: (K,), and others."""
        before = self.before
        mixed = sure * shares + (1 - sure) * before
        with np.errstate(divide="ignore"):
            nobody = mixed[-2] / before[-2]
            ratios = np.log(mixed[:-2] / before[:-2] / nobody)
            rest = mixed[-1] / nobody / (self.prior / self.persons) if self.persons > self.compared else 0.0
            return ratios, float(np.log(rest)) if rest else -math.inf


def join_modalities(
    evidence: Sequence[Evidence], person_prior: float, persons: int, starts: Sequence[float] = ()
) -> list[Joined]:
    """The persons of a video: each track is in one of them, and each of them has a track.

    evidence: one a modality; of one only, each track is by itself. person_prior: see ``decisions.posteriors``.
    persons: of the gallery. starts: seconds at which shots begin, ascending; none: there is one shot.
    """
    kinds = [(one, ITEMS[one.modality]) for one in evidence]
    heard = [one for one, items in kinds if items in HEARD]
    around = [one for one, items in kinds if items in CUT_BY_BOX]
    seen = [one for one, items in kinds if items not in HEARD and items not in CUT_BY_BOX]
    if len(evidence) == 1:
        return [Joined(each.members, each.llrs, each.others) for each in _singles(evidence[0])]
    gallery = _Gallery(person_prior, persons, evidence[0].llrs.shape[1] if evidence else 0)
    groups = list(chain.from_iterable(_singles(one) for one in seen))
    for bodies in around:
        groups = _with_bodies(groups, seen, bodies, gallery, starts)
    for voices in heard:
        groups = _with_voices(groups, voices, gallery)
    return [Joined(group.members, group.llrs, group.others) for group in groups]


def _singles(one: Evidence) -> list[_Group]:
    return [_single(one, number) for number in range(len(one.tracks))]


def _single(one: Evidence, number: int) -> _Group:
    track = one.tracks[number]
    span = track.start_s, track.end_s
    return _Group(((one.modality, number),), (span,), one.llrs[number], float(one.others[number]), one.trust[number])


def _with_bodies(
    groups: list[_Group], seen: Sequence[Evidence], bodies: Evidence, gallery: _Gallery, starts: Sequence[float]
) -> list[_Group]:
    """Groups of faces, joined where they are in one body, with the bodies; and bodies without a face."""
    by_modality = {one.modality: one for one in seen}
    at_time: dict[float, list[tuple[int, Sequence[float]]]] = {}
    for body, track in enumerate(bodies.tracks):
        for time, *box in track.boxes:
            at_time.setdefault(time, []).append((body, box))
    pairs = []
    for place, group in enumerate(groups):
        ((modality, number),) = group.members
        counts = _counts_inside(by_modality[modality].tracks[number], at_time)
        pairs += [(-count, place, body) for body, count in counts.items()]
    clusters: list[tuple[list[int], list[int]]] = []  # places of groups, and bodies
    of_face, of_body = dict[int, int](), dict[int, int]()  # place, body -> number of its cluster
    for _, place, body in sorted(pairs):
        having = [cluster for cluster in (of_face.get(place), of_body.get(body)) if cluster is not None]
        if not having:
            of_face[place] = of_body[body] = len(clusters)
            clusters.append(([place], [body]))
            continue
        faces, around = clusters[min(having)]
        if place not in of_face and _fits(groups[place], [groups[one] for one in faces], by_modality):
            of_face[place] = of_body[body]
            faces.append(place)
        elif body not in of_body and all(_apart(bodies.tracks[body], bodies.tracks[one]) for one in around):
            of_body[body] = of_face[place]
            around.append(body)
    joined = [_together([groups[place] for place in faces], bodies, around, by_modality) for faces, around in clusters]
    sources = [(body, one) for one, (_, around) in zip(joined, clusters, strict=True) for body in around]
    left = [group for place, group in enumerate(groups) if place not in of_face]
    alone = [body for body in range(len(bodies.tracks)) if body not in of_body]
    shots = [bisect.bisect_right(starts, track.start_s + _MILLISECOND) for track in bodies.tracks]
    before = np.where(np.equal.outer(shots, shots), SAME_CLOTHES, SAME_CLOTHES_LATER)
    return [*joined, *left, *(_carried(bodies, body, sources, before[body], gallery) for body in alone)]


def _counts_inside(track: Track, bodies: Mapping[float, Sequence[tuple[int, Sequence[float]]]]) -> dict[int, int]:
    """Body -> how many frames the face is inside of it, if these are half or more of those that have both.

    bodies: time -> the bodies that are seen then, with their boxes.
    """
    both, inside = Counter[int](), Counter[int]()
    for time, *box in track.boxes:
        for body, around in bodies.get(time, ()):
            both[body] += 1
            inside[body] += _share_inside(box, around) >= _INSIDE
    return {body: count for body, count in inside.items() if count and count >= _COMMON * both[body]}


def _apart(one: Track, other: Track) -> bool:
    """Whether two tracks are never there at the same time."""
    return one.end_s <= other.start_s or other.end_s <= one.start_s


def _share_inside(box: Sequence[float], around: Sequence[float]) -> float:
    """How much of the area of a box is inside another one."""
    width = min(box[2], around[2]) - max(box[0], around[0])
    height = min(box[3], around[3]) - max(box[1], around[1])
    area = (box[2] - box[0]) * (box[3] - box[1])
    return max(width, 0.0) * max(height, 0.0) / area if area > 0 else 0.0


def _fits(group: _Group, kept: Sequence[_Group], by_modality: dict[str, Evidence]) -> bool:
    """Whether a face is one more of a person: like the first one, and at no time beside another one.

    The track of a body may change persons.
    """
    (modality, number), (first_modality, first) = group.members[0], kept[0].members[0]
    evidence = by_modality[modality]
    if modality != first_modality or evidence.calibration is None:
        return False
    alike = float(evidence.calibration.llr(evidence.units[number] @ evidence.units[first])) >= _ALIKE
    (start, end), spans = group.spans[0], [span for one in kept for span in one.spans]
    return alike and all(end <= begin or start >= last for begin, last in spans)


def _together(
    inside: Sequence[_Group], bodies: Evidence, around: Sequence[int], by_modality: dict[str, Evidence]
) -> _Group:
    """Faces in the bodies of one person: their mean ratios by trust and number of items, as they tell the same."""
    weights = []
    for group in inside:
        modality, number = group.members[0]
        weights.append(float(by_modality[modality].trust[number]) * len(by_modality[modality].tracks[number].rows))
    shares = np.array(weights) / math.fsum(weights) if math.fsum(weights) > 0 else np.full(len(inside), 1 / len(inside))
    order = np.argsort(-shares, kind="stable").tolist()
    llrs = sum(shares[place] * inside[place].llrs for place in order)
    others = math.fsum(shares[place] * inside[place].others for place in order)
    tracks = [bodies.tracks[body] for body in around]
    return _Group(
        (*(inside[place].members[0] for place in order), *((bodies.modality, body) for body in around)),
        (*(inside[place].spans[0] for place in order), *((track.start_s, track.end_s) for track in tracks)),
        np.asarray(llrs),
        others,
        max(group.trust for group in inside),
    )


def _carried(
    one: Evidence,
    number: int,
    sources: Sequence[tuple[int, _Group]],
    before: Double,
    gallery: _Gallery,
    own: bool = False,
) -> _Group:
    """A track by itself, with the name of the one of the same modality that is most like it.

    sources: numbers of tracks that belong to groups. before: (T,) how probable it is that each track is this one's
    person. Who is seen at the same time is somebody else. Small items tell less of whether they are alike.
    own: what the track itself tells of persons counts, too.
    """
    single = _single(one, number)
    sources = [(source, group) for source, group in sources if own or _apart(one.tracks[number], one.tracks[source])]
    llrs, others = (single.llrs, single.others) if own else (np.zeros_like(single.llrs), _nothing(gallery))
    if sources and one.calibration is not None:
        numbers = [source for source, _ in sources]
        ratios = one.calibration.llr(one.units[numbers] @ one.units[number])
        ratios = ratios * np.minimum(one.trust[numbers], one.trust[number])
        ratios = ratios + np.log(before[numbers] / (1 - before[numbers]))
        best = int(np.argmax(ratios))
        odds = math.exp(min(30.0, float(ratios[best])))  # more is 1 when it is rounded, and leaves nobody else
        more, rest = gallery.carried(gallery.shares(sources[best][1].llrs, sources[best][1].others), odds / (1 + odds))
        llrs, others = llrs + more, others + rest - _nothing(gallery) if math.isfinite(others) else others
    return single._replace(llrs=llrs, others=others)


def _nothing(gallery: _Gallery) -> float:
    """The sum of the ratios of the other persons where nothing is known: 1 each."""
    left = gallery.persons - gallery.compared
    return math.log(left) if left else -math.inf


def _with_voices(groups: list[_Group], voices: Evidence, gallery: _Gallery) -> list[_Group]:
    """Each voice with whom it belongs to, or by itself."""
    shares = [gallery.shares(group.llrs, group.others) for group in groups]
    of_group: list[list[int]] = [[] for _ in groups]
    alone = list[int]()
    for number, track in enumerate(voices.tracks):
        visible = [place for place, group in enumerate(groups) if _common(track, group) >= _COMMON]
        ours = gallery.shares(voices.trust[number] * voices.llrs[number], float(voices.others[number]))
        odds = [TALKER_IS_SEEN / len(visible) * gallery.agreement(shares[place], ours) for place in visible]
        best = int(np.argmax(odds)) if odds else -1
        if odds and odds[best] > math.fsum(odds) - odds[best] + 1 - TALKER_IS_SEEN:
            of_group[visible[best]].append(number)
        else:
            alone.append(number)
    joined = [
        _with_own_voices(group, voices, numbers) if numbers else group
        for group, numbers in zip(groups, of_group, strict=True)
    ]
    before = np.full(len(voices.tracks), SAME_VOICE)
    known = [(number, group) for group, numbers in zip(joined, of_group, strict=True) for number in numbers]
    return [*joined, *(_carried(voices, number, known, before, gallery, own=True) for number in alone)]


def _common(track: Track, group: _Group) -> float:
    """The share of a track's time in which a group is there."""
    both = [max(0.0, min(track.end_s, end) - max(track.start_s, start)) for start, end in group.spans]
    return max(both) / max(track.end_s - track.start_s, 1e-6)


def _with_own_voices(group: _Group, voices: Evidence, numbers: Sequence[int]) -> _Group:
    """Voices of one person tell the same and not more, so their mean by duration counts, once."""
    tracks = [voices.tracks[number] for number in numbers]
    spans = tuple((track.start_s, track.end_s) for track in tracks)
    sizes = voices.sizes[list(numbers)]
    shares = sizes / sizes.sum() if sizes.sum() > 0 else np.full(len(sizes), 1 / len(sizes))
    trust = min(1.0, float(sizes.sum()) / GOOD_SIZE[ITEMS[voices.modality]])
    most = max(group.trust, trust) or 1.0
    llrs = group.trust / most * group.llrs + trust / most * (shares @ voices.llrs[list(numbers)])
    members = tuple((voices.modality, number) for number in numbers)
    return group._replace(members=group.members + members, spans=group.spans + spans, llrs=llrs, trust=most)
