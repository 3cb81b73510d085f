"""What OpenAI's Admin API remembers of one project, and which keys its models accept. No sockets: see fake_openai_admin.

Facts that this imitates: a key's value is told once; deleting a service account kills its keys; whether a key of a service
account can be deleted alone differs (`deletes_keys_of_accounts`); `last_used_at` is null until the first use.
"""

import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

FaultKind = Literal["unavailable", "timeout_after_success", "timeout_before", "rate_limited", "unauthorized"]
STATUS: dict[str, int] = {"unavailable": 503, "rate_limited": 429, "unauthorized": 401}

ADMIN_KEY = "sk-admin-of-the-tests"

Answer = tuple[int, dict[str, Any]]


class LostAnswer(Exception):
    """The client sees a time-out; with `timeout_after_success` what it asked for was done all the same."""


@dataclass
class Account:
    id: str
    name: str


@dataclass
class Key:
    id: str
    value: str
    name: str
    account: str
    expires_at: float | None = None
    last_used: float | None = None


@dataclass
class OpenAIState:
    now: Callable[[], float] = time.time
    deletes_keys_of_accounts: bool = True
    page: int = 2
    """Entries of one answer to a list, so that every list is read in pages."""

    accounts: dict[str, Account] = field(default_factory=dict)
    keys: dict[str, Key] = field(default_factory=dict)
    faults: list[tuple[str, FaultKind]] = field(default_factory=list)
    """Method and kind: each spoils the next call of that method."""

    calls: list[str] = field(default_factory=list)
    _numbers: "itertools.count[int]" = field(default_factory=lambda: itertools.count(1))

    def accepts(self, value: str) -> bool:
        """A model's answer to a request with this key, which counts as a use."""
        for key in self.keys.values():
            if key.value == value and (key.expires_at is None or key.expires_at > self.now()):
                key.last_used = self.now()
                return True
        return False

    def knows(self, value: str) -> bool:
        """Whether the key would be accepted, without using it."""
        return any(key.value == value for key in self.keys.values())

    def add_account(self, name: str, expires_in: float | None = None) -> Account:
        account = Account(f"svc_acct_{next(self._numbers)}", name)
        self.accounts[account.id] = account
        self.add_key(account.id, name, expires_in)
        return account

    def add_key(self, account: str, name: str, expires_in: float | None = None) -> Key:
        number = next(self._numbers)
        expires_at = self.now() + expires_in if expires_in else None
        key = self.keys[f"key_{number}"] = Key(f"key_{number}", f"sk-svcacct-value-{number}", name, account, expires_at)
        return key

    def answer(self, method: str, path: str, query: dict[str, str], body: dict[str, Any], admin_key: str) -> Answer:
        """`path` is what follows /organization/projects/{project}. Raises LostAnswer."""
        self.calls.append(f"{method} {path}")
        fault = self._take_fault(method)
        if fault == "timeout_before":
            raise LostAnswer
        if fault in STATUS:
            return STATUS[fault], {"error": {"message": f"fault: {fault}"}}
        if admin_key != ADMIN_KEY:
            return 401, {"error": {"message": "Incorrect API key provided"}}
        answer = self._serve(method, path.strip("/").split("/"), query, body)
        if fault == "timeout_after_success":
            raise LostAnswer
        return answer

    def _serve(self, method: str, parts: list[str], query: dict[str, str], body: dict[str, Any]) -> Answer:
        if method == "GET":
            return self._list(parts, query)
        match method, parts:
            case "POST", ["service_accounts"]:
                account = self.add_account(body["name"], body.get("expires_in_seconds"))
                key = next(each for each in self.keys.values() if each.account == account.id)
                return 200, _account(account) | {
                    "role": "member",
                    "api_key": {"id": key.id, "value": key.value, "name": "Secret Key"},
                }
            case "POST", ["service_accounts", account_id, "api_keys"] if account_id in self.accounts:
                key = self.add_key(account_id, body["name"], body.get("expires_in_seconds"))
                return 200, {"id": key.id, "value": key.value, "name": key.name}
            case "DELETE", ["service_accounts", account_id] if account_id in self.accounts:
                del self.accounts[account_id]
                self.keys = {key_id: key for key_id, key in self.keys.items() if key.account != account_id}
                return 200, {"id": account_id, "deleted": True}
            case "DELETE", ["api_keys", key_id] if key_id in self.keys:
                return self._delete_key(key_id)
        return 404, {"error": {"message": "not found"}}

    def _list(self, parts: list[str], query: dict[str, str]) -> Answer:
        match parts:
            case ["service_accounts"]:
                return 200, self._page([_account(each) for each in self.accounts.values()], query)
            case ["api_keys"]:
                return 200, self._page([self._key(each) for each in self.keys.values()], query)
        return 404, {"error": {"message": "not found"}}

    def _delete_key(self, key_id: str) -> Answer:
        if not self.deletes_keys_of_accounts:
            return 400, {"error": {"message": "this key belongs to a service account and cannot be deleted"}}
        del self.keys[key_id]
        return 200, {"id": key_id, "deleted": True}

    def _page(self, entries: list[dict[str, Any]], query: dict[str, str]) -> dict[str, Any]:
        ids = [each["id"] for each in entries]
        first = ids.index(query["after"]) + 1 if query.get("after") in ids else 0
        shown = entries[first : first + self.page]
        more = first + self.page < len(entries)
        return {"object": "list", "data": shown, "has_more": more, "last_id": shown[-1]["id"] if shown else None}

    def _key(self, key: Key) -> dict[str, Any]:
        owner = {"type": "service_account", "service_account": {"id": key.account}}
        used = None if key.last_used is None else int(key.last_used)
        return {"id": key.id, "name": key.name, "owner": owner, "redacted_value": "sk-...", "last_used_at": used}

    def _take_fault(self, method: str) -> FaultKind | None:
        for number, (wanted, kind) in enumerate(self.faults):
            if wanted == method:
                del self.faults[number]
                return kind
        return None


def _account(account: Account) -> dict[str, Any]:
    return {"id": account.id, "name": account.name, "object": "organization.project.service_account"}
