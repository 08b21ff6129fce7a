// The page's requests: rows from the plugin, and changes through Airflow's REST API with the user's own rights.

// The endpoint is beside this file's folder, wherever Airflow is mounted.
const ENDPOINT = new URL("../../uploads", import.meta.url);
const AIRFLOW = new URL("../../../api/v2/", import.meta.url);

export async function fetchUploads(scope, days, signal) {
  const url = new URL(ENDPOINT);
  for (const [name, value] of Object.entries({ ...scope, days })) {
    if (value !== undefined && value !== null) url.searchParams.set(name, value);
  }
  const answer = await fetch(url, { credentials: "same-origin", signal }).catch((error) => {
    if (error.name === "AbortError") throw error;
    throw new Error("Airflow's API server does not answer. The page tries again every 30 seconds.");
  });
  if (!answer.ok) throw Object.assign(new Error(explain(answer.status)), { isForbidden: [401, 403].includes(answer.status) });
  return answer.json();
}

function explain(status) {
  if (status === 401) return "You are signed out. Reload the page to sign in.";
  if (status === 403) return "You may not read task instances and XComs here. Ask an administrator of this Airflow.";
  if (status === 501) return "This page does not work with this version of Airflow. Upgrade airflow-provider-scantrust.";
  return `Airflow answered with HTTP ${status}. The API server's log says why.`;
}

const ACKNOWLEDGED = /^Scantrust: acknowledged \(try \d+\)\n?/gm;
const NOTE_LENGTH = 1000;

// The acknowledgment is a line in the task instance's note, because Airflow records who wrote it.
// The rest of the note stays.
export function acknowledge(upload) {
  const line = `Scantrust: acknowledged (try ${upload.try_number})`;
  const note = [(upload.note ?? "").replace(ACKNOWLEDGED, "").trimEnd(), line].filter(Boolean).join("\n");
  if (note.length > NOTE_LENGTH) throw new Error("The task instance's note is full. Shorten it first.");
  return patchNote(upload, note);
}

export const withdraw = (upload) => patchNote(upload, (upload.note ?? "").replace(ACKNOWLEDGED, "").trimEnd());

const segment = encodeURIComponent;

function patchNote(upload, note) {
  const mapped = upload.map_index >= 0 ? `/${upload.map_index}` : "";
  const task = `dags/${segment(upload.dag_id)}/dagRuns/${segment(upload.run_id)}/taskInstances/${segment(upload.task_id)}`;
  return send("PATCH", `${task}${mapped}?update_mask=note`, { note });
}

export function clearTask(upload) {
  const task = upload.map_index >= 0 ? [upload.task_id, upload.map_index] : upload.task_id;
  const body = { dry_run: false, dag_run_id: upload.run_id, task_ids: [task], only_failed: false, reset_dag_runs: true };
  return send("POST", `dags/${segment(upload.dag_id)}/clearTaskInstances`, body);
}

async function send(method, path, body) {
  const headers = { "Content-Type": "application/json" };
  const answer = await fetch(new URL(path, AIRFLOW), { method, headers, credentials: "same-origin", body: JSON.stringify(body) });
  if (answer.ok) return;
  if ([401, 403].includes(answer.status)) throw new Error("You may not change this task. Ask an administrator of this Airflow.");
  throw new Error(`Airflow answered with HTTP ${answer.status}. Nothing was changed.`);
}
