# For those who have a container engine: docker build -t registry.example/clamor:0.1.0 .
# `make image` makes an equivalent image without one, with the labels of version and revision as well. The compiler is
# that of rust-toolchain.toml; a test compares them.
FROM rust:1.95.0-bookworm AS build
WORKDIR /clamor
COPY . .
RUN folder=$(tools/image.sh programs) \
    && mkdir -p /image/etc/ssl/certs /image/tmp \
    && chmod 1777 /image/tmp \
    && strip --strip-debug -o /image/clamor-operator "$folder/clamor-operator" \
    && strip --strip-debug -o /image/clamor-worker "$folder/clamor-worker" \
    && cp /etc/ssl/certs/ca-certificates.crt /image/etc/ssl/certs/

FROM scratch
LABEL org.opencontainers.image.title=clamor \
      org.opencontainers.image.description="Measures Twitch chat" \
      org.opencontainers.image.licenses=Apache-2.0
COPY --from=build /image /
ENV PATH=/
USER 65532:65532
ENTRYPOINT ["/clamor-worker"]
