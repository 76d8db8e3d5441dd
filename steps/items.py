"""What the steps of stages 2 and 3 of all modalities share: limits of the media, taking items, embedding them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from steps.options import EngineOptions, open_model
from vidperson import cli
from vidperson.media.limits import Limits
from vidperson.supervision import UNWATCHED, Watch

if TYPE_CHECKING:
    from vidperson.engines import Network
    from vidperson.io.items import StoredItems
    from vidperson.networks.card import ModelCard
    from vidperson.networks.embedder import PictureEmbedder
    from vidperson.supervision import Work


@dataclass(frozen=True)
class TimeLimitOptions:
    """What is refused because it takes too long."""

    max_duration_s: float = cli.option(Limits.max_duration_s, "longer files are refused", convert=cli.positive)
    segment_timeout_s: float = cli.option(
        3600.0, "seconds after which a segment is given up; 0: never", convert=cli.not_negative
    )

    def of_media(self) -> Limits:
        return Limits(max_duration_s=self.max_duration_s)


@dataclass(frozen=True)
class LimitOptions(TimeLimitOptions):
    """What is refused."""

    max_pixels: int = cli.option(Limits.max_pixels, "larger frames and images are refused", convert=cli.whole(1))

    def of_media(self) -> Limits:
        return Limits(self.max_pixels, self.max_duration_s)


@dataclass(frozen=True)
class ExtractOptions:
    """Of a step that embeds the items of a folder of stage 2."""

    items_dir: Path = cli.option(help="output folder of stage 2 for the set")
    scp: Path = cli.option(help="list; its first column names the segments of the job")
    model: Path = cli.option(help="folder of the installed embedder")
    output_dir: Path = cli.option(help="the job's own folder")
    embed_batch: int = cli.option(16, "crops per call of the network", convert=cli.whole(1))
    mirror: str = cli.option(
        "", "mirrored crops; empty: as the network's card says", choices=["", "none", "concatenate", "sum"]
    )
    network: EngineOptions = cli.group(EngineOptions)
    check: bool = cli.option(False, "true: only refuse wrong options, and import what the work needs")


def take_items(
    items: str,
    states: Sequence[str],
    scp: str,
    output_dir: str,
    take: Callable[[str, str], tuple[str, dict[str, Iterator[bytes]]]],
    watch: Watch = UNWATCHED,
) -> None:
    """Store the segments of a list that the job has not finished yet.

    items: what they are, one of ``vidperson.types.ITEMS``. states: what a status may begin with.
    take: segment and path to its status and what it adds to each archive, to be read once.
    Raises VidPersonError for lists that are wrong.
    """
    import cv2

    from vidperson.io.items import archives_of
    from vidperson.io.job_store import JobStore
    from vidperson.io.lines import read_paths
    from vidperson.progress import Progress

    cv2.setNumThreads(1)
    paths = read_paths(scp)
    with JobStore(output_dir, archives_of(items), states) as store:
        progress = Progress(len(paths), "segments", done=len(store.statuses))
        for segment, path in paths.items():
            if segment not in store.statuses:
                watch.begin(segment)
                status, entries = take(segment, path)
                store.append(segment, status, entries)
                watch.end(segment)
                logging.info("%s %s", segment, status)
                progress.step()


def take_supervised(work: Work, items: str, states: Sequence[str], output_dir: str, limits: TimeLimitOptions) -> None:
    """Do the work of :func:`take_items` in a child process that may crash or hang; it costs one segment."""
    from vidperson.io.items import store_unreadable
    from vidperson.supervision import run_supervised

    def give_up(segment: str, why: str) -> None:
        store_unreadable(output_dir, items, states, segment, why)

    run_supervised(work, give_up, limits.segment_timeout_s or None)


def embed_items(
    options: ExtractOptions,
    items: StoredItems,
    embedder_of: Callable[[Network, ModelCard, str | None], PictureEmbedder],
    states: Sequence[str],
) -> None:
    """Embed the items of the segments of ``scp`` that the job has not finished yet.

    embedder_of: a network, its card and the way to mirror, None for the card's, to an embedder.
    Raises VidPersonError for archives, networks and options that are wrong.
    """
    import numpy as np

    from vidperson.embedding import embed_segments
    from vidperson.io.lines import read_scp

    segments = read_scp(options.scp)
    items.require(segments)
    network, card = open_model(options.model, options.network, options.embed_batch)
    embedder = embedder_of(network, card, options.mirror or None)
    embed_segments(
        {segment: items.statuses[segment] for segment in segments},
        items.read,
        lambda batch: embedder.embed(np.stack(batch)),
        embedder.embedding_size,
        options.output_dir,
        states,
        options.embed_batch,
    )
