"""vidperson/io/planned.py: why files have to be made."""

from __future__ import annotations

from pathlib import Path

from vidperson.io.planned import Planned, reasons


def test_files_with_the_same_changes_say_them_once(tmp_path: Path) -> None:
    inputs = [tmp_path / "in", tmp_path / "more"]
    for path in inputs:
        path.write_text("then")
    planned = [Planned(tmp_path / name, ["make", name], inputs[:1]) for name in ("a", "b", "c", "kept")]
    planned.append(Planned(tmp_path / "d", ["make", "d"], inputs))
    for one in planned:
        one.target.write_text(one.target.name)
        one.note()
    assert reasons(planned) == []
    inputs[0].write_text("now")
    planned[3].note()
    inputs[1].write_text("now")
    planned[2].target.unlink()
    (tmp_path / "c.record.json").unlink()
    lines = reasons(planned)
    heads = [line for line in lines if line[0] not in "<>"]
    again = "made again, since its command or inputs have changed (< then, > now):"
    assert heads == [f"{tmp_path}/a: {again}", f"{tmp_path}/b: likewise", f"{tmp_path}/c: not there",
                     f"{tmp_path}/d: {again}"]  # fmt: skip
    assert len(lines) == 4 + 2 + 4
