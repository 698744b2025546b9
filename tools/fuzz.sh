#!/usr/bin/env bash
# Runs every fuzz target (or NAMES) for MINUTES (1) each.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
seconds=$((${MINUTES:-1} * 60))

# Coverage for libFuzzer is a flag that only nightly compilers take, unless they are told that this is no release.
export RUSTC_BOOTSTRAP=1
# Without a sanitizer: no code of ours is unsafe, and what is looked for are panics and failed assertions.
fuzz=(cargo fuzz run --sanitizer none)

# Chat as it comes: from there mutation gets further than from nothing.
seed_lines() { # corpus-dir
    cat chat/tests/fixtures/*.irc | split --lines=1 --suffix-length=4 --filter='tr -d "\r\n" >"$FILE"' - "$1/seed-"
}

found=0
for dir in */fuzz; do
    for target in "$dir"/fuzz_targets/*.rs; do
        [ -e "$target" ] || continue
        found=1
        name=$(basename "$target" .rs)
        if [ -n "${NAMES:-}" ] && [[ " $NAMES " != *" $name "* ]]; then continue; fi
        echo "=== $dir: $name, ${seconds}s"
        mkdir -p "$dir/corpus/$name"
        if [ "$name" = line ]; then seed_lines "$dir/corpus/$name"; fi
        "${fuzz[@]}" --fuzz-dir "$dir" "$name" -- -max_total_time="$seconds" -timeout=10 -print_final_stats=1
    done
done
[ $found = 1 ] || { echo "There is no fuzz target." >&2; exit 1; }
