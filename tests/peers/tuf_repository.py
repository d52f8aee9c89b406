"""Repositories for the tests of updates, made and changed by python-tuf.

make DIR KEYS TARGET CUSTOM_JSON    a repository of its own: two root keys, both needed; prints nothing
read URL ROOT_JSON TARGET OUT       what python-tuf's client gets from a repository
edit DIR KEYS ROLE CODE             runs CODE on the newest metadata of ROLE as `md` (and `signed`), raises its version, signs it and
                                    everything above it again with KEYS; `resign = False` in CODE keeps the old signature
"""

import json
import os
import sys
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path

from cryptography.hazmat.primitives.serialization import load_pem_private_key
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import (
    Metadata, MetaFile, Root, Snapshot, TargetFile, Targets, Timestamp)
from tuf.api.serialization.json import JSONSerializer
from tuf.ngclient import Updater

ONLINE = ("targets", "snapshot", "timestamp")


def in_days(days):
    return (datetime.now(UTC) + timedelta(days=days)).replace(microsecond=0)


def signer(path):
    """A key file that `metwatch repo init` wrote, or one of python's."""
    return CryptoSigner(load_pem_private_key(Path(path).read_bytes(), None))


def write(md, path):
    md.to_file(str(path), JSONSerializer())


def chain(directory, keys, targets, snapshot, timestamp, changed):
    """Writes the roles from `changed` upward, each with the version of the one below."""
    metadata = Path(directory, "metadata")
    roles = [("targets", targets), ("snapshot", snapshot), ("timestamp", timestamp)]
    below = None
    for name, md in roles[ONLINE.index(changed):]:
        if below is not None:
            data = below.to_bytes(JSONSerializer())
            meta = MetaFile(below.signed.version, len(data), {"sha256": sha256(data).hexdigest()})
            if name == "timestamp":
                md.signed.snapshot_meta = meta
            else:
                md.signed.meta["targets.json"] = meta
            md.signed.version += 1
            md.sign(signer(Path(keys, f"{name}.pem")))
        file = f"{name}.json" if name == "timestamp" else f"{md.signed.version}.{name}.json"
        write(md, metadata / file)
        below = md


def newest(directory):
    metadata = Path(directory, "metadata")
    timestamp = Metadata[Timestamp].from_file(str(metadata / "timestamp.json"))
    n = timestamp.signed.snapshot_meta.version
    snapshot = Metadata[Snapshot].from_file(str(metadata / f"{n}.snapshot.json"))
    n = snapshot.signed.meta["targets.json"].version
    return Metadata[Targets].from_file(str(metadata / f"{n}.targets.json")), snapshot, timestamp


def edit(directory, keys, role, code):
    metadata = Path(directory, "metadata")
    if role == "root":
        n = max(int(p.name.split(".")[0]) for p in metadata.glob("*.root.json"))
        md = Metadata[Root].from_file(str(metadata / f"{n}.root.json"))
        md.signed.version += 1
        scope = {"md": md, "signed": md.signed, "signer": signer, "keys": keys, "in_days": in_days, "sign_with": None}
        exec(code, scope)
        md.signatures.clear()
        for path in scope["sign_with"]:
            md.sign(signer(path), append=True)
        return write(md, metadata / f"{md.signed.version}.root.json")
    targets, snapshot, timestamp = newest(directory)
    md = {"targets": targets, "snapshot": snapshot, "timestamp": timestamp}[role]
    md.signed.version += 1
    key = signer(Path(keys, f"{role}.pem"))
    scope = {"md": md, "signed": md.signed, "in_days": in_days, "CryptoSigner": CryptoSigner, "key": key,
             "resign": True, "TargetFile": TargetFile, "MetaFile": MetaFile}
    exec(code, scope)
    if scope["resign"]:
        md.sign(scope["key"])
    chain(directory, keys, targets, snapshot, timestamp, role)


def make(directory, keys, target, custom):
    metadata, folder = Path(directory, "metadata"), Path(directory, "targets")
    for path in (metadata, folder, Path(keys)):
        path.mkdir(parents=True, exist_ok=True)
    names = ("root-1", "root-2", *ONLINE)
    made = {name: CryptoSigner.generate_ed25519() for name in names}
    for name, key in made.items():
        path = Path(keys, f"{name}.pem")
        path.write_bytes(key.private_bytes)
        os.chmod(path, 0o600)
    root = Root(consistent_snapshot=True, expires=in_days(365))
    for role in ("root", *ONLINE):
        for name in names:
            if name.split("-")[0] == role:
                root.add_key(made[name].public_key, role)
    root.roles["root"].threshold = 2
    targets, snapshot, timestamp = (Metadata(kind(expires=in_days(30))) for kind in (Targets, Snapshot, Timestamp))
    data = Path(target).read_bytes()
    file = TargetFile.from_data(Path(target).name, data, ["sha256"])
    file.unrecognized_fields["custom"] = json.loads(custom)
    targets.signed.targets[file.path] = file
    Path(folder, f"{sha256(data).hexdigest()}.{file.path}").write_bytes(data)
    md = Metadata(root)
    md.sign(made["root-1"])
    md.sign(made["root-2"], append=True)
    write(md, metadata / "1.root.json")
    targets.sign(made["targets"])
    chain(directory, keys, targets, snapshot, timestamp, "targets")


def read(url, root, target, out):
    Path(out, "metadata").mkdir(parents=True)
    updater = Updater(str(Path(out, "metadata")), f"{url}/metadata/", out, f"{url}/targets/",
                      bootstrap=Path(root).read_bytes())
    updater.refresh()
    info = updater.get_targetinfo(target)
    path = updater.download_target(info)
    print(json.dumps({"path": path, "custom": info.custom,
                      "sha256": sha256(Path(path).read_bytes()).hexdigest()}))


if __name__ == "__main__":
    {"make": make, "read": read, "edit": edit}[sys.argv[1]](*sys.argv[2:])
