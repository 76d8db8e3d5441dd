"""A small searched set with what stages 1 to 3 write of it, made by the tests."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as Picture

from vidperson.io.crops import TAR_END, tar_entry
from vidperson.io.matrices import matrix_bytes
from vidperson.io.record import sha256

PERSONS, STRANGERS, PER_PERSON, EMPTY = 6, 14, 3, ("t-empty0", "t-empty1")
STATUS = {"t-empty0": "no_face", "t-empty1": "damaged: cut short"}


def write_archive(path: Path, matrices: dict[str, np.ndarray]) -> None:
    """A Kaldi archive with its scp, which is relative to its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    content, lines = b"", []
    for key, matrix in matrices.items():
        lines.append(f"{key} {path.name}:{len(content) + len(key.encode()) + 1}\n")
        content += matrix_bytes(key, matrix)
    path.write_bytes(content)
    path.with_suffix(".scp").write_text("".join(lines))


def grey(segment: str, row: int) -> bytes:
    """A PNG of one grey shade, which tells the row: 20 + 10 * row."""
    stream = io.BytesIO()
    Picture.fromarray(np.full((112, 112, 3), 20 + 10 * row, np.uint8)).save(stream, "PNG")
    return stream.getvalue()


def write_tanh_identifier(root: Path, name: str, labels: list[str], embedders: Sequence[str], dim: int, **card: Any):
    """An identifier below a folder: a matrix, then tanh. Returns the matrix. card: fields to change."""
    import onnx
    from onnx import TensorProto, helper

    size = dim * len(embedders)
    matrix = np.random.default_rng(7).standard_normal((size, len(labels))).astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["vectors", "matrix"], ["raw"]), helper.make_node("Tanh", ["raw"], ["scores"])],
        "identifier",
        [helper.make_tensor_value_info("vectors", TensorProto.FLOAT, ["n", size])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["n", len(labels)])],
        [onnx.numpy_helper.from_array(matrix, "matrix")],
    )
    folder = root / name
    folder.mkdir(parents=True, exist_ok=True)
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), folder / f"{name}.onnx"
    )
    fields = {
        "name": name,
        "kind": "face_classifier",
        "description": "-",
        "licence": "-",
        "homepage": "-",
        "training_data": "-",
        "file": {"name": f"{name}.onnx", "sha256": sha256(folder / f"{name}.onnx")},
        "input": {"kind": "vector", "size": size, "embedders": list(embedders)},
        "output": {"labels": labels},
    } | card
    (folder / f"{name}.yaml").write_text(json.dumps(fields), encoding="utf-8")
    return matrix


class SearchedSet:
    """{data,exp/face_embed/net,exp/face_det/det}/{train,test} below a folder.

    Person ``p<i>`` has 3 segments to enrol and 3 to find; ``t-s<i>`` are strangers; ``t-two`` shows p0 in the second of
    two tracks. The first segment of the last person looks like p1. Of EMPTY, the first belongs to p2.
    """

    def __init__(self, folder: Path, picture=grey, persons: int = PERSONS, strangers: int = STRANGERS) -> None:
        self.folder, self.picture = folder, picture
        self.data, self.embed, self.items = folder / "data", folder / "exp/face_embed/net", folder / "exp/face_det/det"
        rng = np.random.default_rng(7)
        self.means = {f"p{i}": rng.normal(size=16) for i in range(persons)}
        enrolled = {f"{p}-{k}": self._rows(rng, mean) for p, mean in self.means.items() for k in range(3)}
        self.shown = {f"t-{p}-{k}": p for p in self.means for k in range(PER_PERSON)}
        tested = {segment: self._rows(rng, self.means[p]) for segment, p in self.shown.items()}
        last = f"p{persons - 1}"
        tested[f"t-{last}-0"] = self._rows(rng, self.means["p1"] + 0.4 * self.means[last])
        tested |= {f"t-s{i}": self._rows(rng, rng.normal(size=16)) for i in range(strangers)}
        two = np.concatenate([self._rows(rng, rng.normal(size=16)), self._rows(rng, self.means["p0"])])
        tested["t-two"] = two.astype(np.float32)
        tested |= dict.fromkeys(EMPTY, np.zeros((0, 16), np.float32))
        self.shown |= {"t-two": "p0", EMPTY[0]: "p2"}
        self.enrolled, self.tested = dict(sorted(enrolled.items())), dict(sorted(tested.items()))
        self.stages("train", self.enrolled)
        self.stages("test", self.tested)
        self._lists()

    @staticmethod
    def _rows(rng: np.random.Generator, mean: np.ndarray) -> np.ndarray:
        """Four embeddings; the third is the longest."""
        rows = mean + 0.5 * rng.normal(size=(4, 16))
        return (rows * np.array([[1], [1.2], [3], [1]])).astype(np.float32)

    def stages(self, name: str, matrices: dict[str, np.ndarray]) -> None:
        """Stages 2 and 3: of eight items the first four are one track, the others another beside it."""
        write_archive(self.embed / name / "embed.ark", matrices)
        root, items = self.items / name, {}
        for segment, rows in matrices.items():
            table = np.zeros((len(rows), 17), np.float32)
            place = np.arange(len(rows))
            table[:, 0], table[:, 1], table[:, 6] = place % 4, place % 4 / 2, 0.95
            table[:, 2:6] = np.array([10, 10, 60, 60]) + 200 * (place // 4)[:, None]
            items[segment] = table
        write_archive(root / "faces.ark", items)
        write_archive(root / "quality.ark", {s: np.tile([30.0, 0.0], (len(r), 1)) for s, r in matrices.items()})
        content, lines = b"", []
        for segment, rows in matrices.items():
            lines += [f"{segment} crops.tar:{len(content)}\n"] if len(rows) else []
            for row in range(len(rows)):
                content += tar_entry(f"{segment}/{row}.png", self.picture(segment, row))
        (root / "crops.tar").write_bytes(content + TAR_END)
        (root / "crops.scp").write_text("".join(lines))
        for folder in (root, self.embed / name):
            statuses = (f"{segment} {STATUS.get(segment, 'ok')}\n" for segment in matrices)
            (folder / "status").write_text("".join(statuses))

    def _lists(self) -> None:
        train, test = self.data / "train", self.data / "test"
        for folder, segments in ((train, self.enrolled), (test, self.tested)):
            folder.mkdir(parents=True)
            (folder / "vid.scp").write_text("".join(f"{segment} {segment}.mp4\n" for segment in segments))
        (train / "utt2spk").write_text("".join(f"{s} {s.rpartition('-')[0]}\n" for s in self.enrolled))
        owners = {p: [s for s in self.enrolled if s.startswith(f"{p}-")] for p in sorted(self.means)}
        (train / "spk2utt").write_text("".join(f"{p} {' '.join(segments)}\n" for p, segments in owners.items()))
        (test / "search").write_text("".join(f"{p} all\n" for p in sorted(self.means)))
        (test / "utt2group").write_text("".join(f"{segment} all\n" for segment in self.tested))
        pairs = sorted((p, segment) for segment, p in self.shown.items())
        (test / "relevant").write_text("".join(f"{p} {segment}\n" for p, segment in pairs))

    def write_search(self, folder: Path, jitter: float = 0.0, top: int = 100) -> dict[str, Path]:
        """The lists of a class mean without tracks, by plain loops: ranks, persons and nobody."""
        rng = np.random.default_rng(3)

        def unit(rows: np.ndarray) -> np.ndarray:
            mean = rows.sum(axis=0)
            return mean / np.linalg.norm(mean)

        means = {}
        for segment, rows in self.enrolled.items():
            means.setdefault(segment.rpartition("-")[0], []).append(unit(rows))
        halves = {s: [rows[i : i + 4] for i in range(0, len(rows), 4)] for s, rows in self.tested.items()}
        scores = {
            (p, s): max(float(unit(np.stack(m)) @ unit(half)) for half in halves[s]) + jitter * rng.normal()
            for p, m in means.items()
            for s in self.tested
            if halves[s]
        }
        folder.mkdir(parents=True, exist_ok=True)
        texts = {"ranks": "", "persons": "", "nobody": ""}
        for p in sorted(means):
            best = sorted(((-v, s) for (q, s), v in scores.items() if q == p))[:top]
            texts["ranks"] += "".join(f"{p} {i} {s} {-v:.6f}\n" for i, (v, s) in enumerate(best, 1))
        for s in self.tested:
            best = sorted(((-v, p) for (p, t), v in scores.items() if t == s))[:5]
            texts["persons"] += "".join(f"{s} {i} {p} {-v:.6f}\n" for i, (v, p) in enumerate(best, 1))
            if best:
                texts["nobody"] += f"{s} {1 / (1 + np.exp(12 * (-best[0][0] - 0.6))):.6f}\n"
        paths = {kind: folder / f"test_{kind}" for kind in texts}
        for kind, path in paths.items():
            path.write_text(texts[kind])
        return paths
