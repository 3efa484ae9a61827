# Two stages: everything needed to build, then nothing but the binary, the C library and root certificates.
#
#   docker build -t agent-hub .
#   docker run -p 3000:3000 -v agent-hub:/data -e JWT_SECRET="$(openssl rand -base64 48)" agent-hub
#
# The container listens on all addresses, so it does not start without JWT_SECRET (or AGENT_HUB_AUTH__JWKS_URL).

# Any image with the C library of the build stage and a user to run as. A smaller one: distroless `cc`, tag `nonroot`, and
# --build-arg RUN_AS=nonroot.
ARG RUNTIME=debian:bookworm-slim
FROM rust:1.95-bookworm AS build
WORKDIR /src
COPY . .
# The caches outlive the layer, so a change of one file does not build 400 crates again.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --release --locked --bin agent-hub \
    && cp target/release/agent-hub /agent-hub \
    && mkdir /data

FROM ${RUNTIME}
ARG RUN_AS=65532
COPY --from=build /agent-hub /usr/local/bin/agent-hub
COPY --from=build /src/LICENSE-MIT /src/LICENSE-APACHE /usr/share/doc/agent-hub/
COPY --from=build --chown=${RUN_AS}:${RUN_AS} /data /data
ENV HOST=0.0.0.0 \
    PORT=3000 \
    AGENT_HUB_DATA_DIR=/data \
    AGENT_HUB_LOG__FORMAT=json
WORKDIR /data
VOLUME /data
EXPOSE 3000
USER ${RUN_AS}
# SIGTERM drains: sockets are told to come back, running tasks are recovered by the next start.
STOPSIGNAL SIGTERM
ENTRYPOINT ["/usr/local/bin/agent-hub"]
