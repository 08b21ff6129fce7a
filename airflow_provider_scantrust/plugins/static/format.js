// How the page writes moments, counts and durations: as Airflow does.

// Airflow stores the user's time zone here. Without a choice, it uses the browser's.
function timeZone() {
  try {
    const zone = JSON.parse(globalThis.localStorage.getItem("timezone")) ?? undefined;
    new Intl.DateTimeFormat("sv-SE", { timeZone: zone });
    return zone;
  } catch {
    return undefined;
  }
}

// Swedish dates look like Airflow's: 2026-11-02 07:00:00.
const DATE = { year: "numeric", month: "2-digit", day: "2-digit" };
const TIME = { hour: "2-digit", minute: "2-digit", second: "2-digit" };

export function makeClock() {
  const zone = { timeZone: timeZone() };
  const day = new Intl.DateTimeFormat("sv-SE", { ...DATE, ...zone });
  const moment = new Intl.DateTimeFormat("sv-SE", { ...DATE, ...TIME, ...zone });
  const write = (form, value) => {
    const date = new Date(value ?? NaN);
    return Number.isNaN(date.getTime()) ? "" : form.format(date);
  };
  return { day: (value) => write(day, value), moment: (value) => write(moment, value) };
}

export const formatCount = (count) => (count === null || count === undefined ? "" : count.toLocaleString());

export const plural = (count, noun) => `${formatCount(count)} ${noun}${count === 1 ? "" : "s"}`;

export function formatSeconds(seconds) {
  if (seconds === null || seconds === undefined) return "";
  if (seconds < 60) return `${seconds < 10 ? seconds.toFixed(1) : Math.round(seconds)} s`;
  const minutes = Math.round(seconds / 60);
  return minutes < 60 ? `${minutes} min` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

// Airflow's own run ids are long. The kind and the time are enough.
export function shortRun(runId, clock) {
  const [, kind, moment] = /^(scheduled|manual|backfill|asset_triggered)__(\d{4}-\d\d-\d\dT[\d:.]+(?:Z|[+-]\d\d:\d\d))/.exec(runId) ?? [];
  if (!moment) return runId;
  return `${kind === "scheduled" ? "" : `${kind.replace("_", " ")} `}${clock.moment(moment).slice(0, 16)}`;
}
