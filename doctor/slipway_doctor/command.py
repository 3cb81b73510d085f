"""`slipway doctor`: the checks of AgentHealth from a terminal, and what only a client can try."""

import sys
from pathlib import Path

import click

from slipway_doctor.question import QUESTION

EPILOG = """\b
Exit codes: 0 passed, 1 a check failed (with --strict also a warning), 2 nothing could be examined.

\b
Example:
  slipway doctor --url https://agent.example.com --token "$TOKEN"
  slipway doctor --url http://127.0.0.1:8000 --ops-url http://127.0.0.1:9090 --replicas 3
  slipway doctor --release my-agent -n prod --prometheus monitoring/prometheus:9090
  slipway doctor --release my-agent -n prod --prometheus monitoring/prometheus:9090 --wait 900
  slipway doctor --local --json
"""


@click.command(epilog=EPILOG)
@click.option("--url", metavar="URL", help="A service to try as a client: asks one question, and erases it.")
@click.option(
    "--token", envvar="SLIPWAY_TOKEN", help="A user's token or API key for --url; better by its variable.", show_envvar=True
)
@click.option(
    "--api-key-file", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="File with the API key for --url."
)
@click.option(
    "--other-token", envvar="SLIPWAY_OTHER_TOKEN", help="Another user's: must not see the first one's run.", show_envvar=True
)
@click.option("--development", is_flag=True, help="The --url is a `slipway dev`: it may let in whoever is on this machine.")
@click.option("--question", default=QUESTION, help="What to ask: the answer must take a while.")
@click.option("--ops-url", metavar="URL", help="Ops port (9090) of one process, where there is no Kubernetes.")
@click.option("--replicas", default=1, type=click.IntRange(1, 1000), show_default=True, help="Processes behind --ops-url.")
@click.option("--release", metavar="NAME", help="A Helm release, read by kubeconfig.")
@click.option("--namespace", "-n", default="default", show_default=True, help="Of the release.")
@click.option("--context", help="Of the kubeconfig. Default: the current one.")
@click.option("--prometheus", default="", metavar="URL|NS/SERVICE:PORT", help="Prometheus that scrapes the release.")
@click.option("--baseline", default="", metavar="NAME", help="Release of which --release is the canary.")
@click.option("--wait", default=0, type=click.IntRange(0, 86_400), metavar="SECONDS", help="Until the rollout is judged.")
@click.option("--local", is_flag=True, help="The settings of this shell's environment.")
@click.option("--strict", is_flag=True, help="Fail on warnings as well.")
@click.option("--json", "json_wanted", is_flag=True, help="Print JSON.")
def doctor(
    url: str | None,
    token: str | None,
    api_key_file: Path | None,
    other_token: str | None,
    development: bool,
    question: str,
    ops_url: str | None,
    replicas: int,
    release: str | None,
    namespace: str,
    context: str | None,
    prometheus: str,
    baseline: str,
    wait: int,
    local: bool,
    strict: bool,
    json_wanted: bool,
) -> None:
    """Finds what is wrong with a service before its users do, and says what to do."""
    if not (url or ops_url or release or local):
        raise click.UsageError("say what to examine: --url, --ops-url, --release or --local (or have a `slipway dev` run here)")
    if (wait or baseline) and not (release and prometheus):
        raise click.UsageError("--wait and --baseline compare figures of a release: give --release and --prometheus")
    if token and api_key_file:
        raise click.UsageError("give --token or --api-key-file, not both")
    if not json_wanted:
        click.echo(f"examining {url or ops_url or release or 'the settings of this shell'} …", err=True)
    credential = api_key_file.read_text(encoding="utf-8").strip() if api_key_file else token or ""
    from slipway_doctor import examination  # noqa: PLC0415  # half a second of CPU, which --help need not wait for

    wanted = examination.Wanted(
        target=examination.Target(url.rstrip("/"), credential, other_token or "", question, development) if url else None,
        ops_url=ops_url.rstrip("/") if ops_url else None,
        replicas=replicas,
        release=examination.Release(release, namespace, context, prometheus, baseline, wait) if release else None,
        local=local,
    )
    sys.exit(examination.report(wanted, strict=strict, json_wanted=json_wanted))


def main() -> None:
    doctor(prog_name="slipway-doctor")
