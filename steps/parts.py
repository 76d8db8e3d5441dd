"""What stages 2 and 3 made of a part of a data set, segment by segment."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from steps.score import checked_matrices, embedding_inputs, files_of, items_of, refuse_damaged

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from vidperson.backends.identification import Pooled


class Part:
    """The embeddings of a part by one or several embedders, and the items that they are of.

    name: of the part. embed_dirs: per embedder the folder with a folder per part; their names are the embedders'.
    items_dir: that of stage 2. Frames and boxes link tracks; what ``quality.scp`` or ``weights.scp`` hold weighs items.
        Where it has no such part, has items without boxes, or is None, all items of a segment are one track.
    link_cosine: the lowest cosine of successive items of a track.
    Raises ScoringError for embeddings that are missing or of other items than stage 2's; DataError for edited ones.
    """

    def __init__(
        self, name: str, embed_dirs: Sequence[Path], items_dir: Path | None, modality: str, link_cosine: float
    ) -> None:
        self.name, self.link_cosine = name, link_cosine
        self.embed = [folder / name for folder in embed_dirs]
        items = None if items_dir is None else items_dir / name
        self.inputs = [path for folder in self.embed for path in embedding_inputs(folder, items)]
        self._of_items: dict[str, Path] = {}  # archive -> its folder
        from vidperson.types import LINKED

        if items is not None and items_of(modality) in LINKED and (items / f"{items_of(modality)}.scp").is_file():
            refuse_damaged(items)
            weights = "weights" if (items / "weights.scp").is_file() else "quality"
            names = ("items", items_of(modality)), (weights, weights)
            self._of_items = {what: items / name for what, name in names if (items / f"{name}.scp").is_file()}
            self.inputs += [path for archive in self._of_items.values() for path in files_of(items, archive.name)]
        self.inputs = list(dict.fromkeys(self.inputs))

    def segments(self) -> list[str]:
        """The segments that have embeddings, or are known to have none."""
        from vidperson.io.lines import read_scp
        from vidperson.io.record import checked

        return list(read_scp(checked(self.embed[0] / "embed.scp")))

    def pooled(
        self, segments: Iterable[str], sizes: dict[str, int]
    ) -> Iterator[tuple[str, Pooled, NDArray[np.float64]]]:
        """Of each segment its tracks, and the weight of each item without the length of its embedding.

        sizes: embedder -> numbers of an embedding, of parts read before; it is filled.
        Raises DataError, naming the segment, for matrices that are missing, cannot be read or do not fit together.
        """
        from vidperson.backends.identification import item_weights, pool
        from vidperson.errors import DataError, ScoringError

        tables = [checked_matrices(folder, "embed") for folder in self.embed]
        others = {what: checked_matrices(path.parent, path.name) for what, path in self._of_items.items()}
        for segment in segments:
            for table in (*tables, *others.values()):
                if segment not in table:
                    raise DataError(f"segment '{segment}' is not there; run stages 2 and 3 for the set", table.scp)
            rows = [table[segment] for table in tables]
            found = {what: table[segment] for what, table in others.items()}
            for table, folder, each in zip(tables, self.embed, rows, strict=True):
                size = sizes.setdefault(folder.parent.name, each.shape[1]) if len(each) else each.shape[1]
                if each.shape[1] != size:
                    what = f"'{segment}': expected embeddings of {size} numbers as before, found {each.shape[1]}"
                    raise DataError(f"{what}; extract all with the same network", table.scp)
            try:
                weights = item_weights(len(rows[0]), found.get("items"), found.get("quality"), found.get("weights"))
                yield segment, pool(rows, found.get("items"), weights, self.link_cosine), weights
            except ScoringError as error:
                raise DataError(f"segment '{segment}': {error}", tables[0].scp) from None


def listed_segments(data: Path) -> list[str]:
    """The segments of a data folder, known persons or not, in C-locale order.

    Raises DataError for malformed lists, ScoringError where there is none.
    """
    from vidperson.errors import ScoringError
    from vidperson.io.lines import read_scp, sort_key

    lists = segment_lists(data)
    if not lists:
        raise ScoringError(f"there is no list of segments, such as vid.scp, in {data}; run ./run_001_prepare_data.sh")
    return sorted({segment for path in lists for segment in read_scp(path)}, key=sort_key)


def segment_lists(data: Path) -> list[Path]:
    """The lists of a data folder that say which segments it has."""
    from vidperson.io.data_dir import SCPS

    return [data / name for name in SCPS if (data / name).is_file()]


def segments_digest(segments: Sequence[str]) -> str:
    """SHA-256 of the names of segments in their order."""
    import hashlib

    return hashlib.sha256("\n".join(segments).encode()).hexdigest()


def read_groups(data: Path) -> dict[str, tuple[list[str], list[str]]]:
    """Of a searched set: group -> the models that are searched in it, in C-locale order, and its segments.

    Raises DataError for malformed lists, and for a group without a segment.
    """
    from vidperson.errors import DataError
    from vidperson.io.lines import read_scp, sort_key
    from vidperson.io.ranks import read_search

    found = read_search(data / "search")
    group_of = read_scp(data / "utt2group")
    groups: dict[str, tuple[list[str], list[str]]] = {group: ([], []) for group in group_of.values()}
    for segment, group in group_of.items():
        groups[group][1].append(segment)
    for model in sorted(found, key=sort_key):
        for group in found[model]:
            if group not in groups:
                what = f"group '{group}' of model '{model}' has no segment in {data / 'utt2group'}"
                raise DataError(f"{what}; correct one of the lists", data / "search")
            groups[group][0].append(model)
    return groups
