#!/usr/bin/env bash
# The built-in segmenter from label maps to package: torsos, organ network, lesion network, evaluation, export with int8 weights, card figures.
#   bash models/training/train.sh --atlas LABELS.nii.gz [--labels DIR ...] [--cases CASES.json] [--work DIR] [--package DIR]
#   bash models/training/train.sh --smoke --atlas LABELS.nii.gz       minutes; see that it runs, the weights are useless
# --labels: a folder with NAME_ct.nii.gz, NAME_labels.nii.gz and labels.json; may be repeated (a hospital's corrected cases).
# --cases: real CT to measure on (README.md). An interrupted run goes on where it stopped; a further --labels needs a new --work.
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
root="$here/../.."
work="$root/out/training-abdomen" package="" atlas="" cases="" smoke="" labels=()
while [ $# -gt 0 ]; do
  case "$1" in
    --smoke) smoke=1; shift; continue ;;
    --atlas|--labels|--cases|--work|--package) [ $# -ge 2 ] || { echo "$1 needs a value" >&2; exit 2; } ;;
    *) echo "unknown option $1; see the head of $0" >&2; exit 2 ;;
  esac
  case "$1" in
    --atlas) atlas="$(realpath "$2")" ;;
    --labels) labels+=(--labels "$(realpath "$2")") ;;
    --cases) cases="$(realpath "$2")" ;;
    --work) work="$2" ;;
    --package) package="$2" ;;
  esac
  shift 2
done
[ -f "$atlas" ] || { echo "--atlas: no such file: $atlas" >&2; exit 2; }
mkdir -p "$work" && work="$(realpath "$work")"
package="$(realpath -m "${package:-$work/package}")"
each=24 organ_steps=() lesion_steps=() livers=40
[ -z "$smoke" ] || { each=1 organ_steps=(--steps 10,3) lesion_steps=(--steps 4) livers=2; }

python="${PYTHON:-$work/venv/bin/python}"
if [ ! -x "$python" ]; then
  python3 -m venv "$work/venv"
  "$work/venv/bin/pip" install -q --disable-pip-version-check -r "$here/requirements.txt"
fi
export OMP_NUM_THREADS=1
cd "$here/abdomen"
"$python" torso.py "$work/torsos" --atlas "$atlas" "${labels[@]}" --each "$each"
"$python" train.py "$work/torsos" "$work/organs" "${organ_steps[@]}"
"$python" lesions.py "$work/torsos" "$work/lesions" "${lesion_steps[@]}"
"$python" lesions.py "$work/torsos" "$work/lesions" --evaluate "$livers"
"$python" export.py "$package" --organs "$work/organs/model.pt" --lesions "$work/lesions"
if [ -n "$cases" ]; then
  "$python" evaluate_real.py "$package" "$cases" "$work/figures"
  "$python" export.py "$package" --organs "$work/organs/model.pt" --lesions "$work/lesions" --figures "$work/figures/figures.json"
fi
echo "package: $package"
