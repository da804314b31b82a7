# The production image: the exporter, its locked dependencies, nothing else. State lives in a volume; the rest of the
# file system may be mounted read-only.
#
#   docker build --build-arg VERSION="$(git describe --tags --always)" -t apigateway-exporter .
#   docker run --read-only -p 10610:10610 -v apigateway-exporter:/var/lib/apigateway-exporter \
#     -v "$PWD/exporter.yaml:/etc/apigateway-exporter/exporter.yaml:ro" apigateway-exporter
#
# The base is pinned by tag, not by digest: the digest has not been looked up. Whoever publishes this image should
# add it to both FROM lines (`docker buildx imagetools inspect python:3.13-slim-trixie`).

FROM python:3.13-slim-trixie AS build

ENV PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_NO_INPUT=1
WORKDIR /src

# The inner loops are compiled (exporter/loops.pyx). Nothing of this stage but /opt/apigateway-exporter goes further, so
# that neither the compiler's version matters nor what apt leaves.
# hadolint ignore=DL3008,DL3009
RUN apt-get update -qq && apt-get install -y -qq --no-install-recommends gcc libc6-dev

RUN python -m venv /opt/build && python -m venv --without-pip /opt/apigateway-exporter

# The dependencies before the code: they change less often.
COPY requirements/build.txt requirements/run.txt requirements/
RUN /opt/build/bin/pip install --require-hashes --no-deps -r requirements/build.txt && \
    /opt/build/bin/pip --python /opt/apigateway-exporter install --require-hashes --no-deps --only-binary :all: \
      -r requirements/run.txt

# What git knows is not here, so the version is told.
ARG VERSION=0.0.0
COPY . .
RUN SETUPTOOLS_SCM_PRETEND_VERSION="${VERSION#v}" APIGATEWAY_EXPORTER_COMPILE=always \
      /opt/build/bin/pip wheel --no-deps --no-build-isolation --wheel-dir dist . && \
    /opt/build/bin/pip --python /opt/apigateway-exporter install --no-deps --no-index dist/*.whl


FROM python:3.13-slim-trixie

LABEL org.opencontainers.image.title="apigateway-exporter" \
      org.opencontainers.image.description="Tells why Amazon API Gateway requests fail: metrics and traces from its CloudWatch logs" \
      org.opencontainers.image.licenses="Apache-2.0"

# A volume made here takes over this owner and mode.
RUN install -d -o 65532 -g 65532 -m 0750 /var/lib/apigateway-exporter
COPY --from=build /opt/apigateway-exporter /opt/apigateway-exporter

ENV PATH=/opt/apigateway-exporter/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
USER 65532:65532
VOLUME /var/lib/apigateway-exporter
EXPOSE 10610
STOPSIGNAL SIGTERM
ENTRYPOINT ["/opt/apigateway-exporter/bin/apigateway-exporter"]
CMD ["run", "--config.file", "/etc/apigateway-exporter/exporter.yaml"]
