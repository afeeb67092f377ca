#!/usr/bin/env bash
# Fuzzes one target after the other, each for so many seconds, and prints a table of what came of it.
#
#   fuzz/run.sh SECONDS [TARGET...]
#
# A target starts from fuzz/seeds/TARGET and from what earlier runs have left in fuzz/corpus/TARGET. A finding
# ends its target's run, and is a file in fuzz/artifacts/TARGET; then the script fails in the end. What each
# target printed is in fuzz/artifacts/TARGET/log.
set -euo pipefail
cd "$(dirname "$0")/.."

seconds=${1:-}
if ! [[ $seconds =~ ^[0-9]+$ ]]; then
  sed -n '2,4s/^# \{0,1\}//p' "$0" >&2
  exit 2
fi
shift
if ! command -v cargo-fuzz >/dev/null; then
  echo "cargo-fuzz is missing: cargo install --locked cargo-fuzz" >&2
  exit 2
fi
# cargo-fuzz wants what only nightly compilers offer, or others that are told to.
export RUSTC_BOOTSTRAP=1

if [ $# -gt 0 ]; then
  targets=("$@")
else
  mapfile -t targets < <(cargo fuzz list --fuzz-dir fuzz)
fi

# Files and KiB in a directory.
size() {
  local files bytes
  files=$(find "$1" -type f | wc -l)
  bytes=$(find "$1" -type f -printf '%s\n' | awk '{ sum += $1 } END { print sum + 0 }')
  echo "$files, $(((bytes + 1023) / 1024)) KiB"
}

row() { printf '| %-12s | %11s | %12s | %8s | %8s | %16s | %s |\n' "$@"; }

rows=()
failed=0
for target in "${targets[@]}"; do
  corpus=fuzz/corpus/$target artifacts=fuzz/artifacts/$target
  mkdir -p "$corpus" "$artifacts" "fuzz/seeds/$target"
  log=$artifacts/log
  started=$(mktemp)
  extra=()
  [ -f "fuzz/dictionaries/$target" ] && extra+=("-dict=fuzz/dictionaries/$target")
  echo "$target: fuzzing for $seconds s" >&2
  cargo fuzz build --fuzz-dir fuzz "$target" >"$log" 2>&1 || { tail -n 30 "$log" >&2; exit 2; }
  outcome=0
  # Whoever shares the machine shares the hour: the processor time says what was left of it.
  TIMEFORMAT='%U %S'
  processor=$( { time cargo fuzz run --fuzz-dir fuzz "$target" "$corpus" "fuzz/seeds/$target" -- \
    -max_total_time="$seconds" -timeout=30 -rss_limit_mb=2048 -print_final_stats=1 "${extra[@]}" \
    >>"$log" 2>&1; } 2>&1) || outcome=$?
  processor=$(awk '{ printf "%.0f", $1 + $2 }' <<<"$processor")
  found=$(find "$artifacts" -type f -newer "$started" ! -name log | wc -l)
  rm -f "$started"
  runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log" | tail -n 1)
  rate=$(sed -n 's/^stat::average_exec_per_sec: *//p' "$log" | tail -n 1)
  coverage=$(grep -ao ' cov: [0-9]*' "$log" | tail -n 1 | grep -o '[0-9]*' || true)
  if [ "$outcome" -ne 0 ] || [ "$found" -ne 0 ]; then
    failed=1
    grep -aE -A 2 "panicked at|ERROR: |SUMMARY: |exited with" "$log" | head -n 12 >&2 || true
    found="$found, see $artifacts"
  fi
  rows+=("$(row "$target" "$processor" "${runs:-?}" "${rate:-?}" "${coverage:-?}" "$(size "$corpus")" "$found")")
done

row target "processor s" executions "a second" coverage "corpus" findings
row --- ---: ---: ---: ---: ---: ---
printf '%s\n' "${rows[@]}"
exit "$failed"
