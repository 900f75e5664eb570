"""Why two ELF files differ, the most telling first: what the loader reads, code and data, notes, then what follows from it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain, islice

from ocibuild.elf import SharedObject, read_shared_object
from ocibuild.elf.dynamic import readable
from ocibuild.elf.extras import build_id
from ocibuild.elf.headers import ElfFile
from ocibuild.errors import ElfError

from .difference import Difference
from .functions import Functions
from .sections import Part, gap_differences, headers, parts, section_differences
from .spans import Bytes, Work, compare_spans

__all__ = ["elf_differences"]

_SECTIONS_SHOWN = 12
_SYMBOLS_SHOWN = 20
_LOCALS_SHOWN = 10
_FACTS_SHOWN = 20
_LOAD = 1
_EXECUTABLE = 1
_PAGE = 4096
_FIRST = (".text", ".rodata", ".data")
_NOTES = (".note", ".comment", ".gnu_debuglink", ".gnu_debugaltlink")
_DEBUG = (".debug_", ".zdebug_", ".gnu_debugdata")
_SYMBOLS = (".symtab", ".strtab")
_MACHINE = ("machine", "class", "byte order")
_TABLES = (
    ".symtab", ".strtab", ".shstrtab", ".eh_frame", ".gcc_except_table", ".dynsym", ".dynstr", ".dynamic", ".gnu.hash",
    ".hash", ".gnu.version", ".rel", ".got", ".plt",
)  # fmt: skip
"""What follows from the code and the symbols; each name is the beginning of several."""
_BUILD_ID_SECTION = (".note.gnu.build-id", 1)
_BUILD_ID_SECTION_LIMIT = 4096


def elf_differences(a: Bytes, b: Bytes, *, where: str) -> tuple[tuple[Difference, ...], str]:
    """Why two ELF files differ.

    Args:
        a: The first file's bytes. A map can be closed at once afterwards.
        b: The second's.
        where: The file's name.

    Returns:
        The differences, the most telling first, and what holds for the whole file. There are none of a file that is
        damaged or of a type that is never loaded; what a damaged part would tell is left out.
    """
    a, b = (data.tobytes() if isinstance(data, memoryview) and data.format != "B" else data for data in (a, b))
    try:
        ours, theirs = ElfFile(a, where), ElfFile(b, where)
    except ElfError:
        return (), ""
    facts = _facts(a, where), _facts(b, where)
    heads = list(_header(ours, theirs, facts))
    if heads and heads[0].where in _MACHINE:
        return tuple(heads), "everything in it differs: it is for another machine"
    # Sections that overlap would be compared each time.
    work = Work(4 * max(len(a), len(b)))
    by_segments = not (ours.sections and theirs.sections)
    left, right = parts(ours, by_segments=by_segments), parts(theirs, by_segments=by_segments)
    functions, others = Functions(ours), Functions(theirs)
    ids = _build_id(ours), _build_id(theirs)
    found: list[list[Difference]] = [[] for _ in range(4)]
    items = list(section_differences(a, b, left, right, functions, work))
    stripped = list(_stripped(items))
    for item in items:
        if stripped and (_is_debug(item) or item.where == ".shstrtab"):
            continue
        if item.where == _BUILD_ID_SECTION[0] and _is_build_id(a, b, left, right, ids):
            continue
        found[_rank(item.where)].append(item)
    found[0].sort(key=lambda item: _FIRST.index(item.where) if item.where in _FIRST else len(_FIRST))
    hidden = _cut(found)
    code, notes, debug, tables = found
    result = [*heads, *_dynamic(*facts), *_symbols(*facts), *code, *_sizes(functions, others)]
    result += _locals(functions, others)
    if ids[0] != ids[1]:
        result.append(Difference(kind="build ID", a=ids[0], b=ids[1]))
    result += [*notes, *stripped, *debug, *tables]
    if hidden:
        result.append(Difference(kind="segment" if by_segments else "section", note=f"and {hidden:,} more"))
    tops = [*left.values(), *headers(ours)], [*right.values(), *headers(theirs)]
    result += gap_differences(a, b, *tops, functions, work)
    result = result or list(_moved(left, right))
    is_same = result and _same_loaded(a, b, ours, theirs, left, work)
    return tuple(result), "the code and data are the same" if is_same else ""


def _is_debug(item: Difference) -> bool:
    """A section on one side alone that a debugger reads."""
    return (item.a is None) != (item.b is None) and (item.where.startswith(_DEBUG) or item.where in _SYMBOLS)


def _stripped(items: list[Difference]) -> Iterator[Difference]:
    """What strip(1) takes away, said once."""
    found = [item for item in items if _is_debug(item)]
    if len(found) > 1 and len({item.a is None for item in found}) == 1:
        count = sum(item.where.startswith(_DEBUG) for item in found)
        texts = [f"{count} debug section{'s' * (count != 1)}"] * bool(count)
        text = ", ".join(texts + [item.where for item in found if item.where == ".symtab"])
        is_gone = found[0].b is None
        yield Difference(
            kind="debug data", a=text if is_gone else None, b=None if is_gone else text, note="stripped" * is_gone
        )


def _rank(name: str) -> int:
    return next((rank for rank, names in ((1, _NOTES), (2, _DEBUG), (3, _TABLES)) if name.startswith(names)), 0)


def _cut(found: list[list[Difference]]) -> int:
    """Keep the most telling; how many are left out."""
    room, hidden = _SECTIONS_SHOWN, 0
    for group in found:
        hidden += len(group[room:])
        del group[room:]
        room -= len(group)
    return hidden


def _facts(data: Bytes, where: str) -> SharedObject | None:
    try:
        return read_shared_object(data, where=where)
    except ElfError:
        return None


def _build_id(file: ElfFile) -> str | None:
    try:
        return build_id(file)
    except ElfError:
        return None


def _is_build_id(
    a: Bytes,
    b: Bytes,
    left: dict[tuple[str, int], Part],
    right: dict[tuple[str, int], Part],
    ids: tuple[str | None, ...],
) -> bool:
    """The section of the build ID differs by nothing else."""
    rests = []
    for data, side, name in ((a, left, ids[0]), (b, right, ids[1])):
        part = side.get(_BUILD_ID_SECTION)
        if not name or part is None or part.stored > _BUILD_ID_SECTION_LIMIT:
            return False
        raw = bytes(data[part.offset : part.offset + part.stored])
        rests.append((len(raw), raw.replace(bytes.fromhex(name), b"", 1)))
    return rests[0] == rests[1]


def _header(a: ElfFile, b: ElfFile, facts: tuple[SharedObject | None, ...]) -> Iterator[Difference]:
    rows = [
        ("machine", a.machine, b.machine),
        ("class", "64 bits" if a.wide else "32 bits", "64 bits" if b.wide else "32 bits"),
        ("byte order", *("little endian" if item.little_endian else "big endian" for item in (a, b))),
        ("type", *("shared" if item.shared else "fixed program" for item in (a, b))),
        ("sections", *("there" if item.sections else "none" for item in (a, b))),
        ("flags", *(f"{_identity(item)[4]:#x}" for item in (a, b))),
    ]
    if facts[0] and facts[1]:
        rows.append(("executable stack", *("yes" if item.executable_stack else "no" for item in facts if item)))
    for name, one, other in rows:
        if one != other:
            yield Difference(kind="elf header", where=name, a=one, b=other)


def _identity(file: ElfFile) -> tuple[int, ...]:
    """Type, machine, version, entry and flags."""
    kind, machine, version, entry, _, _, flags = file.unpack(f"2HI3{file.word}I", 16)
    return kind, machine, version, entry, flags


def _dynamic(a: SharedObject | None, b: SharedObject | None) -> Iterator[Difference]:
    if a is None or b is None:
        return
    if a.soname != b.soname:
        yield Difference(kind="dynamic", where="soname", a=a.soname, b=b.soname)
    if a.runpath != b.runpath:
        paths = (":".join(item.runpath) if item.runpath else None for item in (a, b))
        yield Difference(kind="dynamic", where="runpath", a=next(paths), b=next(paths))
    if a.text_relocations != b.text_relocations:
        texts = ("yes" if item.text_relocations else "no" for item in (a, b))
        yield Difference(kind="dynamic", where="text relocations", a=next(texts), b=next(texts))
    yield from _items("needed", a.needed, b.needed)
    if a.needed != b.needed and sorted(a.needed) == sorted(b.needed):
        note = "the same libraries in another order"
        yield Difference(
            kind="dynamic", where="needed", a=", ".join(a.needed[:5]), b=", ".join(b.needed[:5]), note=note
        )
    versions = ([f"{item.version} of {item.library}" for item in side.versions] for side in (a, b))
    yield from _items("symbol version needed", next(versions), next(versions))
    yield from _items("symbol version defined", sorted(a.defines), sorted(b.defines))


def _items(name: str, a: Iterable[str], b: Iterable[str]) -> Iterator[Difference]:
    """The items that are only on one side."""
    ours, theirs = dict.fromkeys(a), dict.fromkeys(b)
    rows = [Difference(kind="dynamic", where=name, a=item) for item in ours if item not in theirs]
    rows += [Difference(kind="dynamic", where=name, b=item) for item in theirs if item not in ours]
    yield from _bounded("dynamic", name, iter(rows), len(rows), _FACTS_SHOWN)


def _bounded(kind: str, where: str, rows: Iterator[Difference], count: int, shown: int) -> Iterator[Difference]:
    yield from islice(rows, shown)
    if count > shown:
        yield Difference(kind=kind, where=where, note=f"and {count - shown:,} more")


def _symbols(a: SharedObject | None, b: SharedObject | None) -> Iterator[Difference]:
    """The dynamic symbols that only one side has, or has in another way."""
    if a is None or b is None:
        return
    ours, theirs = _states(a), _states(b)
    names = sorted(name for name in ours.keys() | theirs.keys() if ours.get(name) != theirs.get(name))
    rows = (Difference(kind="symbol", where=name, a=ours.get(name), b=theirs.get(name)) for name in names)
    yield from _bounded("symbol", "", rows, len(names), _SYMBOLS_SHOWN)


def _states(facts: SharedObject) -> dict[str, str]:
    states = dict.fromkeys(facts.exports, "exported")
    for item in facts.imports:
        state = "imported" + " weakly" * item.weak + (f" as {item.version}" if item.version else "")
        states[item.name] = state if item.name not in states else f"{states[item.name]}, {state}"[:200]
    return states


def _sizes(a: Functions, b: Functions) -> Iterator[Difference]:
    """The functions and objects that grew or shrank."""
    names = [name for name, size in a.sizes.items() if b.sizes.get(name, size) != size]
    rows = (
        Difference(kind="symbol", where=_text(name), a=f"{a.sizes[name]:,} bytes", b=f"{b.sizes[name]:,} bytes")
        for name in names
    )
    yield from _bounded("symbol", "", rows, len(names), _LOCALS_SHOWN)


def _locals(a: Functions, b: Functions) -> Iterator[Difference]:
    """The functions and objects that only one side's `.symtab` names."""
    if a.local is None or b.local is None:
        return
    ours, theirs = a.local, b.local
    rows = chain(
        (Difference(kind="symbol", where=_text(name), a=_scope(ours[name])) for name in ours if name not in b.sizes),
        (
            Difference(kind="symbol", where=_text(name), b=_scope(theirs[name]))
            for name in theirs
            if name not in a.sizes
        ),
    )
    count = sum(name not in b.sizes for name in ours) + sum(name not in a.sizes for name in theirs)
    yield from _bounded("symbol", "", rows, count, _LOCALS_SHOWN)


def _scope(local: bool) -> str:
    return "local" if local else "not exported"


def _text(name: bytes) -> str:
    return readable(name.decode("latin-1"))


def _moved(left: dict[tuple[str, int], Part], right: dict[tuple[str, int], Part]) -> Iterator[Difference]:
    """Where nothing else differs: the parts that are elsewhere."""
    for key in left.keys() & right.keys() if len(left) < 2 else [key for key in left if key in right]:  # noqa: PLR2004
        one, other = left[key], right[key]
        if (one.offset, one.address) != (other.offset, other.address):
            texts = (f"at {item.offset:#x}, address {item.address:#x}" for item in (one, other))
            yield Difference(kind=one.kind, where=one.name, a=next(texts), b=next(texts), note="it and others moved")
            return


def _same_loaded(
    a: Bytes, b: Bytes, ours: ElfFile, theirs: ElfFile, left: dict[tuple[str, int], Part], work: Work
) -> bool:
    """Whatever is loaded is the same but for the build ID and for what the header says of the sections."""
    if ours.segments != theirs.segments or _identity(ours) != _identity(theirs):
        return False
    free = [(0, 64 if ours.wide else 52)]
    if part := left.get(_BUILD_ID_SECTION):
        free.append((part.offset, part.offset + part.stored))
    for item in ours.segments:
        if item.kind != _LOAD:
            continue
        begin, end = item.offset, item.offset + item.size
        if item.flags & _EXECUTABLE:
            # Whole pages are mapped: what stands around the code can be run too.
            begin, end = begin - begin % _PAGE, min(end + -end % _PAGE, len(a), len(b))
        if not work.spend(end - begin):
            return False
        change = compare_spans(a, begin, b, begin, end - begin)
        # Runs are few where only such bytes differ.
        if change and (change.more or sum(stop - start for start, stop in change.runs) != change.count):
            return False
        for start, stop in change.runs if change else ():
            if not any(low <= begin + start and begin + stop <= high for low, high in free):
                return False
    return True
