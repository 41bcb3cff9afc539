#!/usr/bin/env bash
# Guess:     what follows the script in `torchrun … train.py --log out` is the script's, as `…` of its usage says.
# Behaviour: torchrun refuses it: "ambiguous option: --log could match --log-dir, --log_dir, …". Every option of the
#            script that abbreviates one which torchrun knows under two names (--log, --start, --max, --master) ends the
#            launch; one spelled out in full (--log-dir) goes to the script. `torchrun … -- train.py --log out` works.
# Versions:  torch 2.13.0, Python 3.11
# Source:    https://docs.python.org/3/library/argparse.html#nargs (REMAINDER) and #allow-abbrev; torch/distributed/run.py:
#            get_args_parser() leaves allow_abbrev on and gives each option a name with "-" and one with "_"
# Matters:   a training command that runs as `python train.py --start CHECKPOINT` or under `accelerate launch` dies under
#            torchrun, on the cluster, before the script is started.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
python3 -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -q 'torch==2.13.0'
cd "$tmp"

echo 'import sys; print("ARGS", *sys.argv[1:])' > train.py
export OMP_NUM_THREADS=1 PATH="$tmp/venv/bin:$PATH"
run() {
  local out
  out=$(torchrun --standalone --nproc_per_node 1 "$@" 2>&1) || true
  printf '%-32s %s\n' "$*" "$(grep -oE 'ARGS .*|ambiguous option: .{0,40}' <<<"$out" | tail -1)" | tee -a seen
}
for option in --log --start --max --master; do run train.py "$option" x; done
run train.py --log-dir x
run train.py --epochs 3
for option in --log --start; do run -- train.py "$option" x; done

[ "$(grep -c 'ambiguous option' seen)" = 4 ]
for kept in 'ARGS --log-dir x' 'ARGS --epochs 3' 'ARGS --log x' 'ARGS --start x'; do grep -qF "$kept" seen; done
