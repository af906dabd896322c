# syntax=docker/dockerfile:1
# An image of blocksd. Nobody has built it here: the tests of this repository have no container runtime.
#
#   docker build --tag blocksd .
#   docker run --publish 1060:1060 --volume telemetry:/var/lib/blocksd blocksd
#
# The daemon runs as an unprivileged user. The volume has the recordings; docs/operations.md has more.

FROM rust:1.95-bookworm AS build
WORKDIR /src
COPY . .
# The versions are those of Cargo.lock.
RUN cargo build --release --locked -p blocksd --features parquet,tls-aws-lc && strip target/release/blocksd

FROM debian:bookworm-slim
RUN apt-get update && apt-get install --yes --no-install-recommends curl && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10060 --home-dir /nonexistent --shell /usr/sbin/nologin blocksd \
    && install --directory --owner blocksd --group blocksd --mode 0700 /var/lib/blocksd
COPY --from=build /src/target/release/blocksd /usr/local/bin/blocksd
COPY --from=build /src/LICENSE-MIT /src/LICENSE-APACHE /usr/local/share/doc/blocksd/
USER 10060:10060
VOLUME /var/lib/blocksd
EXPOSE 1060 9106
# SIGTERM is a graceful shutdown: the devices' messages that have arrived are recorded first.
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=5s --start-period=10m \
    CMD ["curl", "--fail", "--silent", "--show-error", "--output", "/dev/null", "http://127.0.0.1:9106/healthz"]
ENTRYPOINT ["blocksd"]
# Arguments of `docker run` replace these. Within the container, every address is the container's own; what is reachable from outside
# is decided by --publish.
CMD ["serve", "--listen", "[::]:1060", "--metrics", "[::]:9106", "--record", "/var/lib/blocksd", "--output", "none"]
