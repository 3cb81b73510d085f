# Two images from one file: `--target service` and `--target operator`. Python 3.11 and up.
ARG BASE_IMAGE=python:3.13-slim

FROM ${BASE_IMAGE} AS base
# SAFEPATH: a mounted working directory must not shadow a module. Bytecode is compiled below, as the root may be read-only.
ENV PATH=/opt/slipway/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONSAFEPATH=1 \
    PYTHONUNBUFFERED=1

# An environment without pip: what runs in a pod installs nothing.
FROM base AS build
RUN python3 -m venv --without-pip /opt/slipway
WORKDIR /src
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_NO_COMPILE=1 \
    PIP_NO_DEPS=1 \
    PIP_PYTHON=/opt/slipway/bin/python \
    PIP_ROOT_USER_ACTION=ignore

# A wheel for each component, in an environment of its own, so that no image ever holds what builds it.
FROM build AS wheels
COPY requirements/build.txt requirements/
RUN pip install --require-hashes -r requirements/build.txt
COPY pyproject.toml LICENSE ./
COPY clients clients
COPY doctor doctor
COPY monitoring monitoring
COPY operator operator
COPY service service
RUN pip wheel --no-build-isolation --wheel-dir /wheels/service ./service \
    && pip wheel --no-build-isolation --wheel-dir /wheels/operator ./operator ./doctor ./clients ./monitoring

FROM build AS build-service
COPY requirements/service.txt requirements/
RUN pip install --require-hashes -r requirements/service.txt
COPY --from=wheels /wheels/service wheels
RUN pip install wheels/*.whl \
    && python -m compileall -q -j 0 --invalidation-mode unchecked-hash /opt/slipway/lib

FROM build AS build-operator
COPY requirements/operator.txt requirements/
RUN pip install --require-hashes -r requirements/operator.txt
COPY --from=wheels /wheels/operator wheels
RUN pip install wheels/*.whl \
    && python -m compileall -q -j 0 --invalidation-mode unchecked-hash /opt/slipway/lib

FROM base AS runtime
ARG VERSION=0.1.0
LABEL org.opencontainers.image.vendor="Slipway" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}"
# By number: the kubelet cannot tell that a name is not root.
USER 10001:10001

FROM runtime AS operator
LABEL org.opencontainers.image.title="slipway-operator" \
      org.opencontainers.image.description="Rotates keys, applies alert rules and reports the health of Slipway's agents."
# kopf asks who it runs as, and a number has no name.
ENV LOGNAME=slipway-operator
COPY --from=build-operator /opt/slipway /opt/slipway
RUN python -c "import agent_operator.main" && slipway-doctor --help > /dev/null \
    && python -c "from importlib.resources import files; (files('slipway_monitoring') / 'runbook_pages' / 'index.html').read_bytes()"
EXPOSE 8080 9090
ENTRYPOINT ["python", "-m", "agent_operator.main"]

FROM runtime AS service
LABEL org.opencontainers.image.title="slipway" \
      org.opencontainers.image.description="Serves a LangGraph agent over HTTP and SSE."
ENV HOST=0.0.0.0
COPY --from=build-service /opt/slipway /opt/slipway
RUN python -c "import agent_service.main, agent_service.agents.default.graph, agent_service.agents.endpoint_models, \
    agent_service.auth.jwks, agent_service.auth.jwt_verifier, agent_service.data.statement" && slipway --version \
    && python -c "from agent_service.api.runbooks import pages; assert 'agent-cost-high.md' in pages(), 'the wheel has no runbooks'"
EXPOSE 8000 9090
ENTRYPOINT ["slipway"]
CMD ["serve"]
