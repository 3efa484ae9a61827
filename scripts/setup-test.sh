#!/bin/sh
# Makes sure that what the tests need is there. Run by `make test`; does nothing when everything is.
# Works as root (CI images) and, with sudo, as anybody.
set -eu

# Debian packages, as "<command it brings>:<package>". A C compiler for SQLite and aws-lc; nothing else so far.
NEEDED="cc:gcc"

missing=""
for pair in $NEEDED; do
    command -v "${pair%%:*}" >/dev/null 2>&1 || missing="$missing ${pair#*:}"
done

if [ -n "$missing" ]; then
    if ! command -v apt-get >/dev/null 2>&1; then
        echo "setup-test: please install:$missing" >&2
        exit 1
    fi
    as_root=""
    [ "$(id -u)" -eq 0 ] || as_root="sudo"
    $as_root apt-get update -qq
    # shellcheck disable=SC2086 # a list of words
    DEBIAN_FRONTEND=noninteractive $as_root apt-get install -y -qq --no-install-recommends $missing
fi

for component in rustfmt clippy; do
    if ! cargo "$(echo "$component" | sed 's/^rustfmt$/fmt/')" --version >/dev/null 2>&1; then
        echo "setup-test: please install $component: rustup component add $component" >&2
        exit 1
    fi
done

cargo nextest --version >/dev/null 2>&1 || echo "setup-test: cargo-nextest is not installed, cargo test runs the tests (slower)" >&2
