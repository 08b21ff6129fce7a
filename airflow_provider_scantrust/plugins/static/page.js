// The Scantrust page of the Airflow UI. Airflow imports this module and renders the component that it leaves in
// globalThis.Scantrust, with the React that Airflow shares; there is no build and no other library.

import { Charts } from "./charts.js";
import { STATUSES, byDay, fetchUploads, formatCount, formatTime, isUnderWay, select } from "./model.js";
import { UploadTable } from "./table.js";

const { createElement: h, useCallback, useDeferredValue, useEffect, useMemo, useState } = globalThis.React;

const DAYS = [1, 7, 30, 90];
const REFRESH_MS = 30_000;
const STYLE = new URL("./page.css", import.meta.url).href;

function Scantrust({ dagId, runId, taskId, mapIndex }) {
  const [days, setDays] = useState(7);
  const [text, setText] = useState("");
  const [show, setShow] = useState("");
  const scope = useMemo(
    // The page of a task instance that is not mapped has the map index -1, or none.
    () => ({ dag_id: dagId, run_id: runId, task_id: taskId, map_index: Number(mapIndex) >= 0 ? mapIndex : undefined }),
    [dagId, runId, taskId, mapIndex],
  );
  const { found, error, loading, refresh } = useUploads(scope, days);
  const looked = useDeferredValue(text);
  const uploads = useMemo(() => select(found?.uploads ?? [], { text: looked, show }), [found, looked, show]);
  const now = found ? Date.parse(found.now) : Date.now();
  // After an error these are still the days that were asked for before.
  const seenDays = found?.days ?? days;
  const chart = useMemo(() => byDay(uploads, seenDays, now), [uploads, seenDays, now]);
  const inRun = runId !== undefined;
  const time = inRun ? "in this run" : seenDays === 1 ? "of the last day" : `of the last ${seenDays} days`;
  return h(
    "section",
    { className: "st-page", "aria-labelledby": "st-heading", "aria-busy": loading },
    h("link", { rel: "stylesheet", href: STYLE, precedence: "default" }),
    h("h2", { id: "st-heading" }, "Scantrust uploads"),
    h(Filters, { days, setDays, text, setText, show, setShow, inRun, loading, refresh }),
    error && h("p", { className: "st-error", role: "alert" }, error),
    h("p", { role: "status", className: "st-summary" }, summary(found, uploads, time, loading)),
    found &&
      found.uploads.length > 0 &&
      h(
        globalThis.React.Fragment,
        null,
        h(Waiting, { uploads: found.uploads, setShow }),
        !inRun && h(Charts, { days: chart }),
        uploads.length > 0
          ? h(UploadTable, { uploads, scope, now, caption: `Scantrust uploads and waits ${time}` })
          : h("p", { className: "st-nothing" }, "Nothing here matches the filters."),
      ),
    found && found.uploads.length === 0 && h(Nothing, { time }),
  );
}

function useUploads(scope, days) {
  const [state, setState] = useState({ found: null, error: null, loading: true });
  const [round, setRound] = useState(0);
  const refresh = useCallback(() => setRound((before) => before + 1), []);
  useEffect(() => {
    const control = new AbortController();
    setState((before) => ({ ...before, loading: true }));
    fetchUploads(scope, days, control.signal).then(
      (found) => setState({ found, error: null, loading: false }),
      (error) => {
        if (control.signal.aborted) return;
        // What was seen before stays, unless it is not for this user any more.
        setState((before) => ({ found: error.isForbidden ? null : before.found, error: error.message, loading: false }));
      },
    );
    return () => control.abort();
  }, [scope, days, round]);
  const underWay = state.found?.uploads.some(isUnderWay);
  useEffect(() => {
    // An answer that takes long is waited for.
    if (!underWay || state.loading) return undefined;
    const timer = setInterval(() => document.visibilityState === "visible" && refresh(), REFRESH_MS);
    return () => clearInterval(timer);
  }, [underWay, state.loading, refresh]);
  return { ...state, refresh };
}

function summary(found, uploads, time, loading) {
  if (!found) return loading ? "Loading uploads…" : "";
  if (found.uploads.length === 0) return "";
  const human = uploads.filter(({ status }) => STATUSES[status].needsHuman).length;
  const parts = [
    `${formatCount(uploads.length)} of ${formatCount(found.uploads.length)} uploads and waits ${time}`,
    human === 0 ? "none needs you" : `${formatCount(human)} ${human === 1 ? "needs" : "need"} you`,
    `as of ${formatTime(found.now)}`,
  ];
  if (found.truncated) parts.push("older ones are left out: choose fewer days");
  return `${parts.join("; ")}.`;
}

function Filters({ days, setDays, text, setText, show, setShow, inRun, loading, refresh }) {
  return h(
    "form",
    { className: "st-filters", role: "search", onSubmit: (event) => event.preventDefault() },
    h(
      "label",
      null,
      "Dag, run or task",
      h("input", { type: "search", value: text, onChange: (event) => setText(event.target.value) }),
    ),
    h(
      "label",
      null,
      "Show",
      h(
        "select",
        { value: show, onChange: (event) => setShow(event.target.value) },
        h("option", { value: "" }, "All"),
        h("option", { value: "human" }, "What needs you"),
        Object.entries(STATUSES).map(([status, { label }]) => h("option", { key: status, value: status }, label)),
      ),
    ),
    !inRun &&
      h(
        "label",
        null,
        "Runs of the last",
        h(
          "select",
          { value: days, onChange: (event) => setDays(Number(event.target.value)) },
          DAYS.map((each) => h("option", { key: each, value: each }, each === 1 ? "day" : `${each} days`)),
        ),
      ),
    h("button", { type: "button", onClick: refresh, disabled: loading }, loading ? "Loading…" : "Refresh"),
  );
}

function Waiting({ uploads, setShow }) {
  const waiting = uploads.filter(({ status }) => status === "waiting");
  if (waiting.length === 0) return null;
  const jobs = waiting.reduce((sum, { jobs_total }) => sum + jobs_total, 0);
  return h(
    "p",
    { className: "st-waiting" },
    `Waiting now, without a worker: ${formatCount(waiting.length)} ${waiting.length === 1 ? "task" : "tasks"}`,
    jobs > 0 && ` with ${formatCount(jobs)} ${jobs === 1 ? "job" : "jobs"}`,
    ". ",
    h("button", { type: "button", onClick: () => setShow("waiting") }, "Show them"),
  );
}

function Nothing({ time }) {
  return h(
    "div",
    { className: "st-nothing" },
    h("p", null, `There are no uploads ${time} that you may see.`),
    h("p", { className: "st-muted" }, "Tasks of ScantrustUploadOperator, @task.scantrust_upload and ScantrustTaskSensor are listed here."),
  );
}

globalThis.Scantrust = Scantrust;
