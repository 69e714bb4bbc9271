"""Seeded damage: to bytes, and to what is inside of files that would refuse damaged bytes at their door."""

import hashlib
import io
import json
import random
import re
import struct
import zipfile
import zlib
from collections.abc import Callable

Mutation = Callable[[bytes, random.Random], bytes]

EXTREMES = [
    0,
    1,
    2,
    3,
    7,
    255,
    256,
    1000,
    65535,
    65536,
    10**6,
    2**31 - 1,
    2**31,
    2**32 - 1,
    2**62,
    2**63 - 1,
    2**64 - 1,
]

PAYLOAD = b"cos\nsystem\n(S'touch canary'\ntR."
"""A pickle that leaves a file behind if it is ever executed."""

VALUES = [
    *(None, True, False, 0, -1, 1, 2, 3, 7, 33, 10**5, 10**9, 2**63, 10**400, 0.5, -0.5, 1e308),
    *(
        float("nan"),
        float("inf"),
        "",
        "a",
        "L1",
        "EPGN",
        "os.system",
        "\ud800",
        "x" * 1000,
        [],
        [1],
        [[]],
        {},
        {"a": 1},
    ),
    *({"class_path": "MCP"}, {"class_path": None}, {"class_path": "Dense"}),
    {"class_path": "os.system", "init_args": {"command": "touch canary"}},
]

SETTINGS = [
    *(None, "/etc/passwd", "/dev/zero", ".", "x\0y", "9" * 30, 1e-320, [None], {"class_path": "LogSum"}),
    *("torch.hub.load", "subprocess.Popen", "unrolled.weights.load", "unrolled.cli.main", "tests.bad_readers.executes"),
    {"class_path": "subprocess.Popen", "init_args": {"args": ["touch", "canary"]}},
    {"class_path": "builtins.exec", "init_args": {"source": "open('canary', 'w')"}},
    {"class_path": "unrolled.sparsify.sparsifier.torch.hub.load", "init_args": {"repo_or_dir": "x", "model": "y"}},
    {"class_path": "unrolled.system.files.write_json", "init_args": {"path": "canary", "facts": 1}},
]

WORDS = [
    *(
        "&a",
        "*a",
        "- ",
        ": ",
        "? ",
        "[",
        "]",
        "{",
        "}",
        "[[[[",
        "{a: {a: {a: ",
        "|\n",
        "<<: ",
        "\t",
        "\n",
        "\n---\n",
        "#",
    ),
    *(
        "!!python/object/apply:os.system ['touch canary']",
        "!!binary",
        "!!set",
        "!!int ''",
        "%YAML 9.9\n",
        "@",
        "\x00",
        "é",
    ),
    *("null", "~", "true", "-1", "0", "1e999", ".nan", ".inf", "9" * 30, "0x" + "f" * 40, "2020-01-01", "1:2:3", "''"),
    *('"\\0"', "os.system", "config: x", "class_path: MCP", "class_path: os.system", "init_args: 3"),
    *("-", "(", ")", ",", "'", "'|O'", "'<c16'", "'<U9'", "'f8, i4'", "lambda: 0", "__import__('os')"),
]


def flip_bits(data: bytes, draw: random.Random) -> bytes:
    out = bytearray(data)
    for _ in range(draw.choice([1, 1, 2, 8, 64])):
        out[_place(out, draw)] ^= 1 << draw.randrange(8)
    return bytes(out)


def overwrite(data: bytes, draw: random.Random) -> bytes:
    at, count = _place(data, draw), draw.choice([1, 2, 4, 16, 300])
    run = draw.choice([bytes(count), b"\xff" * count, b"9" * count, draw.randbytes(count)])
    return data[:at] + run[: len(data) - at] + data[at + count :]


def truncate(data: bytes, draw: random.Random) -> bytes:
    return data[: _place(data, draw)]


def insert(data: bytes, draw: random.Random) -> bytes:
    at = _place(data, draw)
    return data[:at] + draw.choice([draw.randbytes(draw.randrange(1, 40)), b"\0" * 5000, data]) + data[at:]


def remove(data: bytes, draw: random.Random) -> bytes:
    at = _place(data, draw)
    return data[:at] + data[at + draw.choice([1, 2, 4, 8, 100]) :]


def move(data: bytes, draw: random.Random) -> bytes:
    source, target, count = _place(data, draw), _place(data, draw), draw.choice([1, 4, 16, 200])
    return data[:target] + data[source : source + count] + data[target + count :]


def extreme_number(data: bytes, draw: random.Random) -> bytes:
    size = draw.choice([1, 2, 4, 8])
    number = (draw.choice(EXTREMES) + draw.choice([0, 0, -1, 1])) % 256**size
    at = _place(data, draw)
    return data[:at] + number.to_bytes(size, draw.choice(["little", "big"])) + data[at + size :]


BYTES: list[Mutation] = [flip_bits, overwrite, truncate, insert, remove, move, extreme_number, extreme_number]


def words(data: bytes, draw: random.Random) -> bytes:
    """Edit text word by word."""
    parts = re.findall(r"\w+|\s+|[^\w\s]", data.decode("utf-8", "surrogateescape"))
    for _ in range(draw.choice([1, 1, 2, 5])):
        at = draw.randrange(len(parts) + 1)
        edit = draw.randrange(4)
        word = draw.choice(WORDS if draw.random() < 0.7 else parts or WORDS)
        if edit == 0:
            parts[at:at] = [word]
        elif edit == 1:
            parts[at : at + 1] = [word]
        elif edit == 2:
            del parts[at : at + draw.choice([1, 2, 10])]
        else:
            parts[at:at] = parts[at : at + 20] * draw.choice([1, 3, 50])
    return "".join(parts).encode("utf-8", "surrogateescape")


def settings(data: bytes, draw: random.Random) -> bytes:
    """Change, remove or add one setting of a config."""
    import yaml  # not for the process that only watches

    tree = yaml.safe_load(data)
    if draw.random() < 0.5:
        node, key = draw.choice([*_places(tree)])
        node[key] = draw.choice(SETTINGS)
    else:
        _edit(tree, draw)
    return yaml.safe_dump(tree).encode()


def npy_header(data: bytes, draw: random.Random) -> bytes:
    """Edit the dictionary at the head of an `.npy` file, and keep its stated length right."""
    length = struct.unpack("<H", data[8:10])[0]
    header = words(data[10 : 10 + length].rstrip(), draw)[:60_000] + b"\n"
    return data[:8] + struct.pack("<H", len(header)) + header + data[10 + length :]


def safetensors_header(data: bytes, draw: random.Random) -> bytes:
    """Edit the JSON at the head of a safetensors file, or the card inside of it."""
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    if draw.random() < 0.8:
        card = json.loads(header["__metadata__"]["card"])
        _edit(card, draw)
        header["__metadata__"]["card"] = json.dumps(card)
    else:
        _edit(header, draw)
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data[8 + length :]


def png_checksums(data: bytes, draw: random.Random) -> bytes:
    """Damage a chunk and state its checksum anew, so that what is inside is looked at."""
    out, at = data[:8], 8
    hit = draw.randrange(max(1, data.count(b"IDAT") + 3))
    for index in range(1000):
        if at + 12 > len(data):
            break
        size = int.from_bytes(data[at : at + 4], "big")
        body = data[at + 8 : at + 8 + size]
        if index == hit and body:
            body = draw.choice(BYTES)(body, draw)
        kind = data[at + 4 : at + 8]
        out += struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        at += 12 + size
    return out


def zip_member(data: bytes, draw: random.Random) -> bytes:
    """Damage one file of an archive, or put a pickle with code in its place."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as source, zipfile.ZipFile(out, "w") as target:
        names = source.namelist()
        pickles = [name for name in names if name.endswith(".pkl")]
        hit = draw.choice(pickles * len(names) + names)
        for name in names:
            body = source.read(name)
            if name == hit:
                body = PAYLOAD if draw.random() < 0.1 else draw.choice(BYTES)(body, draw)
            target.writestr(name, body)
    return out.getvalue()


def zip_or_words(data: bytes, draw: random.Random) -> bytes:
    """Damage one file of an archive, if it is one, or else single words."""
    return zip_member(data, draw) if zipfile.is_zipfile(io.BytesIO(data)) else words(data, draw)


def checkpoint_member(data: bytes, draw: random.Random) -> bytes:
    """Damage one file of a checkpoint's archive, and state the checkpoint's checksum anew."""
    return _signed(zip_member(data, draw))


def checkpoint_state(data: bytes, draw: random.Random) -> bytes:
    """Change, remove or add one value of a checkpoint, and state its checksum anew."""
    import torch  # not for the process that only watches

    state = torch.load(io.BytesIO(data), weights_only=True)
    if draw.random() < 0.5:
        state[draw.choice([*state])] = draw.choice([*VALUES, torch.zeros(2)])
    else:
        _edit(state, draw)
    out = io.BytesIO()
    torch.save(state, out)
    return _signed(out.getvalue())


def _signed(archive: bytes) -> bytes:
    content = archive[:-2] + (64).to_bytes(2, "little")
    return content + hashlib.sha256(content).hexdigest().encode()


def _place(data: bytes | bytearray, draw: random.Random) -> int:
    """A place in the data, more often near the head, where headers are."""
    return draw.randrange(max(1, min(len(data), draw.choice([16, 64, 256, len(data)]))))


def _edit(tree: dict | list, draw: random.Random) -> None:
    """Change, remove or add one value, anywhere in a tree of JSON."""
    places = list(_places(tree))
    node, key = draw.choice(places)
    edit = draw.randrange(10)
    if edit == 0:
        del node[key]
    elif edit == 1 and isinstance(node, dict):
        node[draw.choice(["init_args", "class_path", "matrix", "block", "phases", "extra"])] = draw.choice(VALUES)
    elif edit == 2:
        node[key] = draw.choice(places)[0].copy()
    else:
        node[key] = draw.choice(VALUES)


def _places(tree: dict | list):
    for key, value in tree.items() if isinstance(tree, dict) else enumerate(tree):
        yield tree, key
        if isinstance(value, (dict, list)):
            yield from _places(value)
