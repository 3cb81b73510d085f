#!/bin/sh
# Writes the hash-pinned requirement files from pyproject.toml. No index address is written; run after a dependency changed.
set -eu
cd "$(dirname "$0")/.."
lock() { # OUT ARGS…
  out=$1; shift
  uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
    --custom-compile-command "requirements/lock.sh" "$@" --output-file "requirements/$out" pyproject.toml
}
lock dev.txt --all-extras --group test --group check --group build
lock run.txt --extra service --extra embedded --group build --constraint requirements/dev.txt
lock service.txt --extra service --group build --constraint requirements/dev.txt
lock operator.txt --extra operator --group build --constraint requirements/dev.txt
