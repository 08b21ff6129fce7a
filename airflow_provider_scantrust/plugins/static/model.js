// What the page knows of an upload, and how it is counted: no DOM and no React in here.

export const PAGE_SIZE = 50;

export const STATUSES = {
  failed: { label: "Failed", mark: "✕", needsHuman: true },
  refused: { label: "Refused rows", mark: "!", needsHuman: true },
  unmatched: { label: "Unmatched keys", mark: "!", needsHuman: true },
  // The next try may mend it, so it stands out, and nobody is called.
  retry: { label: "Failed, will retry", mark: "↻", needsHuman: false, underWay: true },
  waiting: { label: "Waiting", mark: "…", needsHuman: false, underWay: true },
  running: { label: "Running", mark: "▸", needsHuman: false, underWay: true },
  queued: { label: "Queued", mark: "▹", needsHuman: false, underWay: true },
  pending: { label: "Not started", mark: "▹", needsHuman: false },
  skipped: { label: "Skipped", mark: "–", needsHuman: false },
  done: { label: "Done", mark: "✓", needsHuman: false },
};

// Airflow's states of a task but for success, where the report decides; a state that is not here is shown as running.
const STATES = {
  failed: "failed",
  upstream_failed: "failed",
  up_for_retry: "retry",
  deferred: "waiting",
  up_for_reschedule: "waiting",
  awaiting_input: "waiting",
  scheduled: "queued",
  queued: "queued",
  restarting: "queued",
  skipped: "skipped",
  removed: "skipped",
};

// The endpoint is beside this file's folder, wherever Airflow is mounted.
const ENDPOINT = new URL("../../uploads", import.meta.url);

export async function fetchUploads(scope, days, signal) {
  const url = new URL(ENDPOINT);
  for (const [name, value] of Object.entries({ ...scope, days })) {
    if (value !== undefined && value !== null) url.searchParams.set(name, value);
  }
  const answer = await fetch(url, { credentials: "same-origin", signal });
  if (!answer.ok) throw Object.assign(new Error(explain(answer.status)), { isForbidden: [401, 403].includes(answer.status) });
  const found = await answer.json();
  return { ...found, days, uploads: found.uploads.map((each) => ({ ...each, ...derive(each) })) };
}

// What will change without anybody's doing: also a task that has not started, as long as its run goes on.
export const isUnderWay = ({ status, run_is_active }) =>
  STATUSES[status].underWay === true || (status === "pending" && run_is_active);

function explain(status) {
  if (status === 401) return "You are not signed in any more. Reload the page to sign in.";
  if (status === 403) return "You may not read task instances and XComs here. Ask an administrator of this Airflow.";
  return `Airflow answered with HTTP ${status}. The API server's log says why.`;
}

function derive(upload) {
  const rejected = Object.values(upload.rejected).reduce((sum, count) => sum + count, 0);
  const status = statusOf(upload, rejected);
  const key = [upload.dag_id, upload.run_id, upload.task_id, upload.map_index].join("\n");
  return { key, rejectedCount: rejected, status, text: key.toLowerCase(), startedAt: Date.parse(upload.start) };
}

function statusOf(upload, rejected) {
  if (upload.state === null) return "pending";
  if (upload.state !== "success") return STATES[upload.state] ?? "running";
  if (rejected > 0) return "refused";
  return upload.unmatched > 0 ? "unmatched" : "done";
}

export function select(uploads, { text, show }) {
  const words = text.toLowerCase().split(/\s+/).filter(Boolean);
  return uploads.filter((upload) => {
    if (show === "human" ? !STATUSES[upload.status].needsHuman : show && upload.status !== show) return false;
    return words.every((word) => upload.text.includes(word));
  });
}

export function sortBy(uploads, { column, descending }) {
  const sign = descending ? -1 : 1;
  const valueOf = COLUMN_VALUES[column] ?? ((upload) => upload[column]);
  return uploads
    .map((upload, index) => [valueOf(upload), index, upload])
    .sort(([left, leftIndex], [right, rightIndex]) => {
      // What is not known comes last in either direction.
      const missing = isMissing(left) - isMissing(right);
      if (missing) return missing;
      if (isMissing(left) || left === right) return leftIndex - rightIndex;
      return left < right ? -sign : sign;
    })
    .map(([, , upload]) => upload);
}

const COLUMN_VALUES = {
  status: (upload) => Object.keys(STATUSES).indexOf(upload.status),
  start: (upload) => upload.startedAt,
  rejected: (upload) => upload.rejectedCount,
  discarded: (upload) => upload.discarded.length,
  jobs: (upload) => upload.jobs_total,
};

const isMissing = (value) => Number(value === null || value === undefined || Number.isNaN(value));

// A day is a day of whoever looks.
export function byDay(uploads, days, now) {
  const last = new Date(now);
  const found = new Map();
  for (let back = days - 1; back >= 0; back--) {
    const day = new Date(last.getFullYear(), last.getMonth(), last.getDate() - back);
    found.set(day.toDateString(), { day, codes: 0, waits: [] });
  }
  for (const upload of uploads) {
    const of = found.get(new Date(upload.end ?? upload.startedAt).toDateString());
    if (!of) continue;
    // The codes of a job are counted once: where it was waited for.
    of.codes += upload.codes ?? 0;
    if (upload.jobs_total > 0 && upload.state === "success" && upload.codes !== null && upload.codes !== undefined) {
      of.waits.push(upload.seconds);
    }
  }
  return [...found.values()].map(({ day, codes, waits }) => ({ day, codes, ...medianAndLongest(waits) }));
}

function medianAndLongest(seconds) {
  if (seconds.length === 0) return { median: null, longest: null };
  const sorted = seconds.toSorted((left, right) => left - right);
  const half = sorted.length / 2;
  const median = (sorted[Math.ceil(half) - 1] + sorted[Math.floor(half)]) / 2;
  return { median, longest: sorted.at(-1) };
}

export const formatCount = (count) => (count === null || count === undefined ? "" : count.toLocaleString());

export function formatSeconds(seconds) {
  if (seconds === null || seconds === undefined) return "";
  if (seconds < 60) return `${seconds < 10 ? seconds.toFixed(1) : Math.round(seconds)} s`;
  const minutes = Math.round(seconds / 60);
  return minutes < 60 ? `${minutes} min` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

export const formatTime = (moment) =>
  new Date(moment).toLocaleString(undefined, { dateStyle: "short", timeStyle: "medium" });
