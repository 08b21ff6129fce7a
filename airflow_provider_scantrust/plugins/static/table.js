// The uploads as a table, one page of it in the document. Mapped tasks of a run are one row that can be opened.

import { formatCount, formatSeconds, plural, shortRun } from "./format.js";
import { PAGE_SIZE, group, sortBy } from "./model.js";
import { Portal, Status, To, cardPath, logPath, runPath } from "./parts.js";

const { createElement: h, Fragment, useMemo, useState } = globalThis.React;

const COLUMNS = [
  { name: "status", label: "Status", cell: StatusAndLinks },
  { name: "upload", label: "Upload", cell: Upload },
  { name: "start", label: "Run", cell: RunAndStart },
  { name: "why", label: "Why", cell: Why, isKnown: ({ why }) => why.length > 0 },
  { name: "rows", label: "Rows", isNumber: true },
  { name: "codes", label: "Codes", isNumber: true },
  { name: "unmatched", label: "Unknown keys", isNumber: true, cell: Unmatched, isKnown: ({ unmatched }) => unmatched },
  { name: "rejected", label: "Rejected", isNumber: true, cell: Rejected, isKnown: ({ rejectedCount }) => rejectedCount },
  { name: "jobs", label: "Jobs", isNumber: true, cell: Jobs, isKnown: ({ jobs_total }) => jobs_total },
  { name: "seconds", label: "Duration", isNumber: true, cell: Duration, isKnown: ({ seconds, start }) => seconds !== null || start },
];
const isShown = (column) => column.isKnown ?? ((upload) => (column.isNumber ? upload[column.name] !== null : true));

const labelOf = ({ name, label }, scope) => (name === "start" && scope.run_id ? "Started" : label);

export function UploadTable({ uploads, scope, now, clock, caption }) {
  const [sort, setSort] = useState({ column: "start", descending: true });
  const [page, setPage] = useState(0);
  const [opened, setOpened] = useState(() => new Set());
  const sorted = useMemo(() => sortBy(group(uploads), sort), [uploads, sort]);
  const pages = Math.max(1, Math.ceil(sorted.length / PAGE_SIZE));
  const shown = Math.min(page, pages - 1);
  // Leave out columns that are empty in all rows.
  const columns = useMemo(() => COLUMNS.filter((column) => uploads.some((each) => isShown(column)(each))), [uploads]);
  const order = (column) => {
    setSort({ column, descending: sort.column === column ? !sort.descending : column !== "status" });
    setPage(0);
  };
  const toggle = (key) =>
    setOpened((before) => {
      const after = new Set(before);
      if (!after.delete(key)) after.add(key);
      return after;
    });
  const context = { now, clock, scope, opened, toggle };
  const rows = sorted.slice(shown * PAGE_SIZE, (shown + 1) * PAGE_SIZE);
  return h(
    Fragment,
    null,
    h(
      "div",
      { className: "st-scroll", role: "region", "aria-label": caption, tabIndex: 0 },
      h(
        "table",
        { className: "st-table" },
        h("caption", { className: "st-unseen" }, caption),
        h("thead", null, h("tr", null, columns.map((column) => h(Header, { key: column.name, ...column, label: labelOf(column, scope), sort, order })))),
        h(
          "tbody",
          null,
          rows.flatMap((upload) => [
            h(Row, { key: upload.key, upload, columns, context }),
            ...(opened.has(upload.key) ? members(upload, columns, context) : []),
          ]),
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

// Tasks that need attention come first, because only the first of many mapped tasks are shown.
function members(upload, columns, context) {
  const all = sortBy(upload.members ?? [], { column: "status", descending: false });
  const rows = all.slice(0, PAGE_SIZE).map((each) => h(Row, { key: each.key, upload: each, columns, context, isMember: true }));
  const more = all.length - PAGE_SIZE;
  if (more <= 0) return rows;
  const text = `and ${plural(more, "more mapped task")}: search for the task, or open it in Airflow`;
  return [...rows, h("tr", { key: `${upload.key} more`, className: "st-member" }, h("td", { colSpan: columns.length }, text))];
}

function Header({ name, label, isNumber, sort, order }) {
  const isSorted = sort.column === name;
  return h(
    "th",
    {
      scope: "col",
      className: isNumber ? "st-number" : undefined,
      "data-column": name,
      "aria-sort": isSorted ? (sort.descending ? "descending" : "ascending") : undefined,
    },
    h(
      "button",
      { type: "button", onClick: () => order(name) },
      label,
      h("span", { "aria-hidden": true }, isSorted ? (sort.descending ? " ▾" : " ▴") : ""),
    ),
  );
}

function Row({ upload, columns, context, isMember }) {
  return h(
    "tr",
    {
      className: isMember ? "st-row st-member" : "st-row",
      "data-status": upload.status,
      "data-attention": upload.needs_attention ? "" : undefined,
    },
    columns.map(({ name, isNumber, cell }) =>
      h(
        name === "upload" ? "th" : "td",
        { key: name, scope: name === "upload" ? "row" : undefined, className: isNumber ? "st-number" : undefined, "data-column": name },
        cell ? cell(upload, context) : formatCount(upload[name]),
      ),
    ),
  );
}

function StatusAndLinks(upload) {
  const label = `Log of ${upload.task_id} of ${upload.run_id}`;
  return h(
    Fragment,
    null,
    h(Status, upload),
    !upload.members &&
      h("span", { className: "st-links" }, h(To, { path: logPath(upload), "aria-label": label }, "Log"), h(Portal, { upload })),
  );
}

function Upload(upload, { scope, opened, toggle }) {
  const { task_id, map_index, try_number, dag_id, members: mapped, mode, is_wait: isWait } = upload;
  const isOpen = opened.has(upload.key);
  const more = [
    !scope.dag_id && dag_id,
    mode ?? (isWait && "wait"),
    mapped ? plural(mapped.length, "mapped task") : try_number > 1 && `try ${try_number}`,
  ].filter(Boolean);
  return h(
    Fragment,
    null,
    mapped &&
      h(
        "button",
        { type: "button", className: "st-fold", "aria-expanded": isOpen, "aria-label": `Mapped tasks of ${task_id}`, onClick: () => toggle(upload.key) },
        isOpen ? "▾" : "▸",
      ),
    h(To, { path: cardPath(upload) }, map_index >= 0 && !mapped ? `${task_id} [${map_index}]` : task_id),
    h("div", { className: "st-muted" }, more.join(" · ")),
  );
}

function RunAndStart(upload, { clock, scope }) {
  const { run_id, start } = upload;
  return h(
    Fragment,
    null,
    !scope.run_id && h(To, { path: runPath(upload), title: run_id, className: "st-cut" }, shortRun(run_id, clock)),
    start && h("time", { dateTime: start, className: scope.run_id ? undefined : "st-muted" }, clock.moment(start)),
  );
}

function Why({ why }) {
  if (why.length === 0) return "";
  return h("ul", { className: "st-why" }, why.map((text) => h("li", { key: text, title: text }, text)));
}

function Unmatched({ unmatched, examples }) {
  return h("span", { title: examples.length ? `Such as ${examples.join(", ")}` : undefined }, formatCount(unmatched));
}

function Rejected({ rejected, rejectedCount, rows }) {
  if (rows === null) return "";
  const kinds = Object.entries(rejected).map(([kind, count]) => `${kind}: ${formatCount(count)}`);
  return h("span", { title: kinds.join(", ") || undefined }, formatCount(rejectedCount));
}

function Jobs({ jobs, jobs_total }) {
  if (!jobs_total) return "";
  const states = [...new Set(jobs.map(([, state]) => state))].join(", ");
  return h(Fragment, null, formatCount(jobs_total), h("span", { className: "st-muted" }, ` ${states}`));
}

function Duration({ seconds, status, startedAt }, { now }) {
  const isUnderWay = status === "waiting" || status === "running";
  return isUnderWay && startedAt ? `${formatSeconds((now - startedAt) / 1000)} so far` : formatSeconds(seconds);
}
