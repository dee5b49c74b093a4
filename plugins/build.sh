#!/bin/sh
# Builds plugins to target/plugins/NAME.wasm. Usage: plugins/build.sh [NAME ...], all by default.
#
# The Wasm target comes from rustup where it can be fetched. Where only package mirrors are reached, Debian's
# rustc-web and rust-web-src bring a compiler with the library's source instead. Guests have a target directory
# of their own, because two compilers in one would undo each other's work.
set -eu
cd "$(dirname "$0")/.."
target=wasm32-unknown-unknown
debian_source=/usr/lib/rustlib/src/rust/library

has_target() { rustup target list --installed 2>/dev/null | grep -qx "$target"; }
has_debian() { [ -x /usr/bin/rustc ] && [ -d "$debian_source/std" ]; }

if ! has_target && ! has_debian; then
    echo "fetching: the Rust target $target (rustup)"
    if ! timeout 60 rustup target add "$target" >/dev/null 2>&1; then
        echo "fetching: rustc-web and rust-web-src (Debian packages), because rustup could not"
        as_root=$([ "$(id -u)" = 0 ] || echo sudo)
        { $as_root apt-get update -qq &&
            $as_root apt-get install -y -qq --no-install-recommends rustc-web rust-web-src; } >/dev/null 2>&1 ||
            { echo "could not fetch the Wasm target: run 'rustup target add $target'" >&2; exit 1; }
    fi
fi

if [ $# -eq 0 ]; then
    for manifest in plugins/*/Cargo.toml tests/components/*/Cargo.toml; do
        name=$(basename "$(dirname "$manifest")")
        [ "$name" = sdk ] || set -- "$@" "$name"
    done
fi

export CARGO_TARGET_DIR=target/guest
flags="--quiet --locked --profile guest --target $target"
if ! has_target; then
    linker=$(rustc --print sysroot)/lib/rustlib/$(rustc -vV | sed -n 's/^host: //p')/bin/rust-lld
    export RUSTC=/usr/bin/rustc RUSTC_BOOTSTRAP=1 CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER="$linker"
    flags="$flags -Zbuild-std=std,panic_abort"
fi
# A version with each name: a plugin may be called as a crate that somebody depends on, such as `hmac`.
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml)
# shellcheck disable=SC2086,SC2046 # the flags are words
cargo build $flags $(printf -- "-p %s@$version " "$@")

mkdir -p target/plugins
for name in "$@"; do
    built=$CARGO_TARGET_DIR/$target/guest/$(echo "$name" | tr - _).wasm
    # Copied only when it changed, and never half: the engine may be watching.
    cmp -s "$built" "target/plugins/$name.wasm" || {
        cp "$built" "target/plugins/.$name.wasm.new"
        mv "target/plugins/.$name.wasm.new" "target/plugins/$name.wasm"
    }
done
