"""Input rules: pure functions of the question, so that they cost no model call and nothing is stored before they ran."""

import re
from collections.abc import Iterator

RULES = ("prompt_injection", "secret", "card_number")
"""What `check_input` can name: a closed set, also the label values of agent_guardrail_blocks_total."""

_TARGET = r"(?:instructions?|prompts?|rules|directions|guidelines|commands)"
_ORDER = r"(?:^|[.!?:;,\n\"'*]|\b(?:and|now|then|please|must|should|to|you)\b)\s*"
"""What stands before an imperative; "does the linter ignore the rules" has none of it."""
_OLDER = r"(?:previous|prior|above|earlier|preceding|system|original|initial|safety|your)"

_INJECTIONS = [
    re.compile(pattern, re.IGNORECASE | re.MULTILINE)
    for pattern in (
        # An order to drop what came before: "ignore all previous instructions", "forget your rules".
        rf"{_ORDER}(?:ignore|disregard|forget|override|bypass)\s+(?:(?:all|any|every|each|of|the|these|those|my|our)\s+)*(?:{_OLDER}\s+)+{_TARGET}",
        r"\b(?:ignore|disregard|forget)\s+(?:everything|anything|all)\s+(?:you\s+(?:were|have\s+been)\s+told|above|before\s+this)",
        # An order to reveal them: "print your system prompt", "repeat the words above".
        rf"{_ORDER}(?:reveal|print|show|output|repeat|display|leak)\s+(?:me\s+)?your\s+(?:(?:full|entire|hidden|initial|system)\s+)*{_TARGET}",
        r"\brepeat\s+(?:the\s+words|everything|all\s+the\s+text)\s+above",
        # A new identity without limits.
        r"\byou\s+are\s+now\s+(?:in\s+)?(?:dan\b|developer\s+mode|jailbroken|(?:an?\s+)?(?:unrestricted|unfiltered)\b)",
        # Forged turns, in a model's own wire format or in plain words.
        r"<\|(?:im_start|im_end|system|start_header_id)\|>",
        r"^\s*\[?(?:system|assistant)\]?\s*:\s*you\s+(?:are|must|will)\b",
    )
]

_SECRETS = [
    re.compile(pattern)
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


def check_input(text: str) -> str | None:
    """Name of the rule in `RULES` that the text breaks, or None."""
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
