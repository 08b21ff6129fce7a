// What the page knows about an upload, and how uploads are counted. No DOM and no React here.

export const PAGE_SIZE = 50;

// In the order of the column Status: the most urgent first.
export const STATUSES = {
  failed: { label: "Failed", mark: "✕", color: "failed" },
  warning: { label: "Warning", mark: "!", color: "warning" },
  retry: { label: "Will retry", mark: "↻", color: "up_for_retry" },
  waiting: { label: "Waiting", mark: "…", color: "deferred" },
  running: { label: "Running", mark: "▸", color: "running" },
  queued: { label: "Queued", mark: "▹", color: "queued" },
  pending: { label: "Not started", mark: "▹", color: "none" },
  skipped: { label: "Skipped", mark: "–", color: "skipped" },
  done: { label: "Done", mark: "✓", color: "success" },
};
const ORDER = Object.keys(STATUSES);

// Airflow's task states. For success, the report decides; any other state is shown as running.
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

// The answer leaves out unknown values.
const UNKNOWN = Object.fromEntries(
  ["state", "start", "end", "connection", "source", "mode", "mode_reason", "rows", "calls", "throttled", "codes", "unmatched"]
    .concat(["rejects_path", "discarded", "jobs_total", "possibly_twice", "seconds", "portal", "failure", "note"])
    .map((name) => [name, null]),
);

export function derive(known) {
  const upload = { ...UNKNOWN, ...known };
  const status = statusOf(upload);
  const rejectedCount = Object.values(upload.rejected).reduce((sum, count) => sum + count, 0);
  const why = upload.problems.map(({ text }) => text);
  const words = [upload.key, upload.connection, upload.source, ...why].filter(Boolean).join("\n").toLowerCase();
  return { ...upload, ...splitRows(upload, rejectedCount), status, rejectedCount, why, words, startedAt: Date.parse(upload.start) };
}

function statusOf({ state, problems }) {
  if (state === null) return "pending";
  if (state !== "success") return STATES[state] ?? "running";
  return problems.length > 0 ? "warning" : "done";
}

// Only for an upload that has ended. Rows of jobs that no task waited for are not counted.
function splitRows({ rows, codes, unmatched, mode }, rejected) {
  if (rows === null || codes === null || mode === "dry run") return { updated: null };
  // Each unknown key counts once, but several rows may have it, so this is an upper limit.
  return { updated: codes === 0 ? 0 : Math.max(0, rows - (unmatched ?? 0) - rejected) };
}

export const mayChange = ({ status, run_is_active }) =>
  ["retry", "waiting", "running", "queued"].includes(status) || (status === "pending" && run_is_active);

export function select(uploads, { text, show, connection }) {
  const words = text.toLowerCase().split(/\s+/).filter(Boolean);
  return uploads.filter((upload) => {
    if (show === "attention" ? !upload.needs_attention : show && upload.status !== show) return false;
    if (connection && upload.connection !== connection) return false;
    return words.every((word) => upload.words.includes(word));
  });
}

export const connectionsOf = (uploads) => [...new Set(uploads.map(({ connection }) => connection).filter(Boolean))].sort();

// One entry for each task of a run: the upload itself, or its mapped instances together.
export function group(uploads) {
  const groups = new Map();
  for (const upload of uploads) {
    const key = upload.map_index < 0 ? upload.key : [upload.dag_id, upload.run_id, upload.task_id].join("\n");
    if (!groups.has(key)) groups.set(key, []);
    groups.get(key).push(upload);
  }
  return [...groups].map(([key, members]) => (members.length === 1 ? members[0] : summarize(key, members)));
}

function summarize(key, members) {
  const [first] = members;
  const worst = members.reduce((one, other) => (ORDER.indexOf(other.status) < ORDER.indexOf(one.status) ? other : one));
  const sums = Object.fromEntries(
    ["rows", "updated", "calls", "codes", "unmatched", "rejectedCount", "jobs_total"].map((name) => [name, sumOf(members, name)]),
  );
  const byKind = new Map();
  for (const problem of members.flatMap(({ problems }) => problems)) {
    byKind.set(problem.kind, [...(byKind.get(problem.kind) ?? []), problem.text]);
  }
  const why = [...byKind.values()].map((texts) => `${texts.length} of ${members.length}: ${texts[0]}`);
  const starts = members.map(({ startedAt }) => startedAt).filter((moment) => !Number.isNaN(moment));
  const startedAt = starts.length ? Math.min(...starts) : NaN;
  const ends = members.map(({ end }) => Date.parse(end)).filter((moment) => !Number.isNaN(moment));
  const seconds = ends.length && starts.length ? (Math.max(...ends) - startedAt) / 1000 : null;
  return {
    ...first,
    ...sums,
    key,
    members,
    why,
    startedAt,
    seconds,
    status: worst.status,
    state: worst.state,
    start: Number.isNaN(startedAt) ? null : new Date(startedAt).toISOString(),
    needs_attention: members.some(({ needs_attention }) => needs_attention),
    jobs: members.flatMap(({ jobs }) => jobs),
    portal: null,
  };
}

function sumOf(members, name) {
  const known = members.map((member) => member[name]).filter((value) => value !== null && value !== undefined);
  return known.length ? known.reduce((sum, value) => sum + value, 0) : null;
}

const COLUMN_VALUES = {
  status: ({ status }) => ORDER.indexOf(status),
  upload: ({ dag_id, task_id }) => `${dag_id}\n${task_id}`,
  why: ({ why }) => why[0] ?? null,
  start: ({ startedAt }) => startedAt,
  rejected: ({ rejectedCount }) => rejectedCount,
  jobs: ({ jobs_total }) => jobs_total,
};

const isMissing = (value) => Number(value === null || value === undefined || Number.isNaN(value));

export function sortBy(uploads, { column, descending }) {
  const sign = descending ? -1 : 1;
  const valueOf = COLUMN_VALUES[column] ?? ((upload) => upload[column]);
  return uploads
    .map((upload, index) => [valueOf(upload), index, upload])
    .sort(([left, leftIndex], [right, rightIndex]) => {
      // Unknown values come last in either direction.
      const missing = isMissing(left) - isMissing(right);
      if (missing) return missing;
      if (isMissing(left) || left === right) return leftIndex - rightIndex;
      return left < right ? -sign : sign;
    })
    .map(([, , upload]) => upload);
}

// Days in the time zone that the user chose in Airflow.
export function byDay(uploads, days, now, clock) {
  const found = new Map();
  for (let back = days - 1; back >= 0; back--) {
    const day = clock.day(now - back * 86_400_000);
    found.set(day, { day, updated: 0, unmatched: 0, rejected: 0, done: 0, warning: 0, failed: 0, waits: [] });
  }
  for (const upload of uploads) {
    const of = found.get(clock.day(upload.end ?? upload.start));
    if (!of) continue;
    of.updated += upload.updated ?? 0;
    if (upload.mode !== "dry run") {
      of.unmatched += upload.unmatched ?? 0;
      of.rejected += upload.rejectedCount;
    }
    if (upload.status in of) of[upload.status] += 1;
    if (upload.jobs_total > 0 && upload.state === "success" && upload.codes !== null) of.waits.push(upload.seconds ?? 0);
  }
  return [...found.values()].map(({ waits, ...day }) => ({ ...day, ...medianAndLongest(waits) }));
}

function medianAndLongest(seconds) {
  if (seconds.length === 0) return { median: 0, longest: 0 };
  const sorted = seconds.toSorted((left, right) => left - right);
  const half = sorted.length / 2;
  return { median: (sorted[Math.ceil(half) - 1] + sorted[Math.floor(half)]) / 2, longest: sorted.at(-1) };
}
