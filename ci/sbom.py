"""Writes what the proxy's binary is made of, as CycloneDX 1.5 in JSON: from cargo's own metadata and the lock file, without a network.

usage: sbom.py OUTPUT

Only what is linked into `outrigger` on Linux: no tools, no tests. The same lock file gives the same bytes.
"""

import json
import re
import subprocess
import sys
import uuid
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PRODUCT = "outrigger"
COMMAND = "cargo metadata --format-version 1 --locked --offline --filter-platform x86_64-unknown-linux-musl"


def linked(metadata):
    """Package ids that the product links, itself included, each with those it needs."""
    nodes = {node["id"]: node for node in metadata["resolve"]["nodes"]}
    start = next(p["id"] for p in metadata["packages"] if p["name"] == PRODUCT)
    needs, waiting = {}, [start]
    while waiting:
        package = waiting.pop()
        if package in needs:
            continue
        # `kind` is null for what is linked; build scripts and tests stay outside.
        needs[package] = sorted(
            dep["pkg"] for dep in nodes[package]["deps"] if any(kind["kind"] is None for kind in dep["dep_kinds"])
        )
        waiting += needs[package]
    return start, needs


def component(package, checksum):
    reference = f"pkg:cargo/{package['name']}@{package['version']}"
    made = {"type": "library", "bom-ref": reference, "name": package["name"], "version": package["version"], "purl": reference}
    made["licenses"] = [{"expression": re.sub(r"\s*/\s*", " OR ", package["license"])}]
    if checksum:
        made["hashes"] = [{"alg": "SHA-256", "content": checksum}]
    return made


def main():
    (output,) = sys.argv[1:]
    metadata = json.loads(subprocess.run(COMMAND.split(), cwd=ROOT, check=True, stdout=subprocess.PIPE).stdout)
    lock = (ROOT / "Cargo.lock").read_text(encoding="utf-8")
    locked = re.findall(r'name = "(.+)"\nversion = "(.+)"\nsource = ".+"\nchecksum = "(.+)"', lock)
    checksums = {(name, version): checksum for name, version, checksum in locked}
    start, needs = linked(metadata)
    packages = {p["id"]: p for p in metadata["packages"] if p["id"] in needs}
    made = {i: component(p, checksums.get((p["name"], p["version"]))) for i, p in packages.items()}
    product = made[start] | {"type": "application"}
    others = sorted((c for i, c in made.items() if i != start), key=lambda c: c["bom-ref"])
    unhashed = [c["name"] for c in others if "hashes" not in c and c["name"] not in ("outrigger-http1", "outrigger-policy")]
    if len(others) < 30 or unhashed:
        sys.exit(f"sbom: {len(others)} components, without a checksum: {unhashed}")
    bom = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, product['bom-ref'] + lock)}",
        "version": 1,
        "metadata": {"component": product},
        "components": others,
        "dependencies": [
            {"ref": made[i]["bom-ref"], "dependsOn": [made[dep]["bom-ref"] for dep in needs[i]]} for i in sorted(needs)
        ],
    }
    path = Path(output)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(bom, indent=1) + "\n", encoding="utf-8")
    print(f"sbom: {len(others)} components in {output}")


if __name__ == "__main__":
    main()
