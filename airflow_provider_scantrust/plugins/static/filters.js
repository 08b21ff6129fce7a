// The filters and their place in the URL, so that a view can be shared and reloaded.

import { STATUSES } from "./model.js";

const { createElement: h, useCallback, useState } = globalThis.React;

const DAYS = [1, 7, 30, 90];
const DEFAULTS = { q: "", show: "", connection: "", days: "7" };

function readUrl() {
  const found = new URLSearchParams(location.search);
  const filters = Object.fromEntries(Object.entries(DEFAULTS).map(([name, value]) => [name, found.get(name) ?? value]));
  const show = filters.show === "attention" || filters.show in STATUSES ? filters.show : "";
  return { ...filters, show, days: DAYS.includes(Number(filters.days)) ? Number(filters.days) : 7 };
}

export function useFilters() {
  const [filters, setFilters] = useState(readUrl);
  const change = useCallback((changes) => {
    setFilters((before) => ({ ...before, ...changes }));
    const url = new URL(location.href);
    for (const [name, value] of Object.entries(changes)) {
      if (String(value) === DEFAULTS[name]) url.searchParams.delete(name);
      else url.searchParams.set(name, value);
    }
    history.replaceState(history.state, "", url);
  }, []);
  return [filters, change];
}

export function Filters({ filters, change, connections, inRun, loading, refresh }) {
  const choices = filters.connection && !connections.includes(filters.connection) ? [...connections, filters.connection] : connections;
  return h(
    "form",
    { className: "st-filters", role: "search", onSubmit: (event) => event.preventDefault() },
    h(
      "label",
      null,
      "Search",
      h("input", {
        type: "search",
        placeholder: "Dag, run, task, reason",
        value: filters.q,
        onChange: (event) => change({ q: event.target.value }),
      }),
    ),
    h(Choice, { label: "Show", value: filters.show, onChange: (show) => change({ show }) }, [
      ["", "All"],
      ["attention", "Needs attention"],
      ...Object.entries(STATUSES).map(([status, { label }]) => [status, label]),
    ]),
    choices.length > 0 &&
      h(Choice, { label: "Connection", value: filters.connection, onChange: (connection) => change({ connection }) }, [
        ["", "All"],
        ...choices.map((each) => [each, each]),
      ]),
    !inRun &&
      h(
        Choice,
        { label: "Runs of the last", value: filters.days, onChange: (days) => change({ days: Number(days) }) },
        DAYS.map((each) => [each, each === 1 ? "day" : `${each} days`]),
      ),
    h("button", { type: "button", onClick: refresh, disabled: loading }, loading ? "Loading…" : "Refresh"),
  );
}

function Choice({ label, value, onChange, children }) {
  return h(
    "label",
    null,
    label,
    h(
      "select",
      { value, onChange: (event) => onChange(event.target.value) },
      children.map(([each, text]) => h("option", { key: each, value: each }, text)),
    ),
  );
}
