// The uploads as a table: one page of it is in the document, whatever the history.

import { PAGE_SIZE, STATUSES, formatCount, formatSeconds, formatTime, sortBy } from "./model.js";

const { createElement: h, useMemo, useState } = globalThis.React;

const segment = encodeURIComponent;
const dagPath = ({ dag_id }) => `/dags/${segment(dag_id)}`;
const runPath = (upload) => `${dagPath(upload)}/runs/${segment(upload.run_id)}`;
const taskPath = (upload) =>
  `${runPath(upload)}/tasks/${segment(upload.task_id)}${upload.map_index >= 0 ? `/mapped/${upload.map_index}` : ""}`;

// Within the UI without loading it anew, where Airflow shares its router (3.2 and later).
function To({ path, children, ...rest }) {
  const Link = globalThis.ReactRouterDOM?.Link;
  if (Link) return h(Link, { to: path, ...rest }, children);
  return h("a", { href: new URL(path.slice(1), document.baseURI).href, ...rest }, children);
}

const COLUMNS = [
  { name: "status", label: "Status", cell: Status },
  { name: "dag_id", label: "Dag", scope: "dag_id", cell: (upload) => h(To, { path: dagPath(upload) }, upload.dag_id) },
  { name: "run_id", label: "Run", scope: "run_id", cell: (upload) => h(To, { path: runPath(upload) }, upload.run_id) },
  { name: "task_id", label: "Task", cell: Task },
  { name: null, label: "Links", cell: Links },
  { name: "start", label: "Started", cell: ({ start }) => start && h("time", { dateTime: start }, formatTime(start)) },
  { name: "mode", label: "Mode", cell: ({ mode, is_wait }) => mode ?? (is_wait ? "wait" : "") },
  { name: "rows", label: "Rows", number: true, cell: ({ rows }) => formatCount(rows) },
  { name: "calls", label: "Calls", number: true, cell: ({ calls }) => formatCount(calls) },
  { name: "codes", label: "Codes affected", number: true, cell: ({ codes }) => formatCount(codes) },
  { name: "unmatched", label: "Unmatched", number: true, cell: Unmatched },
  { name: "rejected", label: "Refused", number: true, cell: Rejected },
  { name: "discarded", label: "Discarded fields", cell: ({ discarded }) => discarded.join(", ") },
  { name: "jobs", label: "Jobs", cell: Jobs },
  { name: "seconds", label: "Duration", number: true, cell: Duration },
];

export function UploadTable({ uploads, scope, now, caption }) {
  const [sort, setSort] = useState({ column: "start", descending: true });
  const [page, setPage] = useState(0);
  const sorted = useMemo(() => sortBy(uploads, sort), [uploads, sort]);
  const pages = Math.max(1, Math.ceil(sorted.length / PAGE_SIZE));
  const shown = Math.min(page, pages - 1);
  const columns = COLUMNS.filter((column) => !(column.scope && scope[column.scope]));
  const order = (column) => {
    setSort({ column, descending: sort.column === column ? !sort.descending : column !== "status" });
    setPage(0);
  };
  return h(
    globalThis.React.Fragment,
    null,
    h(
      "div",
      { className: "st-scroll", role: "region", "aria-label": caption, tabIndex: 0 },
      h(
        "table",
        { className: "st-table" },
        h("caption", { className: "st-unseen" }, caption),
        h(
          "thead",
          null,
          h(
            "tr",
            null,
            columns.map(({ name, label, number }) =>
              h(
                "th",
                {
                  key: label,
                  scope: "col",
                  className: number ? "st-number" : undefined,
                  "aria-sort": sort.column === name ? (sort.descending ? "descending" : "ascending") : undefined,
                },
                name
                  ? h(
                      "button",
                      { type: "button", onClick: () => order(name) },
                      label,
                      h("span", { "aria-hidden": true }, sort.column === name ? (sort.descending ? " ▾" : " ▴") : ""),
                    )
                  : label,
              ),
            ),
          ),
        ),
        h(
          "tbody",
          null,
          sorted.slice(shown * PAGE_SIZE, (shown + 1) * PAGE_SIZE).map((upload) =>
            h(
              "tr",
              { key: upload.key, className: `st-row st-${upload.status}`, "data-status": upload.status },
              columns.map(({ name, label, number, cell }) =>
                h(
                  name === "task_id" ? "th" : "td",
                  {
                    key: label,
                    scope: name === "task_id" ? "row" : undefined,
                    className: number ? "st-number" : undefined,
                    "data-column": name ?? "links",
                  },
                  cell(upload, now),
                ),
              ),
            ),
          ),
        ),
      ),
    ),
    pages > 1 &&
      h(
        "nav",
        { className: "st-pages", "aria-label": "Pages of uploads" },
        h("button", { type: "button", disabled: shown === 0, onClick: () => setPage(shown - 1) }, "Previous"),
        h("span", { "aria-live": "polite" }, `Page ${shown + 1} of ${pages}`),
        h("button", { type: "button", disabled: shown === pages - 1, onClick: () => setPage(shown + 1) }, "Next"),
      ),
  );
}

function Status({ status, state }) {
  const { label, mark } = STATUSES[status];
  return h(
    "span",
    { className: "st-status", title: `Task state: ${state ?? "none"}` },
    h("span", { "aria-hidden": true, className: "st-mark" }, mark),
    ` ${label}`,
  );
}

function Task(upload) {
  const { task_id, map_index, try_number } = upload;
  return h(
    globalThis.React.Fragment,
    null,
    h(To, { path: `${taskPath(upload)}/details` }, map_index >= 0 ? `${task_id} [${map_index}]` : task_id),
    try_number > 1 && h("span", { className: "st-muted" }, ` try ${try_number}`),
  );
}

function Unmatched({ unmatched, examples }) {
  if (!unmatched) return formatCount(unmatched);
  const title = examples.length ? `Such as ${examples.join(", ")}` : undefined;
  return h("strong", { title }, formatCount(unmatched));
}

function Rejected({ rejected, rejectedCount, rows }) {
  if (!rejectedCount) return rows === null ? "" : "0";
  const kinds = Object.entries(rejected).map(([kind, count]) => `${kind}: ${formatCount(count)}`);
  return h("strong", { title: kinds.join(", ") }, formatCount(rejectedCount));
}

function Jobs({ jobs, jobs_total, is_wait }) {
  if (jobs_total === 0) return "";
  const states = [...new Set(jobs.map(([, state]) => state))].join(", ");
  const left = jobs_total - jobs.length;
  return h(
    "details",
    null,
    h("summary", null, `${formatCount(jobs_total)} ${states}`),
    h(
      "ul",
      { className: "st-jobs" },
      jobs.map(([id, state]) => h("li", { key: id }, h("code", null, id), " ", state === "failed" ? h("strong", null, state) : state)),
    ),
    left > 0 && h("p", null, `and ${formatCount(left)} more${is_wait ? "" : ", in the XCom task_ids"}`),
  );
}

function Duration({ seconds, status, startedAt }, now) {
  const underWay = status === "waiting" || status === "running";
  if (underWay && startedAt) return `${formatSeconds((now - startedAt) / 1000)} so far`;
  return formatSeconds(seconds);
}

function Links(upload) {
  const name = `${upload.task_id} of ${upload.run_id}`;
  const log = `${taskPath(upload)}?try_number=${upload.try_number}`;
  const { portal } = upload;
  return h(
    "span",
    { className: "st-links" },
    h(To, { path: log, "aria-label": `Log of ${name}` }, "Log"),
    typeof portal === "string" &&
      /^https?:\/\//.test(portal) &&
      h("a", { href: portal, target: "_blank", rel: "noreferrer", "aria-label": `Scantrust portal for ${name}` }, "Portal"),
  );
}
