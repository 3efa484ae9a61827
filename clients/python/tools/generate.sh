#!/bin/sh
# Writes the message types from the protocol's JSON Schema; with --check, only says whether they are what the schema gives.
# Needs the virtual environment of scripts/setup-test.sh.
set -eu
cd "$(dirname "$0")/.."
target=src/agent_hub_client/protocol.py
made=$(mktemp -d)
trap 'rm -rf "$made"' EXIT

printf '%s\n' '"""The WebSocket messages of agent-hub. Generated from the JSON Schema by tools/generate.sh; do not edit."""' > "$made/header.py"
"${PYTHON_VENV:-.venv}/bin/datamodel-codegen" \
    --input ../../protocol/schema/agent-hub.v1.schema.json --input-file-type jsonschema \
    --output "$made/protocol.py" --output-model-type typing.TypedDict --target-python-version 3.11 \
    --enum-field-as-literal all --use-union-operator --use-standard-collections \
    --use-schema-description --use-field-description --use-single-line-docstring \
    --formatters builtin --custom-file-header-path "$made/header.py" --disable-timestamp

if [ "${1:-}" = --check ]; then
    cmp -s "$made/protocol.py" "$target" || {
        echo "clients/python/$target is not what the schema gives; run clients/python/tools/generate.sh" >&2
        exit 1
    }
else
    cp "$made/protocol.py" "$target"
fi
