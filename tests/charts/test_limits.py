"""limits, budgets, files and crons reach the service under its own names, and nothing does where its defaults hold."""

from tests.charts.slipway import agent, environment
from tests.support.charts import values_of

NAMES = (
    "RATE_LIMIT_PER_MINUTE",
    "MAX_RUNS_PER_PRINCIPAL",
    "REDIS_URL",
    "DAILY_USD_LIMIT",
    "MAX_RUN_USD",
    "MONTHLY_TENANT_USD_LIMIT",
)


def test_by_default_the_services_own_limits_hold() -> None:
    env = environment({})
    assert not env.keys() & set(NAMES)
    assert (env["MAX_RUN_TOKENS"], env["DAILY_TOKEN_LIMIT"], env["MONTHLY_TENANT_TOKEN_LIMIT"]) == ("2000000", "0", "0")


def test_each_value_has_its_setting_and_zero_means_none() -> None:
    env = environment(
        values_of(
            "limits.ratePerMinute=0",
            "limits.runsPerCaller=7",
            "budgets.run.tokens=12000000",
            "budgets.run.usd=0.25",
            "budgets.userPerDay.tokens=3",
            "budgets.userPerDay.usd=1500000.5",
            "budgets.tenantPerMonth.tokens=9007199254740991",
            "budgets.tenantPerMonth.usd=40",
        )
    )
    assert {name: float(env[name]) for name in env if name in NAMES or name.endswith(("_TOKENS", "TOKEN_LIMIT"))} == {
        "RATE_LIMIT_PER_MINUTE": 0,
        "MAX_RUNS_PER_PRINCIPAL": 7,
        "MAX_RUN_TOKENS": 12_000_000,
        "MAX_RUN_USD": 0.25,
        "DAILY_TOKEN_LIMIT": 3,
        "DAILY_USD_LIMIT": 1_500_000.5,
        "MONTHLY_TENANT_TOKEN_LIMIT": 9_007_199_254_740_991,
        "MONTHLY_TENANT_USD_LIMIT": 40,
    }
    assert "e" not in env["MAX_RUN_TOKENS"] + env["MONTHLY_TENANT_TOKEN_LIMIT"]


def test_the_response_cache_is_off_until_it_is_asked_for() -> None:
    assert not any(name.startswith("RESPONSE_CACHE") for name in environment({}))
    env = environment(values_of("responseCache.seconds=3600", "responseCache.scope=tenant"))
    assert (env["RESPONSE_CACHE_SECONDS"], env["RESPONSE_CACHE_SCOPE"]) == ("3600", "tenant")
    assert "RESPONSE_CACHE_GRAPHS" not in env
    several = environment(values_of("responseCache.seconds=60", "responseCache.graphs=[faq, help]"))
    assert several["RESPONSE_CACHE_GRAPHS"] == "faq,help"


def test_redis_comes_from_a_secret() -> None:
    spec = agent(values_of("limits.redis.existingSecret=redis", "limits.redis.key=address"))
    [redis] = [entry for entry in spec["containers"][0]["env"] if entry["name"] == "REDIS_URL"]
    assert redis["valueFrom"]["secretKeyRef"] == {"name": "redis", "key": "address"}


def test_files_and_crons_have_the_services_defaults_until_a_value_says_otherwise() -> None:
    names = {"FILE_GRAPHS", "CRON_OWNER_DAYS"}
    assert not environment({}).keys() & names
    env = environment(values_of("files.graphs=[agent, scans]", "crons.ownerDays=0.5"))
    assert {name: env[name] for name in names} == {"FILE_GRAPHS": "agent,scans", "CRON_OWNER_DAYS": "0.5"}
    assert environment(values_of("crons.ownerDays=0"))["CRON_OWNER_DAYS"] == "0"
