#!/bin/sh
# Installs the peers from their lock files: all, or those that are named. Does nothing for what is installed already.
set -eu
cd "$(dirname "$0")"
[ $# -gt 0 ] || set -- express-ws fastapi-sse socketio
for peer in "$@"; do
    case $peer in
    express-ws | socketio)
        cmp -s "$peer/package-lock.json" "$peer/node_modules/.installed" && continue
        (cd "$peer" && npm ci --no-audit --no-fund --loglevel=error)
        cp "$peer/package-lock.json" "$peer/node_modules/.installed"
        ;;
    fastapi-sse)
        cmp -s "$peer/requirements.txt" "$peer/.venv/.installed" && continue
        python3 -m venv --clear "$peer/.venv"
        "$peer/.venv/bin/pip" install --quiet --disable-pip-version-check --require-hashes --only-binary :all: -r "$peer/requirements.txt"
        cp "$peer/requirements.txt" "$peer/.venv/.installed"
        ;;
    *)
        echo "install.sh: no peer is called $peer" >&2
        exit 2
        ;;
    esac
done
