"""What `diff` and `rebuild` read, for the fuzz campaign: whole images around mutated parts, so that every digest is right."""

from __future__ import annotations

import io
from collections.abc import Callable

from ocibuild import Artifact, Compression, Platform, Provenance, attach_provenance, build_image, build_layer, compare
from ocibuild.diff.codec import describe_codec
from ocibuild.diff.elf import elf_differences
from ocibuild.layer import Layer, open_layer
from ocibuild.oci import Descriptor, Digest, ImageConfig, Manifest, media_types
from ocibuild.oci.canonical import decode, encode
from ocibuild.postgres import open_source
from ocibuild.provenance import find_provenance
from ocibuild.store import MemoryStore
from ocibuild.store.graph import read_blob, read_document
from tests.support.tools import ROOT, TREES

__all__ = ["DIFFED", "diff_corpus"]

Parser = Callable[[bytes], object]
DIFFED = {"diff tar", "diff gzip", "diff config", "diff manifest", "diff elf", "codec gzip", "codec zstd", "provenance"}
MODULE = ROOT / "fixtures/modules/good.so"


def _put(store: MemoryStore, raw: bytes, media_type: str) -> Descriptor:
    descriptor = Descriptor.of(raw, media_type)
    store.push(descriptor, io.BytesIO(raw))
    return descriptor


def _image(store: MemoryStore, blob: bytes, media_type: str) -> Artifact:
    """An image of one layer that says the truth about its archive, whatever that is."""
    with open_layer(io.BytesIO(blob), media_type) as stream:
        diff_id = Digest.of(stream.read())
    layer = Layer(descriptor=_put(store, blob, media_type), diff_id=diff_id, uncompressed_size=0)
    return build_image([layer], platform=Platform.parse("amd64"), into=store)


def _compared(one: Artifact, other: Artifact) -> None:
    for semantic in (False, True):
        compare(one, other, semantic=semantic).to_dict()
        compare(other, one, semantic=semantic)


def diff_corpus() -> dict[str, tuple[Parser, list[bytes]]]:
    """Each parser and the real input to mutate."""
    store = MemoryStore()
    entries = [entry for entry in open_source(TREES[0]).entries if not entry.path.endswith(".so")]
    blobs = {}
    for compression in Compression:
        layer = build_layer(entries, into=store, compression=compression)
        blobs[compression] = store.fetch(layer.descriptor).read()
    whole = {item: _image(store, blobs[item], item.media_type) for item in Compression}
    plain = whole[Compression.NONE]
    manifest = read_document(store, plain.root)
    assert isinstance(manifest, Manifest)
    attach_provenance(plain, store, Provenance(parameters={"name": "x"}, version="1"))
    statement = Provenance(parameters={"name": "x", "include": ["*"]}, version="1").statement(plain.root)

    def layers(compression: Compression) -> Parser:
        return lambda raw: _compared(whole[compression], _image(store, raw, compression.media_type))

    def config(raw: bytes) -> None:
        decode(raw, ImageConfig)
        changed = _put(store, raw, media_types.IMAGE_CONFIG)
        document = encode({**_plain(manifest), "config": _plain(changed)})
        _compared(plain, Artifact(_put(store, document, media_types.IMAGE_MANIFEST), store))

    def document(raw: bytes) -> None:
        _compared(plain, Artifact(_put(store, raw, media_types.IMAGE_MANIFEST), store))

    def provenance(raw: bytes) -> None:
        fresh = MemoryStore()
        layer = _put(fresh, raw, "application/vnd.in-toto+json")
        empty = _put(fresh, b"{}", media_types.EMPTY)
        referrer = Manifest(
            media_type=media_types.IMAGE_MANIFEST,
            artifact_type=layer.media_type,
            config=empty,
            layers=(layer,),
            subject=plain.root.bare,
        )
        _put(fresh, encode(referrer), media_types.IMAGE_MANIFEST)
        find_provenance(Artifact(plain.root, fresh))

    library = MODULE.read_bytes()
    return {
        "diff tar": (layers(Compression.NONE), [blobs[Compression.NONE]]),
        "diff gzip": (layers(Compression.GZIP), [blobs[Compression.GZIP]]),
        "diff config": (config, [read_blob(store, manifest.config)]),
        "diff manifest": (document, [read_blob(store, plain.root)]),
        "diff elf": (lambda raw: elf_differences(library, raw, where="x.so"), [library]),
        "codec gzip": (
            lambda raw: describe_codec(io.BytesIO(raw), media_types.LAYER_GZIP),
            [blobs[Compression.GZIP]],
        ),
        "codec zstd": (
            lambda raw: describe_codec(io.BytesIO(raw), media_types.LAYER_ZSTD),
            [blobs[Compression.ZSTD]],
        ),
        "provenance": (provenance, [statement]),
    }


def _plain(value: object) -> dict[str, object]:
    import msgspec

    found: dict[str, object] = msgspec.to_builtins(value, enc_hook=str)
    return found
