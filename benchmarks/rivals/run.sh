#!/usr/bin/env bash
# Linear label trees of other projects on a raw-text folder, scored beside runs of fanin:
#
#     benchmarks/rivals/run.sh DATA OUT [RUN...]
#
# RIVALS         which of them; default "parabel bonsai xr-linear plt"
# FANIN_PYTHON   the Python that has fanin; default .venv/bin/python
# RIVALS_VENV    the rivals' environment, made where it is missing; default build/rivals-venv
set -euo pipefail
if [ $# -lt 2 ]; then
  echo "usage: $0 DATA OUT [RUN...]" >&2
  exit 2
fi
data=$1 out=$2
shift 2
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
python=${FANIN_PYTHON:-$root/.venv/bin/python}
venv=${RIVALS_VENV:-$root/build/rivals-venv}

if [ ! -x "$venv/bin/python" ]; then
  "$python" -m venv "$venv"
fi
"$venv/bin/python" -m pip install --quiet -r "$here/requirements.txt"
# What these two ask for beside numpy and scipy serves parts of them that are not used here.
"$venv/bin/python" -m pip install --quiet --no-deps -r "$here/requirements-no-deps.txt"

arguments=()
for kind in ${RIVALS:-parabel bonsai xr-linear plt}; do
  if [ ! -f "$out/$kind/figures.json" ]; then  # written last
    rm -rf "${out:?}/$kind"
    mkdir -p "$out"
    echo "$kind: training; what it says goes to $out/$kind.log" >&2
    if ! "$venv/bin/python" "$here/linear_trees.py" "$data" "$kind" "$out/$kind" > "$out/$kind.log" 2>&1; then
      tail -n 3 "$out/$kind.log" | tail -c 2000 >&2  # its progress bar writes megabytes
      exit 1
    fi
  fi
  arguments+=(--rival "$out/$kind")
done
for run in "$@"; do
  arguments+=(--run "$run")
done
"$python" "$here/score.py" "$data" "${arguments[@]}"
