#!/bin/bash
# Receiving CT over DICOM: yunying against its peers, alternating, as a table. REPS=5 N=600 ASSOC=1,4,8 NAMES=yunying,orth12t,storescpB
set -euo pipefail
cd "$(dirname "$0")"
B=${BENCH_HOME:-$HOME/.cache/yunying-bench}
PY=$B/venv/bin/python
[ -x "$PY" ] && [ -d "$B/corpus/ct" ] || { echo "Peers and corpus are missing: run tests/load/setup.sh once (about 2.5 GB under $B)."; exit 1; }
OUT=$B/results/store-$(date +%Y%m%d-%H%M%S).jsonl
NAMES=${NAMES:-yunying,orth12t,storescpB}
[ -x "$B/trixie/usr/sbin/Orthanc" ] || NAMES=${NAMES//orth12t/orth10t}
"$PY" matrix.py --names "$NAMES" --assoc "${ASSOC:-1,4,8}" --reps "${REPS:-5}" --n "${N:-600}" --dir "$B/corpus/ct" --out "$OUT" >/dev/null
"$PY" summ.py "$OUT"
echo; echo "one line per run: $OUT"
