#!/bin/sh
# Makes sure that what the tests need is there. Run by `make test`; does nothing when everything is.
# Works as root (CI images) and, with sudo, as anybody.
set -eu
cd "$(dirname "$0")/.."

# Debian packages, as "<command it brings>:<package>". A C compiler for SQLite and aws-lc; the rest is for tests/browser, which also
# runs the curl session of README.md.
NEEDED="cc:gcc curl:curl node:nodejs npm:npm"

missing=""
for pair in $NEEDED; do
    command -v "${pair%%:*}" >/dev/null 2>&1 || missing="$missing ${pair#*:}"
done
# A browser, and a font for its pictures. CHROMIUM names another one.
[ -n "${CHROMIUM:-}" ] || command -v chromium >/dev/null 2>&1 || missing="$missing chromium fonts-dejavu-core"

# Python, with what makes virtual environments.
python3 -c 'import ensurepip, venv' 2>/dev/null || missing="$missing python3 python3-venv"

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

node -e 'process.exit(Number(process.versions.node.split(".")[0]) < 20 ? 1 : 0)' || {
    echo "setup-test: the browser tests need Node 20 or newer, this is $(node --version)" >&2
    exit 1
}

# What the lock files say, and again only when they have changed.
for directory in tests/browser tests/contracts protocol/check clients/typescript console; do
    if [ -f "$directory/package-lock.json" ] && ! cmp -s "$directory/package-lock.json" "$directory/node_modules/.installed"; then
        (cd "$directory" && npm ci --no-audit --no-fund --loglevel=error)
        cp "$directory/package-lock.json" "$directory/node_modules/.installed"
    fi
done

python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
    echo "setup-test: the tests of the Python client need Python 3.11 or newer, this is $(python3 --version)" >&2
    exit 1
}
lock=clients/python/requirements-dev.txt
venv=clients/python/.venv
if ! cmp -s "$lock" "$venv/.installed" || ! "$venv/bin/python" -c '' 2>/dev/null; then
    python3 -m venv --clear "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check --require-hashes --only-binary :all: -r "$lock"
    cp "$lock" "$venv/.installed"
fi
