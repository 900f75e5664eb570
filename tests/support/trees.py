"""Hypothesis strategies: trees of entries, and damaged bytes."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from pathlib import Path

from hypothesis import strategies as st

from ocibuild.layer import Directory, Entry, File, Symlink

NAMES = st.one_of(
    st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=12),
    st.text("ab.-_", min_size=1, max_size=110),
    st.sampled_from(["lib", "share", "extension", "é", "日本語", "x" * 100, "y" * 155, "a b", "\n", "PaxHeaders"]),
).filter(lambda name: name not in (".", "..") and not name.startswith(".wh.") and len(name.encode()) <= 255)

CONTENTS = st.binary(max_size=2000)


@st.composite
def trees(draw: st.DrawFn) -> list[Entry]:
    """Entries that are a tree: no path twice, nothing below a file or link, links that stay inside."""
    kinds: dict[str, str] = {}
    entries: list[Entry] = []
    for parts in draw(st.lists(st.lists(NAMES, min_size=1, max_size=5), max_size=12)):
        path = "/".join(parts)
        parents = ["/".join(parts[:end]) for end in range(1, len(parts))]
        if path in kinds or any(kinds.get(parent, "parent") not in ("parent", "directory") for parent in parents):
            continue
        for parent in parents:
            kinds.setdefault(parent, "parent")
        kind = draw(st.sampled_from(["file", "file", "directory", "symlink"]))
        kinds[path] = kind
        if kind == "file":
            mode = draw(st.sampled_from([0o644, 0o755, 0o600, 0o444, 0]))
            entries.append(File(path=path, content=draw(CONTENTS), mode=mode))
        elif kind == "directory":
            entries.append(Directory(path=path, mode=draw(st.sampled_from([0o755, 0o700]))))
        else:
            entries.append(Symlink(path=path, target=draw(NAMES)))
    return entries


def mutate(data: bytes, seed: int, spots: Sequence[range] = ()) -> bytes:
    """One of many ways to damage bytes, chosen by the seed; within the given spots, where the format's tables lie."""
    chance = random.Random(seed)
    found = bytearray(data)
    for _ in range(chance.choice((1, 1, 2, 4, 16))):
        spot = chance.choice(spots) if spots else range(len(found) + 1)
        at = min(chance.choice(spot), len(found))
        # Where tables are meant, what moves them all is rare.
        kind = chance.randrange(2) if spots and chance.random() < 0.95 else chance.randrange(6)
        if kind == 0 and found:
            found[at % len(found)] ^= 1 << chance.randrange(8)
        elif kind == 1 and found:
            found[at % len(found)] = chance.choice((0, 0xFF, 0x7F, 0x80, chance.randrange(256)))
        elif kind == 2:
            del found[at:]
        elif kind == 3:
            del found[at : at + chance.randrange(1, 64)]
        elif kind == 4:
            found[at:at] = chance.randbytes(chance.randrange(1, 16))
        else:
            start = chance.randrange(len(found) + 1)
            found[at:at] = found[start : start + chance.randrange(1, 600)]
    return bytes(found)


def write_tree(folder: Path, files: Mapping[str, bytes | str]) -> Path:
    """Files by path below a folder; text is where a symbolic link leads."""
    for path, content in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, bytes):
            (folder / path).write_bytes(content)
        else:
            (folder / path).symlink_to(content)
    return folder
