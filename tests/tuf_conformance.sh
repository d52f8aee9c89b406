#!/usr/bin/env bash
# Runs the public TUF client conformance suite against what `metwatch update` believes (about 60 s). The suite is no package of PyPI: give a
# checkout of https://github.com/theupdateframework/tuf-conformance (commit eec841c) and a Python that has tuf, pytest and pytest-json-report.
#   bash tests/tuf_conformance.sh CHECKOUT [PYTHON]
set -euo pipefail
cd "$(dirname "$0")/.."
suite=$(realpath "$1"); python=${2:-.venv/bin/python}
cargo build --release --example tuf_client
client="${CARGO_TARGET_DIR:-target}/release/examples/tuf_client"
cp tests/peers/tuf_client.xfails "$client.xfails"
PYTHONPATH="$suite" "$python" -m pytest "$suite/tuf_conformance" --entrypoint "$client" -q -p no:cacheprovider
