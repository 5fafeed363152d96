# The programs of certctl, each in a small image of its own that runs as nobody in particular:
#   docker build --target server .
# The other targets are migrate, agent and f5-mock (the last for load tests only).

FROM rust:1.95-bookworm AS build
WORKDIR /src
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/src/target \
    cargo build --release --locked -p certctl-server -p certctl-migrate -p certctl-agent -p certctl-f5-mock \
    && mkdir /out \
    && cp target/release/certctl-server target/release/certctl-migrate target/release/certctl-agent \
        target/release/certctl-f5-mock /out/

FROM debian:bookworm-slim AS base
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --user-group --home-dir /var/lib/certctl --create-home certctl
USER 10001:10001
WORKDIR /var/lib/certctl

FROM base AS migrate
COPY --from=build /out/certctl-migrate /usr/local/bin/
ENTRYPOINT ["certctl-migrate"]
CMD ["up"]

FROM base AS agent
COPY --from=build /out/certctl-agent /usr/local/bin/
ENV CERTCTL_KEY_DIR=/var/lib/certctl/keys
VOLUME /var/lib/certctl
ENTRYPOINT ["certctl-agent"]

FROM base AS f5-mock
COPY --from=build /out/certctl-f5-mock /usr/local/bin/
ENTRYPOINT ["certctl-f5-mock"]

# The last one is what a build without a target makes.
FROM base AS server
USER root
# The health check of a compose file asks from within.
RUN apt-get update \
    && apt-get install -y --no-install-recommends curl \
    && rm -rf /var/lib/apt/lists/*
USER 10001:10001
COPY --from=build /out/certctl-server /usr/local/bin/
ENV CERTCTL_SERVER_HOST=0.0.0.0 CERTCTL_DATA_DIR=/var/lib/certctl/data
VOLUME /var/lib/certctl
EXPOSE 8443
ENTRYPOINT ["certctl-server"]
