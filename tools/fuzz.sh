#!/usr/bin/env bash
# Runs every fuzz target for MINUTES (1) each.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
seconds=$((${MINUTES:-1} * 60))

if ! rustc +nightly --version >/dev/null 2>&1; then
    echo "Fuzzing needs a nightly compiler: rustup toolchain install nightly" >&2
    exit 1
fi
found=0
for dir in */fuzz; do
    for target in "$dir"/fuzz_targets/*.rs; do
        [ -e "$target" ] || continue
        found=1
        name=$(basename "$target" .rs)
        echo "=== $dir: $name, ${seconds}s"
        cargo +nightly fuzz run --fuzz-dir "$dir" "$name" -- -max_total_time="$seconds" -print_final_stats=1
    done
done
[ $found = 1 ] || { echo "There is no fuzz target." >&2; exit 1; }
