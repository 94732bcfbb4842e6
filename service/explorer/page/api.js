/** Requests to the service: tokens, error messages, and waiting while the service is busy. */

import { byId } from "./dom.js";

const TOKEN_KEY = "latentd-token";
const RETRY_SECONDS = 3;
/** Wait before a retry where the service names no time. */
const ROOT = new URL("./", document.baseURI);

export class RequestError extends Error {
  /** `retryAfter`: seconds until a retry may succeed; null if a retry cannot help. */
  constructor(message, status = 0, code = "", retryAfter = null) {
    super(message);
    this.status = status;
    this.code = code;
    this.retryAfter = retryAfter;
  }
}

export const urlOf = (path) => new URL(path.replace(/^\//, ""), ROOT).href;

/** Send a request and give the response; RequestError unless its status is good. Asks for a token after a 401. */
async function send(path, { body, accept = "application/json" } = {}) {
  for (;;) {
    const token = sessionStorage.getItem(TOKEN_KEY);
    const response = await sendOnce(path, body, accept, token);
    if (response.ok) return response;
    const problem = await errorOf(response);
    if (response.status !== 401) throw problem;
    if (sessionStorage.getItem(TOKEN_KEY) === token) sessionStorage.removeItem(TOKEN_KEY); // unless it was replaced meanwhile
    if (!hasToken() && !(await askForToken(problem.message))) throw problem;
  }
}

export const fetchJson = (path, options) => send(path, options).then((response) => complete(response.json()));
export const fetchBlob = (path, options) => send(path, options).then((response) => complete(response.blob()));
export const fetchText = (path, options) => send(path, options).then((response) => complete(response.text()));

/** Wait for a body that is being read; RequestError if it ends too early. */
async function complete(reading) {
  try {
    return await reading;
  } catch {
    throw new RequestError("The answer was cut off.", 0, "cut_off", RETRY_SECONDS);
  }
}

async function sendOnce(path, body, accept, token) {
  const headers = { Accept: accept };
  if (token) headers.Authorization = `Bearer ${token}`;
  if (body) headers["Content-Type"] = "application/json";
  try {
    return await fetch(urlOf(path), { method: body ? "POST" : "GET", headers, body: body && JSON.stringify(body) });
  } catch {
    throw new RequestError("The service cannot be reached. Is it still running?", 0, "unreachable", RETRY_SECONDS);
  }
}

async function errorOf(response) {
  const { status } = response;
  let error = {};
  try {
    error = (await response.json()).error ?? {};
  } catch { /* the body is not the service's but a proxy's */ }
  const message = error.message || response.statusText || `status ${status}`;
  const named = Number(response.headers.get("retry-after"));
  const problem = (text, retryAfter) => new RequestError(text, status, error.code, retryAfter);
  if (status === 429) return problem(`The service is busy: ${message}.`, named > 0 ? named : 1);
  if (status === 502 || status === 503) return problem(`The service is not ready: ${message}.`, RETRY_SECONDS);
  if (status === 403) return problem(`This token does not allow it: ${message}.`);
  if (status === 504) return problem(`The request took too long: ${message}.`);
  if (status >= 500) return problem("The service failed. Its log says why.");
  return problem(`${message[0].toUpperCase()}${message.slice(1)}.`);
}

/** Whether requests carry a token. Copied requests name it and do not contain it. */
export const hasToken = () => Boolean(sessionStorage.getItem(TOKEN_KEY));

let tokenDialog = null;

/** Open the dialog for a token, one for all requests that wait; gives whether there is a token afterwards. */
function askForToken(reason) {
  tokenDialog ??= new Promise((resolve) => {
    const dialog = byId("token-dialog");
    byId("token-reason").textContent = reason;
    byId("token").value = "";
    dialog.returnValue = "";
    dialog.addEventListener("close", () => {
      tokenDialog = null;
      if (dialog.returnValue === "continue") sessionStorage.setItem(TOKEN_KEY, byId("token").value.trim());
      resolve(hasToken());
    }, { once: true });
    dialog.showModal();
  });
  return tokenDialog;
}

/** Mark `element` as busy while `work` goes on, and give its result. */
export async function busyDuring(element, work) {
  const count = (by) => { element.dataset.pending = String(Number(element.dataset.pending ?? 0) + by); };
  const mark = () => element.setAttribute("aria-busy", String(element.dataset.pending !== "0"));
  count(1);
  mark();
  try {
    return await work;
  } finally {
    count(-1);
    mark();
  }
}

/**
 * Sends one request at a time. Of the requests that are wanted meanwhile, only the latest is sent, and the others are
 * dropped. After a refusal that a retry may help, the latest one is sent when the service's waiting time is over.
 */
export class LatestRequest {
  #wanted = null;
  #running = false;
  #waiting = false;

  /** `send(wanted)` gives the answer, for `show(answer, wanted)`. `element` is marked as busy meanwhile. */
  constructor(element, send, show, fail) {
    this.element = element;
    this.send = send;
    this.show = show;
    this.fail = fail;
  }

  want(wanted) {
    this.#wanted = { wanted };
    this.#start();
  }

  /** Do not send what is waiting. */
  cancel() {
    this.#wanted = null;
  }

  #start() {
    if (this.#wanted && !this.#running && !this.#waiting) busyDuring(this.element, this.#run());
  }

  async #run() {
    this.#running = true;
    try {
      while (this.#wanted && !this.#waiting) await this.#sendLatest();
    } finally {
      this.#running = false;
    }
  }

  async #sendLatest() {
    const { wanted } = this.#wanted;
    this.#wanted = null;
    try {
      this.show(await this.send(wanted), wanted);
    } catch (problem) {
      if (!(problem instanceof RequestError)) throw problem;
      this.fail(problem);
      if (problem.retryAfter !== null) this.#retry(wanted, problem.retryAfter);
    }
  }

  #retry(wanted, seconds) {
    this.#wanted ??= { wanted };
    this.#waiting = true;
    setTimeout(() => {
      this.#waiting = false;
      this.#start();
    }, 1000 * seconds);
  }
}
