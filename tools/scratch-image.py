#!/usr/bin/env python3
"""Writes an OCI image archive with one layer and no base.

    scratch-image.py [--label KEY=VALUE]... OUT.tar NAME:TAG ENTRYPOINT SOURCE:TARGET...

The same files make the same bytes: entries are sorted, belong to root, and are as old as SOURCE_DATE_EPOCH says (else 1970).
Whoever runs it is uid 65532. containerd imports it as it is (`ctr -n k8s.io images import OUT.tar`); a pod uses it with
imagePullPolicy IfNotPresent.
"""
import argparse
import datetime
import hashlib
import io
import json
import os
import platform
import tarfile

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--label", action="append", default=[])
parser.add_argument("out")
parser.add_argument("name")
parser.add_argument("entrypoint")
parser.add_argument("files", nargs="+")
options = parser.parse_args()

epoch = int(os.environ.get("SOURCE_DATE_EPOCH", "0"))
blobs: dict[str, bytes] = {}


def blob(media_type: str, content: bytes) -> dict:
    digest = hashlib.sha256(content).hexdigest()
    blobs[digest] = content
    return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(content)}


def document(media_type: str, content: dict) -> dict:
    return blob(media_type, json.dumps(content, sort_keys=True).encode())


def entry(archive: tarfile.TarFile, path: str, content: bytes | None, mode: int) -> None:
    info = tarfile.TarInfo(path)
    info.mode = mode
    info.mtime = epoch
    if content is None:
        info.type = tarfile.DIRTYPE
        archive.addfile(info)
    else:
        info.size = len(content)
        archive.addfile(info, io.BytesIO(content))


def layer(pairs: list[str]) -> bytes:
    files = {target.strip("/"): source for source, target in (pair.split(":") for pair in pairs)}
    folders = {"/".join(target.split("/")[:depth]) for target in files for depth in range(1, target.count("/") + 1)}
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        entry(archive, "tmp", None, 0o1777)
        # A folder sorts before what is in it.
        for path in sorted(folders | files.keys()):
            if path in files:
                # Whoever checked the files out may have had another umask.
                mode = 0o755 if os.access(files[path], os.X_OK) else 0o644
                with open(files[path], "rb") as source:
                    entry(archive, path, source.read(), mode)
            else:
                entry(archive, path, None, 0o755)
    return out.getvalue()


content = blob("application/vnd.oci.image.layer.v1.tar", layer(options.files))
config = document("application/vnd.oci.image.config.v1+json", {
    "architecture": {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine()),
    "os": "linux",
    "created": datetime.datetime.fromtimestamp(epoch, datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
    "config": {
        "Entrypoint": options.entrypoint.split(),
        "User": "65532:65532",
        "Env": ["PATH=/"],
        "Labels": dict(label.split("=", 1) for label in sorted(options.label)),
    },
    "rootfs": {"type": "layers", "diff_ids": [content["digest"]]},
})
manifest = document("application/vnd.oci.image.manifest.v1+json", {
    "schemaVersion": 2,
    "mediaType": "application/vnd.oci.image.manifest.v1+json",
    "config": config,
    "layers": [content],
})
manifest["annotations"] = {
    "io.containerd.image.name": options.name,
    "org.opencontainers.image.ref.name": options.name.rsplit(":", 1)[-1],
}
index = {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": [manifest]}
with tarfile.open(options.out, "w", format=tarfile.USTAR_FORMAT) as archive:
    entry(archive, "oci-layout", b'{"imageLayoutVersion":"1.0.0"}', 0o644)
    entry(archive, "index.json", json.dumps(index, sort_keys=True).encode(), 0o644)
    for digest, content in sorted(blobs.items()):
        entry(archive, f"blobs/sha256/{digest}", content, 0o644)
