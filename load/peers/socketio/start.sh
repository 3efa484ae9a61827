#!/bin/sh
# Becomes the server. Settings: ../README.md.
exec node "$(dirname "$0")/server.mjs"
