#!/usr/bin/env bash
# Shows that the fault suite can fail: each protection in turn is left out of a development build, and a test must go red
# that is green with it. Writes docs/protections.md. `PROTECTIONS="dedupe epoch"` runs these alone and writes nothing.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

ROUNDS=faults::rounds::whatever_is_killed_paused_or_cut_nothing_is_lost_and_nothing_counts_twice
# protection | test binary | test | faults of it, where it has several
SCENARIOS="
dedupe|pipeline|$ROUNDS|delay
epoch|store|lease::a_fenced_commit_writes_nothing_and_its_owner_learns_it|
sequence-in-transaction|pipeline|$ROUNDS|cut-postgres
warm-up|pipeline|$ROUNDS|hand-over
batch-numbers|pipeline|faults::redundancy_one::what_a_worker_dropped_lies_in_a_gap_no_longer_than_nats_was_away|
acknowledgement|pipeline|$ROUNDS|hang-nats
set-directives|pipeline|faults::phrases::a_phrase_counts_from_its_directive_on_however_long_its_set_is_on_the_way|
late-spill|aggregate|late::a_late_spill_counts_only_where_no_other_source_was_listening|
"

logs=target/protections
table=$logs/table.md
mkdir -p "$logs"
: >"$table"

# The run without `CLAMOR_WITHOUT` shows that it is the protection that makes the difference.
run() { # protection or nothing, binary, test, faults, log
    CLAMOR_WITHOUT=$1 FAULTS=$4 cargo nextest run --workspace --no-tests fail \
        --filterset "binary(=$2) & test(=$3)" >"$5" 2>&1
}

passed=0
while IFS='|' read -r protection binary test faults; do
    [ -n "$protection" ] || continue
    [ -z "${PROTECTIONS:-}" ] || [[ " $PROTECTIONS " == *" $protection "* ]] || continue
    printf '%s: ' "$protection"
    log=$logs/$protection.log
    if ! run "" "$binary" "$test" "$faults" "$log.with"; then
        echo "the test fails with all protections: see $log.with" >&2
        exit 1
    fi
    if run "$protection" "$binary" "$test" "$faults" "$log"; then
        echo "$test passes without it"
        passed=1
        continue
    fi
    said=$(sed -n '/panicked at/{n;p;q}' "$log" | sed 's/^ *//; s/|/\\|/g')
    if [ -z "$said" ]; then
        echo "$test did not run: see $log" >&2
        exit 1
    fi
    echo "$said"
    echo "| \`$protection\` | \`$binary::$test\`${faults:+ with \`FAULTS=$faults\`} | $said |" >>"$table"
done <<<"$SCENARIOS"
[ "$passed" = 0 ] || exit 1
[ -z "${PROTECTIONS:-}" ] || exit 0

{
    cat <<'HEAD'
# The fault suite can fail

Written by `make protections`, which leaves one protection at a time out of a development build (`CLAMOR_WITHOUT`, see `worker/src/protection.rs`) and runs a test that passes with it. The figures are those of one run; a release build has no such switch.

| without | this test fails | and says |
|---|---|---|
HEAD
    cat "$table"
} >docs/protections.md
echo "wrote docs/protections.md"
