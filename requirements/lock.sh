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

# langchain-openai's other versions of the range in pyproject.toml, each with what it needs beyond dev.txt: adopt.py is tried with all.
other() { # VERSION REQUIREMENT…
  version=$1; shift
  printf '%s\n' "langchain-openai==$version" "$@" | uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-deps \
    --no-emit-index-url --no-annotate --custom-compile-command "requirements/lock.sh" --output-file "requirements/versions/$version.txt" -
}
other 1.7.0
other 1.7.1
other 1.7.2
other 1.7.4 langchain-core==1.7.5
