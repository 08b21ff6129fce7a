// The report card of one task instance: what was uploaded, what happened to each row, and what to do next.

import { acknowledge, clearTask, withdraw } from "./api.js";
import { formatCount, formatSeconds, plural } from "./format.js";
import { Copy, Portal, RowsBar, Status, To, logPath, runPath } from "./parts.js";

const { createElement: h, Fragment, useState } = globalThis.React;

export function Card({ upload, now, clock, refresh }) {
  return h(
    "article",
    { className: "st-card", "data-status": upload.status, "data-attention": upload.needs_attention ? "" : undefined },
    h(
      "header",
      null,
      h(Status, upload),
      upload.why.length > 0 && h("ul", { className: "st-why" }, upload.why.map((text) => h("li", { key: text }, text))),
    ),
    h(NextStep, { upload }),
    h(Actions, { upload, refresh }),
    h(Rows, { upload }),
    upload.rejects_path && h(Rejects, { path: upload.rejects_path }),
    h(Facts, { upload, now, clock }),
    h(Jobs, { upload, clock }),
  );
}

export function nextStep({ status, failure, try_number, tries, acknowledged, needs_attention, is_wait }) {
  if (status === "retry") {
    const next = `Airflow starts try ${try_number + 1} of ${tries} by itself after the retry delay.`;
    return is_wait
      ? `${next} It waits for the same jobs again.`
      : `${next} On Airflow 3.3 and later it continues where this try stopped; on older versions it sends all rows again.`;
  }
  if (["failed", "warning"].includes(status) && acknowledged) return "A user has acknowledged this.";
  if (["failed", "warning"].includes(status) && !needs_attention) return "A later run of this task succeeded without this problem.";
  if (status === "failed") {
    if (failure?.permanent) return "A retry cannot fix this. Fix the cause, then run the task again.";
    return "Airflow does not try again. Run the task again when the cause is gone.";
  }
  if (status === "waiting") return "The task waits for its jobs without a worker. It continues by itself.";
  if (status !== "warning") return null;
  return "Fix the rows or the campaign and upload again, or acknowledge the warning.";
}

function NextStep({ upload }) {
  const text = nextStep(upload);
  return text && h("p", { className: "st-next" }, text);
}

function Actions({ upload, refresh }) {
  const [error, setError] = useState(null);
  const [busy, setBusy] = useState(false);
  const act = async (change) => {
    setBusy(true);
    setError(null);
    try {
      await change(upload);
      refresh();
    } catch (problem) {
      setError(problem.message);
    }
    setBusy(false);
  };
  const runAgain = () => {
    const question = `Clear ${upload.task_id} of ${upload.run_id}? Airflow then runs this task again.`;
    if (globalThis.confirm(question)) act(clearTask);
  };
  const hasEnded = ["failed", "warning", "done", "retry"].includes(upload.status);
  const mayAcknowledge = upload.needs_attention && !upload.acknowledged;
  return h(
    Fragment,
    null,
    h(
      "div",
      { className: "st-actions" },
      mayAcknowledge && h("button", { type: "button", disabled: busy, onClick: () => act(acknowledge) }, "Acknowledge"),
      upload.acknowledged && h("button", { type: "button", disabled: busy, onClick: () => act(withdraw) }, "Withdraw acknowledgment"),
      hasEnded && h("button", { type: "button", disabled: busy, onClick: runAgain }, "Clear and run again"),
      h(To, { path: logPath(upload) }, "Log"),
      h(To, { path: `${runPath(upload)}/plugin/scantrust-run` }, "All uploads of this run"),
      h(Portal, { upload }),
    ),
    error && h("p", { className: "st-error", role: "alert" }, error),
  );
}

function Rows({ upload }) {
  const { rows, updated, unmatched, rejected, rejectedCount, examples, mode } = upload;
  if (rows === null) return null;
  const parts = [
    { name: "Updated", count: updated ?? 0, color: "success" },
    { name: "Unknown keys", count: unmatched ?? 0, color: "warning" },
    { name: "Rejected", count: rejectedCount, color: "failed" },
  ];
  const kinds = Object.entries(rejected).map(([kind, count]) => `${kind}: ${formatCount(count)}`);
  return h(
    "section",
    { "aria-label": "Rows" },
    h("h3", null, plural(rows, "row")),
    mode !== "dry run" && h(RowsBar, { parts }),
    updated === null
      ? h("p", { className: "st-muted" }, whyNotKnown(upload))
      : h(
          "ul",
          { className: "st-legend" },
          parts.map(({ name, count, color }) => h("li", { key: name }, h("i", { "data-color": color }), `${name} ${formatCount(count)}`)),
        ),
    examples.length > 0 && h("p", null, "Unknown keys, for example: ", h("code", null, examples.join(", "))),
    kinds.length > 0 && h("p", null, `Rejected rows by reason: ${kinds.join(", ")}`),
  );
}

function whyNotKnown({ mode, status }) {
  if (mode === "dry run") return "A dry run sends nothing.";
  if (status === "waiting") return "How many rows were updated is known when the jobs have ended.";
  const why = ["failed", "retry"].includes(status) ? "the upload did not end" : "nothing waited for the jobs";
  return `How many rows were updated is not known: ${why}.`;
}

function Rejects({ path }) {
  const copy = h(Copy, { text: path, what: "the path of the rejects file" });
  return h("p", null, "Rejected rows and reasons: ", h("code", null, path), " ", copy);
}

function Facts({ upload, now, clock }) {
  const { mode, mode_reason: reason, discarded, calls, throttled, seconds, status, startedAt } = upload;
  const isUnderWay = ["waiting", "running"].includes(status) && startedAt;
  // A cleared task still has the times of its last try.
  const hasStarted = !["pending", "queued"].includes(status);
  const facts = [
    ["Source", upload.source],
    ["Connection", upload.connection],
    ["Mode", mode && (reason ? `${mode}: ${reason}` : mode)],
    ["Codes updated", formatCount(upload.codes)],
    ["Ignored fields", discarded === null ? upload.rows !== null && mode !== "dry run" && "not known" : discarded.join(", ") || "none"],
    ["Calls", calls !== null && `${formatCount(calls)}${throttled ? `, ${formatCount(throttled)} throttled` : ""}`],
    ["Possibly submitted twice", upload.possibly_twice && plural(upload.possibly_twice, "job")],
    ["Started", hasStarted && clock.moment(upload.start)],
    ["Ended", hasStarted && !isUnderWay && clock.moment(upload.end)],
    ["Duration", isUnderWay ? `${formatSeconds((now - startedAt) / 1000)} so far` : hasStarted && formatSeconds(seconds)],
    ["Try", upload.try_number > 0 && `${upload.try_number} of ${upload.tries}`],
    ["Note", upload.note],
  ].filter(([, value]) => value);
  return h(
    "dl",
    { className: "st-facts" },
    facts.map(([name, value]) => h("div", { key: name }, h("dt", null, name), h("dd", null, value))),
  );
}

function Jobs({ upload, clock }) {
  const { jobs, jobs_total: total, is_wait: isWait } = upload;
  if (!total) return null;
  const left = total - jobs.length;
  const columns = [
    { label: "Job", cell: ([id]) => h("code", null, id) },
    { label: "State", cell: ([, state]) => (state === "failed" ? h("strong", null, state) : state) },
    { label: "Codes", cell: ([, , codes]) => formatCount(codes) },
    { label: "End seen", cell: ([, , , seen]) => seen && clock.moment(seen) },
  ].filter(({ cell }) => jobs.some((job) => cell(job)));
  return h(
    "section",
    { "aria-label": "Jobs" },
    h("h3", null, plural(total, "job")),
    jobs.length > 0 &&
      h(
        "table",
        { className: "st-table" },
        h("thead", null, h("tr", null, columns.map(({ label }) => h("th", { key: label, scope: "col" }, label)))),
        h(
          "tbody",
          null,
          jobs.map((job) =>
            h("tr", { key: job[0] }, columns.map(({ label, cell }) => h(label === "Job" ? "th" : "td", { key: label }, cell(job)))),
          ),
        ),
      ),
    left > 0 && h("p", { className: "st-muted" }, `and ${formatCount(left)} more${isWait ? "" : ", in the XCom task_ids"}`),
  );
}
