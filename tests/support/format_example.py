"""The worked example of docs/reference/format-1.md, written into the page by `python -m tests.support.format_example`."""

from __future__ import annotations

from collections.abc import Iterator

from ocibuild import Compression, File, MemoryStore, Platform, build_image, build_index, build_layer
from ocibuild.oci import Descriptor, Digest, Index, Manifest
from ocibuild.store.graph import read_blob, read_document
from tests.support.tools import ROOT

PAGE = ROOT / "docs/reference/format-1.md"
BEGIN, END = "<!-- example -->\n", "<!-- end of the example -->\n"


def hexdump(data: bytes) -> Iterator[str]:
    """Sixteen bytes a line as `hexdump -C` shows them; equal lines are shown once, then as `*`."""
    last, skipping = b"", False
    for at in range(0, len(data), 16):
        line = data[at : at + 16]
        if line == last:
            if not skipping:
                yield "*"
            skipping = True
            continue
        last, skipping = line, False
        text = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in line)
        halves = " ".join(f"{byte:02x}" for byte in line[:8]), " ".join(f"{byte:02x}" for byte in line[8:])
        yield f"{at:08x}  {halves[0]:<23}  {halves[1]:<23}  |{text}|"
    yield f"{len(data):08x}"


def example() -> Iterator[str]:
    """The section's lines."""
    store = MemoryStore()
    entries = [File(path="share/x.sql", content=b"select 1;\n")]
    plain = build_layer(entries, into=store, compression=Compression.NONE)
    layer = build_layer(entries, into=store)
    image = build_image(
        [layer], platform=Platform.parse("linux/amd64"), into=store, labels={"a": "é"}, user="65532:65532"
    )
    index = build_index([image], into=store)
    yield "One file, `share/x.sql`, that holds `select 1;` and a newline; no time; the user and a label `a` with the value `é`."
    yield ""
    yield f"The archive, {plain.uncompressed_size:,} bytes, `{plain.diff_id}`:"
    yield from _block("text", hexdump(_blob(store, plain.descriptor)))
    yield f"The layer, one gzip member of {layer.descriptor.size} bytes, `{layer.descriptor.digest}`:"
    yield from _block("text", hexdump(_blob(store, layer.descriptor)))
    manifest = read_document(store, image.root)
    assert isinstance(manifest, Manifest)
    for name, descriptor in (("configuration", manifest.config), ("manifest", image.root), ("index", index.root)):
        yield f"The {name}, {descriptor.size} bytes without a newline at the end, `{descriptor.digest}`:"
        yield from _block("json", [_blob(store, descriptor).decode()])
    assert isinstance(read_document(store, index.root), Index)


def _blob(store: MemoryStore, descriptor: Descriptor) -> bytes:
    data = read_blob(store, descriptor)
    assert Digest.of(data) == descriptor.digest
    return data


def _block(language: str, lines: Iterator[str] | list[str]) -> Iterator[str]:
    yield ""
    yield f"```{language}"
    yield from lines
    yield "```"
    yield ""


def section() -> str:
    """What stands in the page between the two marks."""
    return "\n".join(example()).rstrip("\n") + "\n\n"


def page_section() -> str:
    """What the page has there."""
    return PAGE.read_text().partition(BEGIN)[2].partition(END)[0].lstrip("\n")


if __name__ == "__main__":
    head, _, rest = PAGE.read_text().partition(BEGIN)
    PAGE.write_text(head + BEGIN + "\n" + section() + END + rest.partition(END)[2])
