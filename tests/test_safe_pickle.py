"""Pickles read without Python's unpickler, against that unpickler; and what is refused of hostile ones."""

from __future__ import annotations

import base64
import builtins
import io
import os
import pickle
import pickletools
import random
import weakref
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from vidperson.errors import DataError
from vidperson.io.safe_pickle import read_items

PROTOCOLS = range(6)
# Two clips of two faces as Python 2.7.18 with NumPy 1.16.6 writes them; the second has big-endian features.
PYTHON_2 = {
    "cPickle, protocol 0": (
        "KGRwMQpTJ0lRSVlJX1ZJRF9UUkFJTl8wMDAwMDAwJwpwMgoobHAzCihscDQKUycwJwphKGxwNQpGMS41CmFGMgphRjMuMjUKYUY0"
        "MAphYWNudW1weS5jb3JlLm11bHRpYXJyYXkKc2NhbGFyCnA2CihjbnVtcHkKZHR5cGUKcDcKKFMnZjQnCkkwCkkxCnRScDgKKEkz"
        "ClMnPCcKTk5OSS0xCkktMQpJMAp0YlMnXHgwMFx4MDBAPycKdFJwOQphRjgwLjUKYWNudW1weS5jb3JlLm11bHRpYXJyYXkKX3Jl"
        "Y29uc3RydWN0CnAxMAooY251bXB5Cm5kYXJyYXkKcDExCihJMAp0UydiJwp0UnAxMgooSTEKKEkzCnRnNwooUydmMicKSTAKSTEK"
        "dFJwMTMKKEkzClMnPCcKTk5OSS0xCkktMQpJMAp0YkkwMApTJ1x4MDBceDAwXHgwMDxceDAwQCcKdGJhYShscDE0ClMnOCcKYShs"
        "cDE1CkYxLjUKYUYzCmFGMy4yNQphRjQwCmFhZzYKKGc4ClMnXHgwMFx4MDBAPycKdFJwMTYKYUY4MC41CmFnMTAKKGcxMQooSTAK"
        "dFMnYicKdFJwMTcKKEkxCihJMwp0ZzEzCkkwMApTJ1x4MDA8XHgwMEBceDAwQicKdGJhYXNTJ0lRSVlJX1ZJRF9UUkFJTl8wMDAw"
        "MDAxJwpwMTgKKGxwMTkKKGxwMjAKUycwJwphKGxwMjEKRjEuNQphRjIKYUYzLjI1CmFGNDAKYWFnNgooZzgKUydceDAwXHgwMEA/"
        "Jwp0UnAyMgphRjMwLjUKYWcxMAooZzExCihJMAp0UydiJwp0UnAyMwooSTEKKEkzCnRnNwooUydmMicKSTAKSTEKdFJwMjQKKEkz"
        "ClMnPicKTk5OSS0xCkktMQpJMAp0YkkwMApTJzxceDAwQFx4MDBCXHgwMCcKdGJhYShscDI1ClMnOCcKYShscDI2CkYxLjUKYUYz"
        "CmFGMy4yNQphRjQwCmFhZzYKKGc4ClMnXHgwMFx4MDBAPycKdFJwMjcKYUYzMC41CmFnMTAKKGcxMQooSTAKdFMnYicKdFJwMjgK"
        "KEkxCihJMwp0ZzcKKFMnZjInCkkwCkkxCnRScDI5CihJMwpTJz4nCk5OTkktMQpJLTEKSTAKdGJJMDAKUydAXHgwMEJceDAwRFx4"
        "MDAnCnRiYWFzLg=="
    ),
    "cPickle, protocol 1": (
        "fXEBKFUXSVFJWUlfVklEX1RSQUlOXzAwMDAwMDBdcQIoXXEDKFUBMF1xBChHP/gAAAAAAABHQAAAAAAAAABHQAoAAAAAAABHQEQA"
        "AAAAAABlY251bXB5LmNvcmUubXVsdGlhcnJheQpzY2FsYXIKcQUoY251bXB5CmR0eXBlCnEGKFUCZjRLAEsBdFJxByhLA1UBPE5O"
        "Tkr/////Sv////9LAHRiVQQAAEA/dFJxCEdAVCAAAAAAAGNudW1weS5jb3JlLm11bHRpYXJyYXkKX3JlY29uc3RydWN0CnEJKGNu"
        "dW1weQpuZGFycmF5CnEKKEsAdFUBYnRScQsoSwEoSwN0aAYoVQJmMksASwF0UnEMKEsDVQE8Tk5OSv////9K/////0sAdGJJMDAK"
        "VQYAAAA8AEB0YmVdcQ0oVQE4XXEOKEc/+AAAAAAAAEdACAAAAAAAAEdACgAAAAAAAEdARAAAAAAAAGVoBShoB1UEAABAP3RScQ9H"
        "QFQgAAAAAABoCShoCihLAHRVAWJ0UnEQKEsBKEsDdGgMSTAwClUGADwAQABCdGJlZVUXSVFJWUlfVklEX1RSQUlOXzAwMDAwMDFd"
        "cREoXXESKFUBMF1xEyhHP/gAAAAAAABHQAAAAAAAAABHQAoAAAAAAABHQEQAAAAAAABlaAUoaAdVBAAAQD90UnEUR0A+gAAAAAAA"
        "aAkoaAooSwB0VQFidFJxFShLAShLA3RoBihVAmYySwBLAXRScRYoSwNVAT5OTk5K/////0r/////SwB0YkkwMApVBjwAQABCAHRi"
        "ZV1xFyhVAThdcRgoRz/4AAAAAAAAR0AIAAAAAAAAR0AKAAAAAAAAR0BEAAAAAAAAZWgFKGgHVQQAAEA/dFJxGUdAPoAAAAAAAGgJ"
        "KGgKKEsAdFUBYnRScRooSwEoSwN0aAYoVQJmMksASwF0UnEbKEsDVQE+Tk5OSv////9K/////0sAdGJJMDAKVQZAAEIARAB0YmVl"
        "dS4="
    ),
    "cPickle, protocol 2": (
        "gAJ9cQEoVRdJUUlZSV9WSURfVFJBSU5fMDAwMDAwMF1xAihdcQMoVQEwXXEEKEc/+AAAAAAAAEdAAAAAAAAAAEdACgAAAAAAAEdA"
        "RAAAAAAAAGVjbnVtcHkuY29yZS5tdWx0aWFycmF5CnNjYWxhcgpxBWNudW1weQpkdHlwZQpxBlUCZjRLAEsBh1JxByhLA1UBPE5O"
        "Tkr/////Sv////9LAHRiVQQAAEA/hlJxCEdAVCAAAAAAAGNudW1weS5jb3JlLm11bHRpYXJyYXkKX3JlY29uc3RydWN0CnEJY251"
        "bXB5Cm5kYXJyYXkKcQpLAIVVAWKHUnELKEsBSwOFaAZVAmYySwBLAYdScQwoSwNVATxOTk5K/////0r/////SwB0YolVBgAAADwA"
        "QHRiZV1xDShVAThdcQ4oRz/4AAAAAAAAR0AIAAAAAAAAR0AKAAAAAAAAR0BEAAAAAAAAZWgFaAdVBAAAQD+GUnEPR0BUIAAAAAAA"
        "aAloCksAhVUBYodScRAoSwFLA4VoDIlVBgA8AEAAQnRiZWVVF0lRSVlJX1ZJRF9UUkFJTl8wMDAwMDAxXXERKF1xEihVATBdcRMo"
        "Rz/4AAAAAAAAR0AAAAAAAAAAR0AKAAAAAAAAR0BEAAAAAAAAZWgFaAdVBAAAQD+GUnEUR0A+gAAAAAAAaAloCksAhVUBYodScRUo"
        "SwFLA4VoBlUCZjJLAEsBh1JxFihLA1UBPk5OTkr/////Sv////9LAHRiiVUGPABAAEIAdGJlXXEXKFUBOF1xGChHP/gAAAAAAABH"
        "QAgAAAAAAABHQAoAAAAAAABHQEQAAAAAAABlaAVoB1UEAABAP4ZScRlHQD6AAAAAAABoCWgKSwCFVQFih1JxGihLAUsDhWgGVQJm"
        "MksASwGHUnEbKEsDVQE+Tk5OSv////9K/////0sAdGKJVQZAAEIARAB0YmVldS4="
    ),
    "pickle, protocol 0": (
        "KGRwMApTJ0lRSVlJX1ZJRF9UUkFJTl8wMDAwMDAwJwpwMQoobHAyCihscDMKUycwJwpwNAphKGxwNQpGMS41CmFGMi4wCmFGMy4y"
        "NQphRjQwLjAKYWFjbnVtcHkuY29yZS5tdWx0aWFycmF5CnNjYWxhcgpwNgooY251bXB5CmR0eXBlCnA3CihTJ2Y0JwpwOApJMApJ"
        "MQp0cDkKUnAxMAooSTMKUyc8JwpwMTEKTk5OSS0xCkktMQpJMAp0cDEyCmJTJ1x4MDBceDAwQD8nCnAxMwp0cDE0ClJwMTUKYUY4"
        "MC41CmFjbnVtcHkuY29yZS5tdWx0aWFycmF5Cl9yZWNvbnN0cnVjdApwMTYKKGNudW1weQpuZGFycmF5CnAxNwooSTAKdHAxOApT"
        "J2InCnAxOQp0cDIwClJwMjEKKEkxCihJMwp0cDIyCmc3CihTJ2YyJwpwMjMKSTAKSTEKdHAyNApScDI1CihJMwpTJzwnCnAyNgpO"
        "Tk5JLTEKSS0xCkkwCnRwMjcKYkkwMApTJ1x4MDBceDAwXHgwMDxceDAwQCcKcDI4CnRwMjkKYmFhKGxwMzAKUyc4JwpwMzEKYShs"
        "cDMyCkYxLjUKYUYzLjAKYUYzLjI1CmFGNDAuMAphYWc2CihnMTAKUydceDAwXHgwMEA/JwpwMzMKdHAzNApScDM1CmFGODAuNQph"
        "ZzE2CihnMTcKKEkwCnRwMzYKZzE5CnRwMzcKUnAzOAooSTEKKEkzCnRwMzkKZzI1CkkwMApTJ1x4MDA8XHgwMEBceDAwQicKcDQw"
        "CnRwNDEKYmFhc1MnSVFJWUlfVklEX1RSQUlOXzAwMDAwMDEnCnA0MgoobHA0MwoobHA0NApnNAphKGxwNDUKRjEuNQphRjIuMAph"
        "RjMuMjUKYUY0MC4wCmFhZzYKKGcxMApTJ1x4MDBceDAwQD8nCnA0Ngp0cDQ3ClJwNDgKYUYzMC41CmFnMTYKKGcxNwooSTAKdHA0"
        "OQpnMTkKdHA1MApScDUxCihJMQooSTMKdHA1MgpnNwooUydmMicKcDUzCkkwCkkxCnRwNTQKUnA1NQooSTMKUyc+JwpwNTYKTk5O"
        "SS0xCkktMQpJMAp0cDU3CmJJMDAKUyc8XHgwMEBceDAwQlx4MDAnCnA1OAp0cDU5CmJhYShscDYwCmczMQphKGxwNjEKRjEuNQph"
        "RjMuMAphRjMuMjUKYUY0MC4wCmFhZzYKKGcxMApTJ1x4MDBceDAwQD8nCnA2Mgp0cDYzClJwNjQKYUYzMC41CmFnMTYKKGcxNwoo"
        "STAKdHA2NQpnMTkKdHA2NgpScDY3CihJMQooSTMKdHA2OApnNwooUydmMicKcDY5CkkwCkkxCnRwNzAKUnA3MQooSTMKUyc+Jwpw"
        "NzIKTk5OSS0xCkktMQpJMAp0cDczCmJJMDAKUydAXHgwMEJceDAwRFx4MDAnCnA3NAp0cDc1CmJhYXMu"
    ),
    "pickle, protocol 2": (
        "gAJ9cQAoVRdJUUlZSV9WSURfVFJBSU5fMDAwMDAwMHEBXXECKF1xAyhVATBxBF1xBShHP/gAAAAAAABHQAAAAAAAAABHQAoAAAAA"
        "AABHQEQAAAAAAABlY251bXB5LmNvcmUubXVsdGlhcnJheQpzY2FsYXIKcQZjbnVtcHkKZHR5cGUKcQdVAmY0cQhLAEsBh3EJUnEK"
        "KEsDVQE8cQtOTk5K/////0r/////SwB0cQxiVQQAAEA/cQ2GcQ5ScQ9HQFQgAAAAAABjbnVtcHkuY29yZS5tdWx0aWFycmF5Cl9y"
        "ZWNvbnN0cnVjdApxEGNudW1weQpuZGFycmF5CnERSwCFcRJVAWJxE4dxFFJxFShLAUsDhXEWaAdVAmYycRdLAEsBh3EYUnEZKEsD"
        "VQE8cRpOTk5K/////0r/////SwB0cRtiiVUGAAAAPABAcRx0cR1iZV1xHihVAThxH11xIChHP/gAAAAAAABHQAgAAAAAAABHQAoA"
        "AAAAAABHQEQAAAAAAABlaAZoClUEAABAP3EhhnEiUnEjR0BUIAAAAAAAaBBoEUsAhXEkaBOHcSVScSYoSwFLA4VxJ2gZiVUGADwA"
        "QABCcSh0cSliZWVVF0lRSVlJX1ZJRF9UUkFJTl8wMDAwMDAxcSpdcSsoXXEsKGgEXXEtKEc/+AAAAAAAAEdAAAAAAAAAAEdACgAA"
        "AAAAAEdARAAAAAAAAGVoBmgKVQQAAEA/cS6GcS9ScTBHQD6AAAAAAABoEGgRSwCFcTFoE4dxMlJxMyhLAUsDhXE0aAdVAmYycTVL"
        "AEsBh3E2UnE3KEsDVQE+cThOTk5K/////0r/////SwB0cTliiVUGPABAAEIAcTp0cTtiZV1xPChoH11xPShHP/gAAAAAAABHQAgA"
        "AAAAAABHQAoAAAAAAABHQEQAAAAAAABlaAZoClUEAABAP3E+hnE/UnFAR0A+gAAAAAAAaBBoEUsAhXFBaBOHcUJScUMoSwFLA4Vx"
        "RGgHVQJmMnFFSwBLAYdxRlJxRyhLA1UBPnFITk5OSv////9K/////0sAdHFJYolVBkAAQgBEAHFKdHFLYmVldS4="
    ),
}
DTYPES = ("<f2", ">f2", "<f4", ">f4", "<f8", "i1", ">i2", "<i4", "<i8", "u1", ">u4", "?")


def read(content: bytes, folder: Path) -> dict[Any, Any]:
    path = folder / "some.pickle"
    path.unlink(missing_ok=True)  # some file systems wait for the disk where a file is written again
    path.write_bytes(content)
    return dict(read_items(path))


def same(found: Any, expected: Any) -> bool:
    """Whether two structures are equal, their types and those of arrays included; scalars of NumPy are numbers."""
    if isinstance(expected, np.generic):
        return type(found) is type(expected.item()) and same(found, expected.item())
    if isinstance(expected, np.ndarray):
        kinds = found.dtype.newbyteorder("=") == expected.dtype.newbyteorder("=")
        return (
            isinstance(found, np.ndarray)
            and kinds
            and np.array_equal(found, expected, equal_nan=found.dtype.kind == "f")
        )
    if type(found) is not type(expected):
        return False
    if isinstance(expected, dict):
        return found.keys() == expected.keys() and all(same(found[key], expected[key]) for key in expected)
    if isinstance(expected, (list, tuple)):
        return len(found) == len(expected) and all(map(same, found, expected))
    return bool(found == expected) or (found != found and expected != expected)


def clips(count: int, faces: int = 2, size: int = 8) -> dict[bytes, list[Any]]:
    """As the official pickles are."""
    rng = np.random.default_rng(count)

    def face(number: int) -> list[Any]:
        box = [float(x) for x in rng.uniform(0, 500, 4)]
        return [str(8 * number), box, np.float32(0.9), float(rng.normal(80, 40)), rng.normal(size=size).astype("<f2")]

    return {b"CLIP_%07d" % n: [face(number) for number in range(faces)] for n in range(count)}


def an_array(rng: random.Random) -> NDArray[Any]:
    values = np.array([rng.randrange(256) for _ in range(27)]).astype(rng.choice(DTYPES))
    shape = [rng.randrange(4) for _ in range(rng.randrange(4))]
    return np.asarray(np.resize(values, shape), order=rng.choice("CF"))  # type: ignore[call-overload, no-any-return]


def a_text(rng: random.Random) -> str:
    return "".join(
        rng.choice("ab\\'\"\n\r\0\t\x7f\x80éĀ€\ud800\uffff😀") for _ in range(rng.choice((0, 1, 3, 40, 300)))
    )


LEAVES: tuple[Callable[[random.Random], Any], ...] = (
    lambda rng: rng.choice((None, True, False)),
    lambda rng: rng.choice((-1, 1)) * (2 ** rng.randrange(80) - rng.randrange(3)),
    lambda rng: rng.choice((0.0, -0.0, 1.5, 1e-308, float("inf"), float("nan"), rng.gauss(0, 1e9))),
    a_text,
    lambda rng: rng.randbytes(rng.choice((0, 1, 2, 255, 256, 300))),
    an_array,
    lambda rng: rng.choice((np.float32, np.float64, np.int16, np.uint8))(rng.randrange(2)),
)


def a_value(rng: random.Random, depth: int = 3) -> Any:
    if not depth or rng.random() < 0.5:
        return rng.choice(LEAVES)(rng)
    inner = [a_value(rng, depth - 1) for _ in range(rng.randrange(6))]
    return rng.choice((inner, tuple(inner), {a_key(rng): value for value in inner}))


def a_key(rng: random.Random) -> str | bytes | int:
    return rng.choice((a_text(rng), rng.randbytes(rng.randrange(4)), rng.randrange(-(2**40), 2**40)))


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_read_any_plain_data_is_as_python_reads_it(tmp_path: Path, protocol: int) -> None:
    """100 random dictionaries."""
    for seed in range(100):
        rng = random.Random(seed)
        data = {a_key(rng): a_value(rng) for _ in range(rng.randrange(5))}
        assert same(read(pickle.dumps(data, protocol), tmp_path), data), seed


@pytest.mark.parametrize(
    ("module", "protocol"),
    [*((b"numpy._core", protocol) for protocol in PROTOCOLS), (b"numpy.core", 0), (b"numpy.core", 2)],
)
def test_read_faces_of_either_numpy_is_as_python_reads_them(tmp_path: Path, module: bytes, protocol: int) -> None:
    data = clips(1001 if protocol in (2, 4) else 30, faces=1, size=3)  # picklers write portions of 1,000
    content = pickle.dumps(data, protocol)
    if protocol < 4:  # later ones tell lengths of names
        content = content.replace(b"numpy._core", b"numpy.core").replace(b"numpy.core", module)
        assert module in content
    assert same(read(content, tmp_path), data)
    assert same(read(pickletools.optimize(content), tmp_path), data)


@pytest.mark.parametrize("writer", PYTHON_2)
def test_read_files_of_python_2_is_as_python_reads_them(tmp_path: Path, writer: str) -> None:
    content = base64.b64decode(PYTHON_2[writer])
    data = pickle.loads(content, encoding="bytes")
    assert len(data) == 2 and same(read(content, tmp_path), data)


def test_read_without_framing_and_with_unshared_names_is_as_python_reads_it(tmp_path: Path) -> None:
    """Python's own slow pickler, in its fast mode: no object is numbered."""
    data, stream = clips(3), io.BytesIO()
    pickler = pickle._Pickler(stream, 3)  # type: ignore[attr-defined]
    pickler.fast = True
    pickler.dump(data)
    assert same(read(stream.getvalue(), tmp_path), data)


def test_read_gives_items_away_while_the_file_goes_on(tmp_path: Path) -> None:
    """Of 3,000 items in portions of 1,000 the file ends in the third portion; those handed out are not held."""
    content = pickle.dumps(clips(3000, 1, 1), 4)
    path = tmp_path / "some.pickle"
    path.write_bytes(content[: len(content) * 5 // 6])
    held: list[weakref.ref[Any]] = []
    with pytest.raises(DataError, match="cut short"):
        for count, (_, value) in enumerate(read_items(path)):
            held.append(weakref.ref(value[0][4]))
            if count % 1000 == 999:
                assert sum(ref() is not None for ref in held) <= 2
    assert len(held) == 2000


def test_read_strings_that_items_share_are_kept_and_other_objects_are_refused(tmp_path: Path) -> None:
    frame = "".join(["fr", "ame"])
    data: dict[str, Any] = {f"{n}": [frame, np.dtype("f4").type(n)] for n in range(1500)}
    assert same(read(pickle.dumps(data), tmp_path), data)
    box = [1.0, 2.0]
    within = {"a": [box, box], "b": [box]}
    assert same(read(pickle.dumps(within), tmp_path), within)
    data["0"] = data["1400"] = box
    with pytest.raises(DataError, match=r"comes back to an object of an earlier item.* \(byte \d+\)$"):
        read(pickle.dumps(data), tmp_path)


class _Runs:
    """Its pickle runs a command."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


class _Plain:
    def __init__(self) -> None:
        self.x = 1


HOSTILE = {
    "posix.system": _Runs(os.system, "touch {sign}"),
    "builtins.eval": _Runs(builtins.eval, "open('{sign}', 'w')"),
    "builtins.getattr": _Runs(getattr, [], "append"),
    "numpy.load": _Runs(np.load, "x.npy"),
    "collections.OrderedDict": OrderedDict(a=1),
    "builtins.set": {1, 2},
    "builtins.complex": 1j,
    "_Plain": _Plain(),
    "data type 'O8'": np.array([None, 1], object),
    "data type 'U1'": np.array(["a"]),
    "data type 'V6'": np.zeros(2, "f2,f4"),
}


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("name", HOSTILE)
def test_read_anything_else_is_refused_by_its_name_and_nothing_is_run(tmp_path: Path, name: str, protocol: int) -> None:
    sign = tmp_path / "sign"
    value = HOSTILE[name]
    if isinstance(value, _Runs):
        arguments = [a.format(sign=sign) if isinstance(a, str) else a for a in value.call[1]]
        value = _Runs(value.call[0], *arguments)
    content = pickle.dumps({"first": [1], "second": [value]}, protocol)
    expected = name if protocol >= 3 else name.replace("builtins", "__builtin__")
    with pytest.raises(DataError) as caught:
        read(content, tmp_path)
    text = str(caught.value)
    words = {"builtins.set": ["EMPTY_SET", "set"], "_Plain": ["_Plain", "_reconstructor"]}.get(name, [expected, "V2"])
    assert any(word in text for word in words) and text.startswith(str(tmp_path / "some.pickle"))
    place = int(text.rsplit("byte ", 1)[1].rstrip(")"))
    assert place in {at for _, _, at in pickletools.genops(content)}
    assert not sign.exists()


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (b"(dp0\nS'a'\n(S'echo'\nios\nsystem\ns.", "INST"),
        (b"}X\x01\x00\x00\x00a(cos\nsystem\nX\x01\x00\x00\x00bos.", "'os.system'"),
        (b"\x80\x02}X\x01\x00\x00\x00aPid\ns.", "PERSID"),
        (b"\x80\x02}X\x01\x00\x00\x00a\x82\x01s.", "EXT1"),
        (b"\x80\x04}\x8c\x01a\x8c\x02os\x8c\x06system\x93\x8c\x02ls\x85Rs.", "'os.system'"),
        (b"\x80\x04}\x8c\x01a(]\x8c\x01x\x81s.", "NEWOBJ"),
        (b"\x80\x05}\x8c\x01a\x97s.", "NEXT_BUFFER"),
        (b"\x80\x02}X\x01\x00\x00\x00acnumpy\nndarray\nK\x02\x85Rs.", "a call of ndarray"),
        (b"\x80\x02}X\x01\x00\x00\x00ac_codecs\nencode\nX\x01\x00\x00\x00bX\x06\x00\x00\x00base64\x86Rs.", "latin1"),
        (b"\x80\x02}X\x01\x00\x00\x00a]}b s.", "sets the state"),
        (b"\x80\x02}cnumpy\ndtype\nK\x01s.", "a key of the type Function"),
        (b"\x80\x02}N]s.", "a key of the type NoneType"),
        (b"\x80\x02}X\x01\x00\x00\x00a\x8e\xff\xff\xff\xff\xff\xff\xff\x7f.", "cut short"),
        (b"\x80\x02}X\x01\x00\x00\x00a\x8b\x00\x00\x00\x40", "an integer of"),
        (b"\x80\x02}X\x01\x00\x00\x00aj\x07\x00\x00\x00s.", "comes back"),
        (b"\x80\x02}X\x01\x00\x00\x00ar\xff\xff\xff\x7fK\x01s.", "too large a number"),
        (b"\x80\x02}q\x00X\x01\x00\x00\x00ah\x00s.", "comes back"),
        (b"\x80\x02].", "a dictionary"),
        (b"\x80\x07}.", "protocol 7"),
        (b"\x80\x02}.\x80\x02}.", "more"),
        (b"\x80\x02}K\x01.", "before the dictionary is complete"),
        (b"", "a dictionary"),
        (b"PK\x03\x04 no pickle", "a dictionary"),
    ],
)
def test_read_made_by_hand_is_refused_with_what_is_wrong(tmp_path: Path, content: bytes, word: str) -> None:
    with pytest.raises(DataError) as caught:
        read(content, tmp_path)
    assert word in str(caught.value) and len(str(caught.value)) < 400 + len(str(tmp_path))


def test_read_text_that_becomes_bytes_again_and_again_is_refused(tmp_path: Path) -> None:
    """A few bytes each time: a file of a megabyte would take gigabytes."""
    for size, refused in ((64, False), (65, True)):
        text = b"X" + size.to_bytes(4, "little") + b"x" * size
        start = (
            b"\x80\x02}X\x01\x00\x00\x00a](c_codecs\nencode\nq\x01" + text + b"q\x02X\x06\x00\x00\x00latin1q\x03\x86R"
        )
        content = start + b"h\x01h\x02h\x03\x86R" * 9 + b"es."
        if refused:
            with pytest.raises(DataError, match=r"encode of 65 values that were used before \(byte \d+\)"):
                read(content, tmp_path)
        else:
            assert read(content, tmp_path) == {"a": [b"x" * size] * 10}


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_read_cut_anywhere_is_a_message(tmp_path: Path, protocol: int) -> None:
    content = pickle.dumps(clips(1, 1, 3), protocol)
    for size in range(len(content)):
        with pytest.raises(DataError, match=r"byte \d+"):
            read(content[:size], tmp_path)


def test_read_altered_anywhere_is_data_or_a_message_and_calls_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "system", lambda command: pytest.fail("it was run"))
    rng = random.Random(17)
    sources = [pickle.dumps(clips(2, 1, 2), protocol) for protocol in PROTOCOLS]
    sources += [base64.b64decode(text) for text in PYTHON_2.values()]
    refused = 0
    for _ in range(700):
        content = bytearray(rng.choice(sources))
        for _ in range(rng.choice((1, 1, 2, 8))):
            place = rng.randrange(len(content))
            content[place : place + rng.choice((0, 1, 1, 4))] = rng.choice(
                (rng.randbytes(1), b"", b"(", b"R", b"b", b"cos\nsystem\n", b"0", b"u", b"q\x01", b"h\x01")
            )
        try:
            read(bytes(content), tmp_path)
        except DataError:
            refused += 1
    assert refused > 450


def test_read_deeply_nested_and_self_containing_data_needs_no_stack(tmp_path: Path) -> None:
    deep = read(b"\x80\x02}X\x01\x00\x00\x00a" + b"]" * 100_000 + b"a" * 99_999 + b"s.", tmp_path)["a"]
    depth = 0
    while deep:
        deep, depth = deep[0], depth + 1
    assert depth == 99_999
    own: list[Any] = []
    own.append(own)
    found = read(pickle.dumps({"a": own}), tmp_path)["a"]
    assert found[0] is found


def test_read_what_is_no_regular_file_is_a_message(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no regular file"):
        list(read_items("/dev/null"))
    with pytest.raises(OSError):
        list(read_items(tmp_path / "none"))
