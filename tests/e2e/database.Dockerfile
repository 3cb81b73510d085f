# Debian's PostgreSQL, which speaks TLS (the wheel of postgres.Dockerfile does not), and PgBouncer: a database outside of the chart.
ARG BASE_IMAGE=python:3.13-slim
FROM ${BASE_IMAGE}
# Unpacked, not configured: nobody needs the cluster and the certificate that the packages make, and a build may not write to /etc/ssl.
RUN apt-get update -q && apt-get install -qy --no-install-recommends --download-only postgresql-15 pgbouncer \
    && dpkg --unpack --force-depends /var/cache/apt/archives/*.deb && ldconfig \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt/archives/*.deb \
    && ln -s /usr/lib/postgresql/15/bin /opt/postgresql \
    && useradd --uid 999 --user-group --no-create-home database && mkdir -p /var/run/postgresql && chmod 1777 /var/run/postgresql
ENV PATH=/opt/postgresql:$PATH PGDATA=/var/lib/postgresql/data/of-the-server
STOPSIGNAL SIGINT
