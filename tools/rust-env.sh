# Sourced by the Makefile and .ci/run: finds cargo where the shell does not.
# With another HOME (an empty one in CI) rustup would look for its toolchains there and find none; where they really are
# shows in cargo's own place, <home>/.cargo/bin/cargo.

for clamor_dir in "${CARGO_HOME:-}" "${HOME:-}/.cargo" "$(getent passwd "$(id -u)" | cut -d: -f6)/.cargo"; do
    if ! command -v cargo >/dev/null 2>&1 && [ -n "$clamor_dir" ] && [ -x "$clamor_dir/bin/cargo" ]; then
        PATH=$clamor_dir/bin:$PATH
    fi
done
if ! command -v cargo >/dev/null 2>&1; then
    echo "cargo is missing: install Rust with rustup" >&2
    exit 1
fi

clamor_dir=$(dirname "$(dirname "$(command -v cargo)")")
if [ -z "${RUSTUP_HOME:-}" ] && [ ! -d "${HOME:-/nonexistent}/.rustup" ] && [ -d "$(dirname "$clamor_dir")/.rustup" ]; then
    RUSTUP_HOME=$(dirname "$clamor_dir")/.rustup
    export RUSTUP_HOME
fi
# The crates that are downloaded already are worth keeping, where they may be written to.
if [ -z "${CARGO_HOME:-}" ] && [ ! -d "${HOME:-/nonexistent}/.cargo" ] && [ -d "$clamor_dir/registry" ] && [ -w "$clamor_dir" ]; then
    export CARGO_HOME=$clamor_dir
fi

# A machine that has the pinned compiler under the name `stable` only, and may not download it again, can build as well.
clamor_pin=$(sed -nE 's/^channel = "(.*)"/\1/p' rust-toolchain.toml)
if [ -z "${RUSTUP_TOOLCHAIN:-}" ] && command -v rustup >/dev/null 2>&1 && ! rustup toolchain list | grep -q "^$clamor_pin" \
    && rustc +stable --version 2>/dev/null | grep -qF "rustc $clamor_pin "; then
    export RUSTUP_TOOLCHAIN=stable
fi
export PATH
unset clamor_dir clamor_pin
