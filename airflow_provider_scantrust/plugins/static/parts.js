// Small pieces that the table and the report card share.

import { STATUSES } from "./model.js";

const { createElement: h, useState } = globalThis.React;

const segment = encodeURIComponent;
export const dagPath = ({ dag_id }) => `/dags/${segment(dag_id)}`;
export const runPath = (upload) => `${dagPath(upload)}/runs/${segment(upload.run_id)}`;
export const taskPath = (upload) =>
  `${runPath(upload)}/tasks/${segment(upload.task_id)}${upload.map_index >= 0 ? `/mapped/${upload.map_index}` : ""}`;
export const cardPath = (upload) =>
  upload.members ? `${runPath(upload)}/plugin/scantrust-run` : `${taskPath(upload)}/plugin/scantrust-task-instance`;
export const logPath = (upload) => `${taskPath(upload)}?try_number=${upload.try_number}`;

// A link that does not reload the UI, if Airflow shares its router (3.2 and later).
export function To({ path, children, ...rest }) {
  const Link = globalThis.ReactRouterDOM?.Link;
  if (Link) return h(Link, { to: path, ...rest }, children);
  return h("a", { href: new URL(path.slice(1), document.baseURI).href, ...rest }, children);
}

export function Status({ status, state, acknowledged }) {
  const { label, mark, color } = STATUSES[status];
  return h(
    "span",
    { className: "st-status", "data-color": color, title: `Task state: ${state ?? "none"}` },
    h("span", { "aria-hidden": true, className: "st-mark" }, mark),
    ` ${label}`,
    acknowledged && h("span", { className: "st-muted st-seen" }, "acknowledged"),
  );
}

export function Portal({ upload }) {
  const { portal, task_id, run_id } = upload;
  if (typeof portal !== "string" || !/^https?:\/\//.test(portal)) return null;
  const label = `Scantrust portal for ${task_id} of ${run_id}`;
  return h("a", { href: portal, target: "_blank", rel: "noreferrer", "aria-label": label }, "Portal");
}

export function Copy({ text, what }) {
  const [copied, setCopied] = useState(false);
  const copy = () => navigator.clipboard?.writeText(text).then(() => setCopied(true));
  return h("button", { type: "button", onClick: copy, "aria-label": `Copy ${what}` }, copied ? "Copied" : "Copy");
}

// Updated, unknown and rejected rows as one bar. The figures are beside it as text.
export function RowsBar({ parts }) {
  const total = parts.reduce((sum, { count }) => sum + count, 0);
  if (total === 0) return null;
  return h(
    "div",
    { className: "st-bar", "aria-hidden": true },
    parts.map(({ name, count, color }) =>
      count > 0 && h("span", { key: name, "data-color": color, style: { flexGrow: count }, title: `${name}: ${count}` }),
    ),
  );
}
