// The Scantrust page of the Airflow UI. Airflow imports this module and renders the component that it leaves in
// globalThis.Scantrust, with the React that Airflow shares; there is no build and no other library.

import { fetchUploads } from "./api.js";
import { Card } from "./card.js";
import { Charts } from "./charts.js";
import { Filters, useFilters } from "./filters.js";
import { formatCount, makeClock, plural } from "./format.js";
import { byDay, connectionsOf, derive, select } from "./model.js";
import { UploadTable } from "./table.js";

const { createElement: h, Fragment, useCallback, useDeferredValue, useEffect, useMemo, useState } = globalThis.React;

const REFRESH_MS = 30_000;
const STYLE = new URL("./page.css", import.meta.url).href;

function Scantrust({ dagId, runId, taskId, mapIndex }) {
  const [filters, change] = useFilters();
  const scope = useMemo(
    // The page of a task instance that is not mapped has the map index -1, or none.
    () => ({ dag_id: dagId, run_id: runId, task_id: taskId, map_index: Number(mapIndex) >= 0 ? mapIndex : undefined }),
    [dagId, runId, taskId, mapIndex],
  );
  const { found, error, loading, refresh } = useUploads(scope, filters.days);
  // A new clock for each answer, because the user may have chosen another time zone.
  const clock = useMemo(makeClock, [found]);
  const inRun = runId !== undefined;
  const isCard = inRun && taskId !== undefined && found?.uploads.length === 1;
  const view = { found, error, loading, refresh, filters, change, scope, clock, inRun };
  return h(
    "section",
    { className: "st-page", "aria-labelledby": "st-heading", "aria-busy": loading },
    h("link", { rel: "stylesheet", href: STYLE, precedence: "default" }),
    h("h2", { id: "st-heading" }, isCard ? "Scantrust report" : "Scantrust uploads"),
    error && h("p", { className: "st-error", role: "alert" }, error),
    isCard ? h(Card, { upload: found.uploads[0], now: Date.parse(found.now), clock, refresh }) : h(List, view),
  );
}

function List({ found, loading, refresh, filters, change, scope, clock, inRun }) {
  const text = useDeferredValue(filters.q);
  const uploads = useMemo(() => select(found?.uploads ?? [], { ...filters, text }), [found, text, filters.show, filters.connection]);
  const connections = useMemo(() => connectionsOf(found?.uploads ?? []), [found]);
  const now = found ? Date.parse(found.now) : Date.now();
  // After an error, the days of the last answer.
  const days = found?.days ?? filters.days;
  const chart = useMemo(() => byDay(uploads, days, now, clock), [uploads, days, now, clock]);
  const time = inRun ? "in this run" : days === 1 ? "of the last day" : `of the last ${days} days`;
  const isEmpty = found?.uploads.length === 0;
  return h(
    Fragment,
    null,
    h(Filters, { filters, change, connections, inRun, loading, refresh }),
    h("p", { role: "status", className: "st-summary" }, h(Summary, { found, uploads, time, loading, clock, change })),
    isEmpty && h(Nothing, { time, inRun }),
    found &&
      !isEmpty &&
      h(
        Fragment,
        null,
        !inRun && h(Charts, { days: chart }),
        uploads.length > 0
          ? h(UploadTable, { uploads, scope, now, clock, caption: `Scantrust uploads and waits ${time}` })
          : h(NoMatch, { change }),
      ),
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
      (found) => setState({ found: { ...found, days, uploads: found.uploads.map(derive) }, error: null, loading: false }),
      (error) => {
        if (control.signal.aborted) return;
        // Earlier rows stay, unless the user may no longer see them.
        setState((before) => ({ found: error.isForbidden ? null : before.found, error: error.message, loading: false }));
      },
    );
    return () => control.abort();
  }, [scope, days, round]);
  useEffect(() => {
    // Do not interrupt a slow answer.
    if (state.loading) return undefined;
    const timer = setInterval(() => document.visibilityState === "visible" && refresh(), REFRESH_MS);
    return () => clearInterval(timer);
  }, [state.loading, refresh]);
  return { ...state, refresh };
}

function Summary({ found, uploads, time, loading, clock, change }) {
  if (!found) return loading ? "Loading uploads…" : "";
  if (found.uploads.length === 0) return "";
  const counts = new Map();
  for (const { status } of uploads) counts.set(status, (counts.get(status) ?? 0) + 1);
  const attention = uploads.filter(({ needs_attention }) => needs_attention).length;
  const link = (show, label) => {
    const url = new URL(location.href);
    url.searchParams.set("show", show);
    const onClick = (event) => {
      if (event.metaKey || event.ctrlKey || event.shiftKey) return;
      event.preventDefault();
      change({ show });
    };
    return h("a", { key: show, href: url.href, onClick }, label);
  };
  const waiting = counts.get("waiting") ?? 0;
  return h(
    Fragment,
    null,
    `${formatCount(uploads.length)} of ${formatCount(found.uploads.length)} uploads and waits ${time}. `,
    attention > 0 ? link("attention", `${formatCount(attention)} ${attention === 1 ? "needs" : "need"} attention`) : "None needs attention",
    ". ",
    waiting > 0 && link("waiting", `${plural(waiting, "task")} ${waiting === 1 ? "waits" : "wait"} without a worker`),
    waiting > 0 && ". ",
    found.truncated && "The list is full, so older ones are not shown. ",
    `As of ${clock.moment(found.now)}.`,
  );
}

function NoMatch({ change }) {
  const clear = () => change({ q: "", show: "", connection: "" });
  return h(
    "div",
    { className: "st-nothing" },
    h("p", null, "No upload matches the filters. "),
    h("button", { type: "button", onClick: clear }, "Clear the filters"),
  );
}

function Nothing({ time, inRun }) {
  return h(
    "div",
    { className: "st-nothing" },
    h("p", null, `There are no uploads ${time} that you may see.`),
    h(
      "p",
      { className: "st-muted" },
      "This page lists tasks of ScantrustUploadOperator, @task.scantrust_upload and ScantrustTaskSensor. ",
      inRun ? "They appear here when the run has reached them." : "Choose more days above, or trigger a Dag that uploads.",
    ),
  );
}

globalThis.Scantrust = Scantrust;
