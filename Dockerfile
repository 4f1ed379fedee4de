# The image of Phalanx: `docker build -t phalanx .`, then
#
#   docker run -v phalanx_data:/data -p 9000:9000 -p 8080:8080 phalanx
#
# Docker 25 and newer refuse io_uring by default: deploy/README.md says what to add. The target `fly` is the same, but starts
# as root, which gives the data to its user before it runs the server as that.

FROM rust:1.95-slim-bookworm AS build
WORKDIR /src
COPY . .
# The names of functions stay, for what a panic says; the rest of what debuggers want is half of the size.
RUN cargo build --locked --release --bin phalanx --bin phalanx-server && \
    mkdir /out && \
    for program in phalanx phalanx-server; do objcopy --strip-debug "target/release/$program" "/out/$program"; done

FROM debian:bookworm-slim AS fly
# dnsget, for start.sh.
RUN apt-get update && apt-get install -y --no-install-recommends udns-utils && rm -rf /var/lib/apt/lists/* && \
    useradd --uid 10001 --user-group --no-create-home --home-dir /data --shell /usr/sbin/nologin phalanx && \
    install --directory --owner=phalanx --group=phalanx /data
COPY deploy/seccomp.json /usr/local/share/phalanx/
COPY deploy/entrypoint.sh deploy/start.sh /usr/local/bin/
COPY --from=build /out/ /usr/local/bin/
VOLUME /data
# Clients and peers; HTTP; gossip.
EXPOSE 9000 8080 7946/udp
HEALTHCHECK --interval=5s --timeout=5s --start-period=30s CMD ["phalanx", "health", "--timeout", "3s"]
ENTRYPOINT ["entrypoint.sh"]

FROM fly
USER 10001:10001
