/* Budgets and what was spent of them: a user's own, an admin's tenant, the platform's all. */

import { call } from "./api.js";
import { byId, el, visible } from "./dom.js";
import { comeBack, signOutButton } from "./sign_in.js";
import { themeSwitch } from "./theme.js";
import { inWords } from "./words.js";

const NEAR = 0.8; // as the service warns

const count = (value) => value.toLocaleString("en-US");
const usd = (value) => value.toLocaleString("en-US", { style: "currency", currency: "USD", maximumFractionDigits: 4 });

/** A table in the section of this id; a column is [title, whether it holds numbers]. */
function fill(id, columns, rows) {
  const head = el("tr", {}, ...columns.map(([title, number]) => el("th", { scope: "col", class: number ? "number" : "" }, title)));
  const lines = rows.map(({ cells, mark = "" }) => el("tr", { class: mark }, ...cells.map((cell, n) =>
    el("td", { class: columns[n][1] ? "number" : "" }, cell))));
  byId(id).querySelector(".scroll").replaceChildren(el("table", {}, el("thead", {}, head), el("tbody", {}, ...lines)));
  byId(id).hidden = false;
}

const of = (spent, most, show) => (most === null ? `${show(spent)} of no limit` : `${show(spent)} of ${show(most)}`);
const part = (spent, most) => (most === null ? 0 : most === 0 ? 1 : spent / most);

function budgetRow(row) {
  const used = Math.max(part(row.tokens, row.max_tokens), part(row.usd, row.max_usd));
  const limited = row.max_tokens !== null || row.max_usd !== null;
  const name = row.user ? `${row.tenant}/${row.user}` : `${row.tenant} (tenant)`;
  const share = limited ? `${Math.floor(used * 100)} %` : "no limit";
  return {
    mark: used >= 1 ? "spent" : used >= NEAR ? "near" : "",
    cells: [name, row.period, of(row.tokens, row.max_tokens, count), of(row.usd, row.max_usd, usd),
      el("span", {}, share, limited ? el("meter", { min: 0, max: 1, high: NEAR, low: NEAR, optimum: 0, value: Math.min(1, used), "aria-label": `${share} spent` }) : null),
      row.own ? "set for it" : "settings"],
  };
}

function spendRows(rows, name) {
  const sorted = [...rows].sort((one, other) => other.cost_usd - one.cost_usd);
  return sorted.map((row) => ({ cells: [row[name] || "(none)", count(row.model_calls), count(row.input_tokens), count(row.output_tokens), usd(row.cost_usd)] }));
}

async function show() {
  const { budgets, truncated } = await call("GET", "budgets");
  fill("budgets", [["Whose", false], ["Period", false], ["Tokens", true], ["USD", true], ["Spent", true], ["Limit by", false]], budgets.map(budgetRow));
  const { month } = await call("GET", "usage?group_by=month");
  const since = encodeURIComponent(`${month.month}-01T00:00:00Z`);
  const columns = (name) => [[name, false], ["Calls", true], ["Input tokens", true], ["Output tokens", true], ["USD", true]];
  const models = await call("GET", `usage?group_by=model&since=${since}`);
  fill("models", columns("Model"), spendRows(models.rows, "model"));
  const users = await call("GET", `usage?group_by=user&since=${since}`);
  if (users.rows.length > 1) fill("users", columns("User"), spendRows(users.rows, "user"));
  const unpriced = models.unpriced.map((each) => each.model).join(", ");
  byId("status").textContent = visible(`${month.month}: ${usd(month.spent_usd)} until now, about ${usd(month.projected_usd)} in the end.`
    + (unpriced ? ` Without a price, and in no sum: ${unpriced}.` : "") + (truncated ? " There are more budgets than are shown." : ""));
}

const tell = (problem) => { byId("status").textContent = visible(inWords(problem)); };

themeSwitch(byId("theme"));
signOutButton(byId("sign-out"), tell);
comeBack();
show().catch(tell);
