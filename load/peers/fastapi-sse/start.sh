#!/bin/sh
# Becomes the server. Settings: ../README.md.
here=$(dirname "$0")
exec "$here/.venv/bin/python" "$here/server.py"
