# A graph brought by image, as docs/operations/install.md says; the build context is this folder. Two releases of it: `--target`.
ARG SLIPWAY_IMAGE=localhost/slipway:e2e
FROM ${SLIPWAY_IMAGE} AS testkit
COPY testkit /opt/graph/testkit
ENV AGENT_GRAPH_DIR=/opt/graph AGENT_GRAPH=testkit.graph:build

# A stage of its own: buildah 1.28 takes a build with another ARG for the same image.
FROM testkit AS next
ENV TESTKIT_RELEASE=2
