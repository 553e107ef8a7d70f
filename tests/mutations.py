"""Changes at random: of bytes, of JSON values, of safetensors files."""

import json
import re
import struct
from copy import deepcopy

SIZES = "0 -1 1 2 255 65536 2147483647 2147483648 4294967296 999999999999 1e12 1e999 -0 1.5 0x10 1_0"
NUMBERS = (*SIZES.split(), "nan", "NaN", "Infinity", "-Infinity", "9" * 19, "9" * 40, "9" * 5000)
SYMBOLS = tuple(bytes([byte]) for byte in b'0123 :.\n\r\t-+"einfa[]{},')
WORDS = (*SYMBOLS, b"\r\n", b"\\", b"\0", b"\xff", b"\xef\xbb\xbf", b"\xe2\x80\xa8", b"\\ud800", b"\xed\xa0\x80")
WORDS = (*WORDS, b"null", b"true", b"../../x", b"/etc/passwd", b"[" * 3000)
COUNTS = (-1, 0, 1, 2, 255, 2**31, 2**63, 2**64, 10**12, 10**30, 1.5, 1e308, float("nan"), float("inf"))
STRINGS = ("", "x", "\ud800", "\0", "../../x", "/etc/passwd", "x" * 5000)
VALUES = (None, True, False, *COUNTS, *STRINGS, [], {}, [[]], [1] * 300, {"x": 1})
DEEP = json.loads("[" * 900 + "]" * 900)
_NUMBER = re.compile(rb"-?\d+(\.\d+)?")


def mutated(rng, content, words=WORDS):
    """Some bytes after one to four changes; those that mean something are likelier than chance would have them."""
    for _ in range(rng.choice((1, 1, 2, 4))):
        content = rng.choice(_CHANGES)(rng, content, words)
    return content


def _flip(rng, content, _words):
    at = rng.randrange(len(content) + 1)
    return content[:at] + bytes(byte ^ (1 << rng.randrange(8)) for byte in content[at : at + 1]) + content[at + 1 :]


def _noise(rng, content, _words):
    at = rng.randrange(len(content) + 1)
    return content[:at] + rng.randbytes(rng.randrange(1, 9)) + content[at + rng.randrange(9) :]


def _remove(rng, content, _words):
    at = rng.randrange(len(content) + 1)
    return content[:at] + content[at + rng.choice((1, 1, 2, 8, 64)) :]


def _cut(rng, content, _words):
    return content[: rng.randrange(len(content) + 1)]


def _repeat(rng, content, _words):
    at, length = rng.randrange(len(content) + 1), rng.choice((1, 4, 16, 64))
    return content[:at] + content[at : at + length] * rng.choice((2, 2, 3, 100)) + content[at + length :]


def _insert(rng, content, words):
    at = rng.randrange(len(content) + 1)
    return content[:at] + rng.choice(words) + content[at + rng.randrange(3) :]


def _renumber(rng, content, _words):
    found = list(_NUMBER.finditer(content))
    if not found:
        return content + b"1"
    start, stop = rng.choice(found).span()
    return content[:start] + rng.choice(NUMBERS).encode() + content[stop:]


def _swap_lines(rng, content, _words):
    lines = content.split(b"\n")
    i, j = rng.randrange(len(lines)), rng.randrange(len(lines))
    lines[i], lines[j] = lines[j], lines[i]
    return b"\n".join(lines)


_CHANGES = (_flip, _noise, _remove, _cut, _repeat, _insert, _insert, _renumber, _renumber, _swap_lines)


def mutated_value(rng, value):
    """A JSON value with something in it replaced, removed, renamed or added; the value itself is left as it is."""
    value = json.loads(json.dumps(value))
    for _ in range(rng.choice((1, 1, 1, 2))):
        inner = [holder for holder in _holders(value) if holder]
        if not inner:
            return deepcopy(rng.choice(VALUES))
        holder = rng.choice(inner)
        key = rng.choice(list(holder)) if isinstance(holder, dict) else rng.randrange(len(holder))
        _CHANGES_OF_VALUES[rng.randrange(len(_CHANGES_OF_VALUES))](rng, holder, key)
        if any(changed is DEEP for changed in (holder.values() if isinstance(holder, dict) else holder)):
            break  # nothing that goes through values by recursion can look at it again
    return value


def _holders(value):
    if isinstance(value, (dict, list)):
        yield value
        for inner in value.values() if isinstance(value, dict) else value[:20]:
            yield from _holders(inner)


def _replace(rng, holder, key):
    holder[key] = DEEP if rng.random() < 0.01 else deepcopy(rng.choice(VALUES))


def _nudge(rng, holder, key):
    number = holder[key]
    holder[key] = number + rng.choice((-1, 1, 7, 2**16)) if isinstance(number, (int, float)) else [number]


def _delete(_rng, holder, key):
    del holder[key]


def _copy(rng, holder, key):
    if isinstance(holder, dict):
        holder[rng.choice((*holder, "", "extra"))] = deepcopy(holder[key])
    else:
        holder.append(deepcopy(holder[key]))


_CHANGES_OF_VALUES = (_replace, _replace, _replace, _nudge, _delete, _copy)


def mutated_json(rng, value):
    """A JSON document: one of values that do not fit, or one that is hardly JSON."""
    if rng.random() < 0.3:
        return mutated(rng, json.dumps(value).encode())
    return json.dumps(mutated_value(rng, value)).encode("utf-8", "surrogatepass")


def mutated_tensors(rng, content):
    """A safetensors file with another header, other bytes behind it, or hardly one at all."""
    [size] = struct.unpack("<Q", content[:8])
    header, data = json.loads(content[8 : 8 + size]), content[8 + size :]
    how = rng.randrange(4)
    if how == 0:
        return mutated(rng, content)
    if how == 1:
        data = mutated(rng, data)
        data = (data + content)[: len(content) - 8 - size] if rng.random() < 0.8 else data
    elif how == 2:
        tensor = rng.choice([value for name, value in header.items() if name != "__metadata__"])
        tensor["dtype"] = rng.choice(("F64", "F32", "F16", "BF16", "F8_E4M3", "I64", "I32", "U16", "I16", "U8", "BOOL"))
        if rng.random() < 0.5:
            tensor["shape"] = tensor["shape"][::-1]
    else:
        header = mutated_value(rng, header)
    text = json.dumps(header).encode("utf-8", "surrogatepass")
    return struct.pack("<Q", len(text)) + text + data
