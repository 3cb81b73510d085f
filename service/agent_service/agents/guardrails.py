"""Input rules: pure functions of the question, so that they cost no model call and nothing is stored before they ran.

Their patterns are RE2's, whose time grows linearly with the text whatever stands in it: these run on the event loop, over what
anybody sends. (With `re`, 6,000 newlines and a word took longer than a lease.)
"""

import re
from collections.abc import Callable, Iterator

import re2  # type: ignore[import-untyped]  # lacks py.typed

from agent_service.agents.input_rules import InputRule, load_input_rules
from agent_service.errors import GuardrailBlocked
from agent_service.settings import Settings

RULES = ("prompt_injection", "secret", "card_number")
"""What `check_input` can name. With a team's own: a closed set, also the label values of agent_guardrail_blocks_total."""

MODEL_RULE = "model"
"""Named where the default graph's model check refuses."""

InputCheck = Callable[[str], GuardrailBlocked | None]

_S = r"[\s\v\p{Z}]"
"""White space; RE2's own `\\s` is that of ASCII."""
_TARGET = r"(?:instructions?|prompts?|rules|directions|guidelines|commands)"
_ORDER = rf"(?:^|[.!?:;,\n\"'*]|\b(?:and|now|then|please|must|should|to|you)\b){_S}*"
"""What stands before an imperative; "does the linter ignore the rules" has none of it."""
_OLDER = r"(?:previous|prior|above|earlier|preceding|system|original|initial|safety|your)"

_INJECTIONS = [
    re2.compile(f"(?im){pattern}")
    for pattern in (
        # An order to drop what came before: "ignore all previous instructions", "forget your rules".
        (
            rf"{_ORDER}(?:ignore|disregard|forget|override|bypass){_S}+(?:(?:all|any|every|each|of|the|these|those|my|our){_S}+)*"
            rf"(?:{_OLDER}{_S}+)+{_TARGET}"
        ),
        (
            rf"\b(?:ignore|disregard|forget){_S}+(?:everything|anything|all){_S}+"
            rf"(?:you{_S}+(?:were|have{_S}+been){_S}+told|above|before{_S}+this)"
        ),
        # An order to reveal them: "print your system prompt", "repeat the words above".
        (
            rf"{_ORDER}(?:reveal|print|show|output|repeat|display|leak){_S}+(?:me{_S}+)?your{_S}+"
            rf"(?:(?:full|entire|hidden|initial|system){_S}+)*{_TARGET}"
        ),
        rf"\brepeat{_S}+(?:the{_S}+words|everything|all{_S}+the{_S}+text){_S}+above",
        # A new identity without limits.
        rf"\byou{_S}+are{_S}+now{_S}+(?:in{_S}+)?(?:dan\b|developer{_S}+mode|jailbroken|(?:an?{_S}+)?(?:unrestricted|unfiltered)\b)",
        # Forged turns, in a model's own wire format or in plain words.
        r"<\|(?:im_start|im_end|system|start_header_id)\|>",
        rf"^{_S}*\[?(?:system|assistant)\]?{_S}*:{_S}*you{_S}+(?:are|must|will)\b",
    )
]

_SECRETS = [
    re2.compile(pattern)
    for pattern in (
        r"-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY-----",
        r"\bsk-(?:proj-|svcacct-|admin-|ant-[a-z0-9]+-)?[A-Za-z0-9_-]{20,}",
        r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b",
        r"\bgh[pousr]_[A-Za-z0-9]{36,}",
        r"\bgithub_pat_[A-Za-z0-9_]{40,}",
        r"\bxox[abprs]-[A-Za-z0-9-]{20,}",
        r"\bAIza[0-9A-Za-z_-]{35}",
        r"\beyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{20,}",
    )
]

RANDOM_KEY_CHARACTERS = 10
"""Different characters that a real key has at the least; documentation writes sk-xxxxxxxx."""

_CARD = re.compile(r"(?<![\w.-])(?:\d[ -]?){12,18}\d(?![\w-])")
_CARD_PREFIX = re.compile(r"4|5[1-5]|2[2-7]|3[47]|6(?:011|5|4[4-9])|35|3(?:0[0-5]|[689])")
"""Leading digits of the large issuers; order numbers and timestamps in milliseconds (1...) start otherwise."""


def own_rules(settings: Settings) -> tuple[InputRule, ...]:
    """The rules of INPUT_RULES_FILE.

    Raises:
        SettingsError: one of them is wrong, see `load_input_rules`.
    """
    file = settings.input_rules_file
    return load_input_rules(file, frozenset({*RULES, MODEL_RULE})) if file else ()


def make_input_check(settings: Settings) -> InputCheck:
    """What refuses a text, by the built-in rules and then by a team's own; nothing with GUARDRAILS=off."""
    own = own_rules(settings)

    def check(text: str) -> GuardrailBlocked | None:
        if rule := check_input(text):
            return _refusal(rule)
        clean = _utf8(text)
        return next((_refusal(rule.name, rule.message) for rule in own if rule.pattern.search(clean)), None)

    return check if settings.guardrails == "on" else lambda _: None


def _refusal(rule: str, message: str = "") -> GuardrailBlocked:
    reason = f": {message}" if message else ""
    return GuardrailBlocked(f"question: refused by the input rule `{rule}`{reason}", field="question", rule=rule)


def _utf8(text: str) -> str:
    """RE2 reads UTF-8, which has no half surrogate pairs."""
    return text.encode(errors="replace").decode()


def check_input(text: str) -> str | None:
    """Name of the rule in `RULES` that the text breaks, or None."""
    text = _utf8(text)
    if any(pattern.search(text) for pattern in _INJECTIONS):
        return "prompt_injection"
    if _has_secret(text):
        return "secret"
    if any(_is_card(digits) for digits in _digit_groups(text)):
        return "card_number"
    return None


def _has_secret(text: str) -> bool:
    return any(_is_random(match[0]) for pattern in _SECRETS for match in pattern.finditer(text))


def _is_random(key: str) -> bool:
    if key.startswith("-----"):
        return True
    return len(set(key.lower())) >= RANDOM_KEY_CHARACTERS and any(c.isdigit() for c in key)


def _digit_groups(text: str) -> Iterator[str]:
    return (re.sub(r"[ -]", "", match[0]) for match in _CARD.finditer(text))


def _is_card(digits: str) -> bool:
    return bool(_CARD_PREFIX.match(digits)) and _luhn(digits)


def _luhn(digits: str) -> bool:
    odd, even = digits[-1::-2], digits[-2::-2]
    return (sum(map(int, odd)) + sum(sum(divmod(2 * int(d), 10)) for d in even)) % 10 == 0
