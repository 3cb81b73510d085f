# Debian's PostgreSQL, which speaks TLS (the wheel of postgres.Dockerfile does not), and PgBouncer: a database outside of the chart.
ARG BASE_IMAGE=python:3.13-slim
FROM ${BASE_IMAGE}
RUN apt-get update -q && apt-get install -qy --no-install-recommends postgresql pgbouncer \
    && rm -rf /var/lib/apt/lists/* /var/lib/postgresql/* \
    && ln -s /usr/lib/postgresql/*/bin /opt/postgresql \
    && useradd --uid 999 --user-group --no-create-home database && mkdir -p /var/run/postgresql && chmod 1777 /var/run/postgresql
ENV PATH=/opt/postgresql:$PATH PGDATA=/var/lib/postgresql/data/of-the-server
STOPSIGNAL SIGINT
