# The exporter with its demo (an embedded CloudWatch), for deploy/compose. Not for production: see /Dockerfile.
FROM python:3.13-slim-trixie

ENV PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_NO_INPUT=1 \
    PIP_ROOT_USER_ACTION=ignore \
    PYTHONUNBUFFERED=1
WORKDIR /src

# The demo's dependencies are locked with those of development.
COPY requirements/dev.txt requirements/
RUN pip install --require-hashes --no-deps --only-binary :all: -r requirements/dev.txt

# What git knows is not here, so the version is told.
ARG VERSION=0.0.0
COPY . .
RUN SETUPTOOLS_SCM_PRETEND_VERSION="${VERSION#v}" pip install --no-deps --no-build-isolation .

USER 65532:65532
EXPOSE 10610
ENTRYPOINT ["apigateway-exporter"]
CMD ["demo", "--web.listen-address", "0.0.0.0:10610"]
