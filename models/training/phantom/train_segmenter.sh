#!/usr/bin/env bash
# Makes models/segmenter-phantom from nothing but this repository: data, training, export, evaluation, manifest.
#   bash models/training/phantom/train_segmenter.sh [WORK_DIR]      needs `cargo build --release` done before; see README.md for minutes
# Interrupted runs go on: cases and finished stages in WORK_DIR are kept.
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
root="$here/../../.."
work="$(mkdir -p "${1:-$root/out/training}" && cd "${1:-$root/out/training}" && pwd)"
metwatch="${METWATCH:-$root/target/release/metwatch}"
package="$root/models/segmenter-phantom"
[ -x "$metwatch" ] || { echo "$metwatch is missing: cargo build --release, or set METWATCH" >&2; exit 1; }

if [ ! -x "$work/venv/bin/python" ]; then
  python3 -m venv "$work/venv"
  "$work/venv/bin/pip" install -q --disable-pip-version-check -r "$here/../requirements.txt"
fi
python="$work/venv/bin/python"
cd "$here"
"$python" make_data.py "$metwatch" "$work/cases"
# A stage saves while it runs, so only a finished one gets its name.
[ -f "$work/first.pt" ] || { "$python" train.py "$work/cases" "$work/first.partial.pt" && mv "$work/first.partial.pt" "$work/first.pt"; }
[ -f "$work/second.pt" ] || { "$python" train.py "$work/cases" "$work/second.partial.pt" --after "$work/first.pt" && mv "$work/second.partial.pt" "$work/second.pt"; }
commit="$(git -C "$root" rev-parse --short HEAD 2>/dev/null || echo unknown)"
"$python" export.py "$work/second.pt" "$work/package" --commit "$commit"
"$python" evaluate.py "$metwatch" "$work/package" "$work/metrics.json"
"$python" export.py "$work/second.pt" "$package" --commit "$commit" --metrics "$work/metrics.json"
