// The admin API. A refusal is an error with the API's own words.

export class Refused extends Error {
  constructor(status, problem) {
    super(problem?.detail ?? `the engine answered ${status}`);
    this.status = status;
    this.problem = problem ?? {};
  }
}

async function ask(path, { method = "GET", body, signal } = {}) {
  let response, answer = null;
  try {
    response = await fetch(path, {
      method,
      signal,
      headers: body === undefined ? {} : { "content-type": "application/json" },
      body: body === undefined ? undefined : JSON.stringify(body),
      credentials: "same-origin",
    });
    if (response.status !== 204) answer = await response.json();
  } catch (error) {
    if (error.name === "AbortError") throw error;
    // A refusal that is not in JSON is one all the same.
    if (!response || response.ok) throw new Refused(0, { detail: "the engine does not answer" });
  }
  if (!response.ok) throw new Refused(response.status, answer);
  return answer;
}

export const get = (path, signal) => ask(path, { signal });
export const post = (path, body) => ask(path, { method: "POST", body });
export const patch = (path, body) => ask(path, { method: "PATCH", body });
export const remove = (path) => ask(path, { method: "DELETE" });

export function query(pairs) {
  const given = Object.entries(pairs).filter(([, value]) => value !== null && value !== undefined && value !== "");
  return new URLSearchParams(given).toString();
}
