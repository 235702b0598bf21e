// Requests. The page's own address holds the secret, so that relative paths are all it takes.

/** A refusal by the server, with what it said. */
export class Refused extends Error {
  constructor(status, body) {
    super(body.error ?? `the server answered ${status}`);
    this.status = status;
    this.body = body;
  }
}

/** The server cannot be reached. */
export class Gone extends Error {}

async function request(path, options) {
  let answer;
  try {
    answer = await fetch(path, options);
  } catch {
    throw new Gone("the server does not answer; is it still running?");
  }
  let body = {};
  try {
    body = await answer.json();
  } catch {
    // An answer that is no JSON is told by its status.
  }
  if (!answer.ok) throw new Refused(answer.status, body);
  return body;
}

export function get(path, query = {}) {
  const words = new URLSearchParams(query).toString();
  return request(words ? `api/${path}?${words}` : `api/${path}`);
}

export function post(path, body) {
  return request(`api/${path}`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(body),
  });
}

/** Runs `work` for the latest call only: what is asked for meanwhile waits, and replaces itself. */
export function latest(work) {
  let running = false;
  let waiting = null;
  return async function ask(...args) {
    waiting = args;
    if (running) return;
    running = true;
    try {
      while (waiting) {
        const now = waiting;
        waiting = null;
        await work(...now);
      }
    } finally {
      running = false;
    }
  };
}
