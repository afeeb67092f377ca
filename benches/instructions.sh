#!/usr/bin/env bash
# Counts the user-space instructions that a message costs, with valgrind, and compares them with
# instructions.md. Unlike time they hardly depend on the machine or on what else it does.
#
#   benches/instructions.sh            fails if a row is more than 5 % worse than the kept one
#   benches/instructions.sh --update   keeps the new figures
set -euo pipefail
cd "$(dirname "$0")"

kept=instructions.md
few=5000
many=25000
runs=5
worse_max_percent=5

command -v valgrind >/dev/null || {
  echo "valgrind is not installed (Debian: apt-get install valgrind)" >&2
  exit 1
}
case "${1-}" in
'' | --update) ;;
*)
  echo "usage: $0 [--update]" >&2
  exit 2
  ;;
esac

cargo build --quiet --release --no-default-features --bin instructions
program=${CARGO_TARGET_DIR:-target}/release/instructions
directory=$(mktemp -d)
trap 'rm -rf "$directory"' EXIT

# Instructions of a whole run: row, count. The least of several runs, as the engine's thread and its
# timers sometimes add some of their own.
collected() {
  for _ in $(seq "$runs"); do
    valgrind --tool=callgrind --callgrind-out-file="$directory/out" "$program" "$1" "$2" 2>"$directory/log" ||
      { cat "$directory/log" >&2; exit 1; }
    sed -n 's/.*Collected : \([0-9]*\).*/\1/p' "$directory/log"
  done | sort -n | head -n 1
}

fresh=$directory/table
{
  echo "# Instructions per message"
  echo
  echo "User-space instructions of both ends, counted by \`instructions.sh\`; \`--update\` keeps new ones."
  echo
  echo "| | instructions |"
  echo "| --- | --- |"
  for row in $("$program"); do
    low=$(collected "$row" "$few")
    high=$(collected "$row" "$many")
    echo "| $row | $(((high - low) / (many - few))) |"
  done
} >"$fresh"
cat "$fresh"

if [ "${1-}" = --update ]; then
  cp "$fresh" "$kept"
  echo "kept in benches/$kept"
  exit
fi
[ -e "$kept" ] || {
  echo "there is no benches/$kept to compare with: keep one with --update" >&2
  exit 1
}

# The figure of a row in a table.
figure() { sed -n "s/^| $1 | \([0-9]*\) |\$/\1/p" "$2"; }

failed=0
for row in $("$program"); do
  now=$(figure "$row" "$fresh")
  before=$(figure "$row" "$kept")
  if [ -z "$before" ]; then
    echo "$row has no kept figure: keep one with --update" >&2
    failed=1
  elif [ $((now * 100)) -gt $((before * (100 + worse_max_percent))) ]; then
    echo "$row is more than $worse_max_percent % worse: $now instructions per message, $before kept" >&2
    failed=1
  elif [ $((now * 100)) -lt $((before * (100 - worse_max_percent))) ]; then
    echo "$row is more than $worse_max_percent % better ($before kept): keep that with --update"
  fi
done
exit "$failed"
