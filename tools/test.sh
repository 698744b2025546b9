#!/usr/bin/env bash
# Everything that a change must pass. Called by `make test`; the steps run from the cheapest to the dearest, and the first
# that fails ends the run.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

profile=${CARGO_PROFILE:-dev}
# More of them at once only make timeouts: each pipeline test is a whole pipeline.
threads=${TEST_THREADS:-2}
[ "$profile" = dev ] && folder=debug || folder=$profile

# What takes root is left out for another user, and that is said at the end; with CI set it is not left out. For root it
# never is, whatever the environment says: a node that does not come up is a failure.
unset CLAMOR_TEST_UNPRIVILEGED
if [ "$(id -u)" != 0 ] && [ -z "${CI:-}" ]; then export CLAMOR_TEST_UNPRIVILEGED=1; fi

step() { printf '\n=== %s (%ds)\n' "$*" "$SECONDS"; }

# The database of advisories lies outside the package registries: a machine without it can still check the rest.
check_advisories() {
    local log
    log=$(mktemp)
    if cargo deny check advisories 2>"$log"; then
        rm -f "$log"
    elif grep -qiE 'failed to (fetch|clone|open|acquire|load) .*advisor|advisory database|failed to fetch' "$log"; then
        rm -f "$log"
        echo "NOT CHECKED: advisories. Their database could not be fetched from this machine."
    else
        cat "$log" >&2
        rm -f "$log"
        return 1
    fi
}

refuse_ignored_tests() {
    local ignored
    ignored=$(cargo nextest list --workspace --cargo-profile "$profile" --run-ignored only --message-format oneline)
    if [ -n "$ignored" ]; then
        printf 'A test that is ignored tests nothing; remove it or its #[ignore]:\n%s\n' "$ignored" >&2
        return 1
    fi
}

step "formatting"
cargo fmt --all --check

step "dependencies: bans, licences, sources"
cargo deny check bans licenses sources
step "dependencies: advisories"
check_advisories

step "clippy"
cargo clippy --workspace --all-targets --profile "$profile" -- -D warnings

step "documentation"
RUSTDOCFLAGS="-D warnings -A rustdoc::private_intra_doc_links" cargo doc --workspace --no-deps --document-private-items --profile "$profile" --quiet

step "generated files"
# These tests compare what is checked in with what its sources say.
cargo test --workspace --profile "$profile" --test generated --test generated_code --quiet

step "building the programs and the tests"
# Building the tests builds the programs that they start, with the same features: `cargo build --bins` would build a part
# of the dependencies a second time.
cargo nextest run --workspace --cargo-profile "$profile" --no-run

step "no test is ignored"
refuse_ignored_tests

step "examples in the documentation"
cargo test --workspace --doc --profile "$profile" --quiet

# The store supports every version from 15 on; the oldest and the newest are tested. What needs no database, once; the
# faults, which take minutes, once.
step "tests with PostgreSQL 18"
CLAMOR_TEST_POSTGRES=18 cargo nextest run --workspace --cargo-profile "$profile" --test-threads "$threads" \
    --filterset 'kind(test) & (package(clamor-worker) | package(clamor-testkit)) & not binary(ingest) & not binary(kube) & not (binary(pipeline) & test(/^faults::/))'
step "tests with PostgreSQL 15, and all others"
CLAMOR_TEST_POSTGRES=15 cargo nextest run --workspace --cargo-profile "$profile" --test-threads "$threads"
step "done: target/$folder, all tests passed"
if [ -n "${CLAMOR_TEST_UNPRIVILEGED:-}" ]; then
    echo "NOT TESTED, because it takes root: full disks; PostgreSQL of root, which runs as another user; pods on a node."
fi
