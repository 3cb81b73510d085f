#!/bin/sh
# Writes the hash-pinned requirement files from each component's pyproject.toml. No index address is written; run after a dependency changed.
set -eu
cd "$(dirname "$0")/.."
lock() { # OUT ARGS…
  out=$1; shift
  uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
    --no-emit-package slipway --no-emit-package slipway-clients --no-emit-package slipway-doctor --no-emit-package slipway-monitoring \
    --custom-compile-command "requirements/lock.sh" "$@" --output-file "requirements/$out"
}
lock dev.txt --all-extras --group test --group check --group build \
  clients/pyproject.toml doctor/pyproject.toml monitoring/pyproject.toml operator/pyproject.toml service/pyproject.toml
lock build.txt --group build --constraint requirements/dev.txt
lock docs.txt --group docs --constraint requirements/dev.txt
lock run.txt --extra embedded --group build --constraint requirements/dev.txt \
  service/pyproject.toml doctor/pyproject.toml clients/pyproject.toml monitoring/pyproject.toml
lock service.txt --constraint requirements/dev.txt service/pyproject.toml
lock operator.txt --constraint requirements/dev.txt operator/pyproject.toml

# langchain-openai's other versions of the range in service/pyproject.toml, each with what it needs beyond dev.txt: adopt.py is tried with all.
other() { # VERSION REQUIREMENT…
  version=$1; shift
  printf '%s\n' "langchain-openai==$version" "$@" | uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-deps \
    --no-emit-index-url --no-annotate --custom-compile-command "requirements/lock.sh" --output-file "requirements/versions/$version.txt" -
}
other 1.7.0
other 1.7.1
other 1.7.2
other 1.7.4 langchain-core==1.7.5
