"""A team's own input rules, from INPUT_RULES_FILE: a YAML list of name, pattern (RE2) and message. They are read at start."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import re2  # type: ignore[import-untyped]  # lacks py.typed
import yaml

from agent_service.errors import SettingsError

MAX_FILE_BYTES: Final = 65_536
MAX_RULES: Final = 100
"""Each is a label value of agent_guardrail_blocks_total."""

MAX_PATTERN_CHARS: Final = 2_000
MAX_MESSAGE_CHARS: Final = 500

MAX_PROGRAM: Final = 1_000
"""Instructions of a compiled rule: what RE2 does for one character at the worst. 20,000 characters then take about a second."""

MAX_PROGRAMS: Final = 5_000
"""Of all rules together."""

MAX_MEMORY_BYTES: Final = 2**20
"""RE2's max_mem, of one rule: 100 MB at the worst. Beyond it RE2 is slower, and still linear."""

_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,39}")
_KEYS: Final = ("name", "pattern", "message")


@dataclass(frozen=True, slots=True)
class InputRule:
    """`message` is for who asked; empty where the rule's name says enough."""

    name: str
    message: str
    pattern: Any


def load_input_rules(file: Path, taken: frozenset[str]) -> tuple[InputRule, ...]:
    """The rules of a file, in its order; `taken` are names that none may have.

    Raises:
        SettingsError: names the file, the line, the rule, and what was expected or what RE2 refused.
    """
    rules: list[InputRule] = []
    for node in _items(file):
        rule = _rule(file, node)
        if rule.name in taken or any(rule.name == other.name for other in rules):
            raise _wrong(file, node, f"rule `{rule.name}`: name: another rule has it")
        rules.append(rule)
        if sum(_size(each) for each in rules) > MAX_PROGRAMS:
            raise _wrong(
                file, node, f"rule `{rule.name}`: with it the rules are larger than {MAX_PROGRAMS} instructions together"
            )
    return tuple(rules)


def _items(file: Path) -> list[yaml.Node]:
    try:
        content = file.read_bytes()
        if len(content) > MAX_FILE_BYTES:
            raise SettingsError(f"INPUT_RULES_FILE={file}: {len(content)} bytes; {MAX_FILE_BYTES} are allowed")
        # Nodes, which know their lines.
        root = yaml.compose(content.decode(), Loader=yaml.SafeLoader)
    except (OSError, UnicodeDecodeError, yaml.YAMLError, RecursionError) as error:
        raise SettingsError(f"INPUT_RULES_FILE={file}: {' '.join(str(error).split())}") from None
    if root is None:
        return []
    if not isinstance(root, yaml.SequenceNode):
        raise _wrong(file, root, "expected a list of rules with name, pattern and message")
    if len(root.value) > MAX_RULES:
        raise _wrong(file, root.value[MAX_RULES], f"{len(root.value)} rules; {MAX_RULES} are allowed")
    return list(root.value)


def _rule(file: Path, node: yaml.Node) -> InputRule:
    values = dict(_values(file, node))
    name = values.get("name", "")
    if not _NAME.fullmatch(name):
        raise _wrong(file, node, f"name: expected up to 40 of a-z, 0-9 and _ that begin with a letter, got {name[:60]!r}")
    for key, most in (("pattern", MAX_PATTERN_CHARS), ("message", MAX_MESSAGE_CHARS)):
        if len(values.get(key, "")) > most:
            raise _wrong(file, node, f"rule `{name}`: {key}: {len(values[key])} characters; {most} are allowed")
    if not values.get("pattern"):
        raise _wrong(file, node, f"rule `{name}`: pattern: expected a regular expression in RE2's syntax")
    rule = InputRule(name, values.get("message", "").strip(), _compiled(file, node, name, values["pattern"]))
    if _size(rule) > MAX_PROGRAM:
        raise _wrong(file, node, f"rule `{name}`: pattern: {_size(rule)} instructions; {MAX_PROGRAM} are allowed")
    if rule.pattern.search(""):
        raise _wrong(file, node, f"rule `{name}`: pattern: it matches the empty text, and so would refuse every question")
    return rule


def _values(file: Path, node: yaml.Node) -> Iterator[tuple[str, str]]:
    if not isinstance(node, yaml.MappingNode):
        raise _wrong(file, node, "expected a rule with name, pattern and message")
    seen: set[str] = set()
    for key, value in node.value:
        name = str(key.value) if isinstance(key, yaml.ScalarNode) else "?"
        if name not in _KEYS or name in seen:
            raise _wrong(file, key, f"{name[:60]}: expected {', '.join(_KEYS)}, each once")
        if not isinstance(value, yaml.ScalarNode) or value.tag == "tag:yaml.org,2002:null":
            raise _wrong(file, value, f"{name}: expected a text")
        seen.add(name)
        yield name, value.value


def _compiled(file: Path, node: yaml.Node, name: str, pattern: str) -> Any:
    options = re2.Options()
    options.max_mem = MAX_MEMORY_BYTES
    options.log_errors = False
    try:
        return re2.compile(pattern, options)
    except (re2.error, UnicodeEncodeError) as error:
        reason = error.args[0].decode(errors="replace") if isinstance(error, re2.error) else "a half surrogate pair"
        raise _wrong(
            file,
            node,
            f"rule `{name}`: pattern: RE2 refuses it: {reason}"
            " (it has no back-references and no look-around: https://github.com/google/re2/wiki/Syntax)",
        ) from None


def _size(rule: InputRule) -> int:
    return int(rule.pattern._regexp.ProgramSize())  # noqa: SLF001  # the wrapper does not show it


def _wrong(file: Path, node: yaml.Node, text: str) -> SettingsError:
    return SettingsError(f"INPUT_RULES_FILE={file}: line {node.start_mark.line + 1}: {text}")
