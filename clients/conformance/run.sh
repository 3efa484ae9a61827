#!/bin/sh
# The clients against the kit: every script, and a network that breaks. `make conformance` runs it.
#
#   clients/conformance/run.sh <cuts> [rust] [typescript] [python]      all three without a name
set -eu
root=$(cd "$(dirname "$0")/../.." && pwd)
cd "$root"
cuts=$1
shift
[ $# -gt 0 ] || set -- rust typescript python
kit=${AGENT_HUB_CONFORMANCE_BIN:-$root/target/debug/agent-hub-conformance}
AGENT_HUB_BIN=${AGENT_HUB_BIN:-$root/target/debug/agent-hub}
export AGENT_HUB_BIN

failed=
for client in "$@"; do
    case $client in
        rust) driver="'$kit' rust-driver" ;;
        typescript) driver="node clients/typescript/conformance/driver.mjs" ;;
        python) driver="clients/python/.venv/bin/python clients/python/conformance/driver.py" ;;
        *) echo "unknown client $client" >&2; exit 1 ;;
    esac
    echo "== $client"
    "$kit" --quiet client --driver "$driver" --patience 30 || failed="$failed $client"
    "$kit" network --driver "$driver" --cuts "$cuts" || failed="$failed $client"
done
[ -z "$failed" ] || { echo "failed:$failed" >&2; exit 1; }
