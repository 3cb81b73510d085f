"""Refunds by rules, the large ones after a person agreed: a hand-built graph with a subgraph and an `interrupt()`.

No Slipway import, and no model: every step is code.
"""

import json
import re
from pathlib import Path
from typing import Any, Literal

from langchain_core.messages import AIMessage
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.runtime import Runtime
from langgraph.types import interrupt

ORDERS = Path(__file__).parent / "orders.json"
APPROVAL_FROM = 100.0
"""Amount from which a person decides."""
REFUNDS = ("refunds",)
"""Where LangGraph's store keeps what was paid, by order."""


class State(MessagesState):
    order_id: str | None
    order: dict[str, Any] | None
    verdict: Literal["pay", "ask", "refuse"] | None
    reason: str


Update = dict[str, Any]


def find_order(state: State) -> Update:
    number = re.search(r"\b\d{4,}\b", state["messages"][-1].text)
    orders = json.loads(ORDERS.read_text(encoding="utf-8"))
    order_id = number[0] if number else None
    return {"order_id": order_id, "order": orders.get(order_id)}


async def check_policy(state: State, runtime: Runtime[None]) -> Update:
    order, order_id = state["order"], state["order_id"]
    if order_id is None:
        return _refuse("please name the number of the order")
    if order is None:
        return _refuse(f"there is no order {order_id}")
    if runtime.store and await runtime.store.aget(REFUNDS, order_id):
        return _refuse(f"order {order_id} was refunded before")
    if order["final_sale"]:
        return _refuse(f"the {order['item']} was a final sale")
    return {"verdict": "ask" if order["amount"] >= APPROVAL_FROM else "pay", "reason": ""}


def approve(state: State) -> Update:
    """Stops the run until a person decides; the request has the form that agent chat pages know."""
    order = state["order"] or {}
    action = {
        "name": "pay_refund",
        "args": {"order": state["order_id"], "amount": order["amount"], "currency": order["currency"]},
        "description": f"Refund of the {order['item']}",
    }
    review = {"action_name": "pay_refund", "allowed_decisions": ["approve", "reject"]}
    decision = interrupt({"action_requests": [action], "review_configs": [review]})["decisions"][0]
    if decision["type"] == "approve":
        return {"verdict": "pay"}
    return _refuse(f"a colleague decided against it ({decision.get('message') or 'no reason given'})")


async def pay(state: State, runtime: Runtime[None]) -> Update:
    order = state["order"] or {}
    paid = f"{order['amount']:.2f} {order['currency']}"
    if runtime.store:
        # The order is the key: a step repeated after a crash pays once.
        await runtime.store.aput(REFUNDS, str(state["order_id"]), {"paid": paid})
    return {"messages": [AIMessage(f"Refunded {paid} for the {order['item']} (order {state['order_id']}).")]}


def refuse(state: State) -> Update:
    return {"messages": [AIMessage(f"No refund: {state['reason']}.")]}


def _refuse(reason: str) -> Update:
    return {"verdict": "refuse", "reason": reason}


def _verdict(state: State) -> str:
    return state["verdict"] or "refuse"


def _assessment() -> StateGraph[State]:
    assess = StateGraph(State)
    assess.add_sequence([find_order, check_policy])
    assess.add_edge(START, "find_order")
    return assess


def _refunds() -> StateGraph[State]:
    refunds = StateGraph(State)
    refunds.add_node("assess", _assessment().compile())
    for node in (approve, pay, refuse):
        refunds.add_node(node)
    refunds.add_edge(START, "assess")
    refunds.add_conditional_edges("assess", _verdict, {"pay": "pay", "ask": "approve", "refuse": "refuse"})
    refunds.add_conditional_edges("approve", _verdict, {"pay": "pay", "refuse": "refuse"})
    refunds.add_edge("pay", END)
    refunds.add_edge("refuse", END)
    return refunds


graph = _refunds()
