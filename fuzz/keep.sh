#!/usr/bin/env bash
# Makes fuzz/seeds/TARGET anew: few small inputs that reach all code that those in fuzz/corpus/TARGET and the
# present seeds reach. Seeds with a name of their own stay as they are.
#
#   fuzz/keep.sh [TARGET...]
#
# `cargo fuzz cmin` keeps an input for each new count of a branch, some thousand files; this keeps one
# for each branch.
set -euo pipefail
cd "$(dirname "$0")/.."
export RUSTC_BOOTSTRAP=1

if [ $# -gt 0 ]; then
  targets=("$@")
else
  mapfile -t targets < <(cargo fuzz list --fuzz-dir fuzz)
fi

for target in "${targets[@]}"; do
  seeds=fuzz/seeds/$target corpus=fuzz/corpus/$target
  mkdir -p "$seeds" "$corpus"
  few=$(mktemp -d)
  cargo fuzz run --fuzz-dir fuzz "$target" "$few" "$seeds" "$corpus" -- \
    -set_cover_merge=1 -use_counters=0 -max_len=1000 >"$few.log" 2>&1 || { tail -n 20 "$few.log" >&2; exit 1; }
  # The fuzzer names its files by their hash.
  find "$seeds" -type f -regextype posix-extended -regex '.*/[0-9a-f]{40}' -delete
  for input in "$few"/*; do
    same=$(find "$seeds" -type f -size "$(stat -c %s "$input")"c -exec cmp -s {} "$input" \; -print -quit)
    [ -n "$same" ] || cp "$input" "$seeds/"
  done
  rm -rf "$few" "$few.log"
  echo "$target: $(find "$seeds" -type f | wc -l) seeds, $(du -bs --apparent-size "$seeds" | cut -f 1) bytes"
done
