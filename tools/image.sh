#!/usr/bin/env bash
# The image: both programs, the public certificate authorities, and nothing else.
#
#   tools/image.sh                   builds the programs and writes the image as an OCI archive (`make image`)
#   tools/image.sh programs          only builds them, static, and prints their folder; the Dockerfile calls it
#   tools/image.sh pack FOLDER [OUT] puts the programs of this folder into an image
#
# CARGO_PROFILE=dev takes the programs that the tests are built with, which are not static, and puts the shared libraries
# that they ask for beside them: a cluster test then needs no second build. IMAGE names the image.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

programs=(clamor-operator clamor-worker)
authorities=/etc/ssl/certs/ca-certificates.crt
target=${CARGO_TARGET_DIR:-$PWD/target}
version=$(sed -nE '/^\[workspace\.package\]/,/^\[/s/^version = "(.*)"/\1/p' Cargo.toml)
image=${IMAGE:-localhost/clamor:$version}

say() { printf 'image: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }

# Static, for an image without a base. The target is named, or its flags would reach build scripts as well, which cannot be
# static. What is said about places of this machine is the same on any other one.
build_static() {
    local triple flags cargo_home
    triple=$(uname -m)-unknown-linux-gnu
    cargo_home=${CARGO_HOME:-${HOME:-}/.cargo}
    flags=(-Ctarget-feature=+crt-static "--remap-path-prefix=$PWD=clamor" "--remap-path-prefix=$cargo_home=cargo")
    CARGO_ENCODED_RUSTFLAGS=$(IFS=$'\x1f'; echo "${flags[*]}") \
        cargo build --locked --release --target "$triple" --package clamor-operator --package clamor-worker --bins >&2
    echo "$target/$triple/release"
}

# As the tests build them, with the same features: cargo then finds everything done.
build_dev() {
    cargo test --workspace --no-run --quiet >&2
    echo "$target/debug"
}

# What the loader takes beside a program: nothing where it is static.
libraries() { # program...
    local program
    for program; do
        { ldd "$program" 2>/dev/null || true; } | grep -Eo '/[^ ]+' || true
    done | sort -u
}

pack() { # folder out
    local staging name library files=() labels=()
    [ -r "$authorities" ] || die "$authorities is missing: install ca-certificates"
    files+=("$authorities:$authorities")
    staging=$(mktemp -d)
    # shellcheck disable=SC2064
    trap "rm -rf '$staging'" EXIT
    for name in "${programs[@]}"; do
        [ -x "$1/$name" ] || die "$1/$name is not built"
        # A backtrace still names functions; the lines would be two thirds of the image.
        strip --strip-debug -o "$staging/$name" "$1/$name"
        files+=("$staging/$name:/$name")
    done
    while read -r library; do files+=("$library:$library"); done < <(libraries "${programs[@]/#/$1/}")
    labels+=(--label "org.opencontainers.image.title=clamor" --label "org.opencontainers.image.version=$version")
    labels+=(--label "org.opencontainers.image.description=Measures Twitch chat")
    labels+=(--label "org.opencontainers.image.licenses=Apache-2.0")
    if revision=$(git rev-parse HEAD 2>/dev/null); then
        labels+=(--label "org.opencontainers.image.revision=$revision")
        export SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}
    fi
    mkdir -p "$(dirname "$2")"
    python3 tools/scratch-image.py "${labels[@]}" "$2" "$image" /clamor-worker "${files[@]}"
    say "$image is in $2 ($(du -h "$2" | cut -f1))"
}

case ${1:-} in
    programs) build_static ;;
    pack) pack "${2:?the folder of the programs}" "${3:-$target/clamor.oci.tar}" ;;
    "")
        if [ "${CARGO_PROFILE:-release}" = dev ]; then folder=$(build_dev); else folder=$(build_static); fi
        pack "$folder" "$target/clamor.oci.tar"
        ;;
    *)
        sed -nE '2,/^set /{s/^# ?//p}' "${BASH_SOURCE[0]}" >&2
        exit 2
        ;;
esac
