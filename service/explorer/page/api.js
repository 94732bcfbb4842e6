/** The service's HTTP API: one place for tokens, errors in words, and waiting when the service is busy. */

import { byId } from "./dom.js";

const TOKEN = "latentd-token";
const ROOT = new URL("./", document.baseURI);

export class Refused extends Error {
  constructor(words, status = 0, code = "", wait = null) {
    super(words);
    this.status = status;
    this.code = code;
    /** Seconds until it is worth asking again; null where asking again does not help. */
    this.wait = wait;
  }
}

export const address = (path) => new URL(path.replace(/^\//, ""), ROOT).href;

/** The answer to a request, whose status is good; Refused says in words why there is none. */
export async function ask(path, { body, accept = "application/json", signal } = {}) {
  for (;;) {
    const answer = await once(path, body, accept, signal);
    if (answer.status !== 401) return good(answer);
    const refusal = await refused(answer);
    forgetToken();
    await askForToken(refusal.message);
  }
}

export const askJson = async (path, options) => (await ask(path, options)).json();

async function once(path, body, accept, signal) {
  const headers = { Accept: accept };
  const token = sessionStorage.getItem(TOKEN);
  if (token) headers.Authorization = `Bearer ${token}`;
  if (body) headers["Content-Type"] = "application/json";
  try {
    return await fetch(address(path), { method: body ? "POST" : "GET", headers, body: body && JSON.stringify(body), signal });
  } catch (problem) {
    if (problem.name === "AbortError") throw problem;
    throw new Refused("The service cannot be reached. Is it still running?", 0, "unreachable", 3);
  }
}

async function good(answer) {
  if (answer.ok) return answer;
  throw await refused(answer);
}

async function refused(answer) {
  let said = {};
  try {
    said = (await answer.json()).error ?? {};
  } catch { /* not our body: a proxy's */ }
  const message = said.message ?? answer.statusText;
  const after = Number(answer.headers.get("retry-after"));
  if (answer.status === 429) {
    const wait = Number.isFinite(after) && after > 0 ? after : 1;
    return new Refused(`The service is busy (${message}). Trying again in ${wait} s.`, 429, said.code, wait);
  }
  if (answer.status === 503 || answer.status === 502) return new Refused(`The service is not ready: ${message}`, answer.status, said.code, 3);
  if (answer.status === 403) return new Refused(`This token may not do that: ${message}`, 403, said.code);
  if (answer.status === 504) return new Refused(`It took too long: ${message}`, 504, said.code, 3);
  if (answer.status >= 500) return new Refused("The service failed; its log says why.", answer.status, said.code);
  return new Refused(`${message[0].toUpperCase()}${message.slice(1)}.`, answer.status, said.code);
}

const forgetToken = () => sessionStorage.removeItem(TOKEN);
let asking = null;

/** A dialog, the same for all requests that wait for it. */
function askForToken(why) {
  asking ??= new Promise((resolve) => {
    const dialog = byId("ask");
    byId("ask-why").textContent = why;
    byId("token").value = "";
    dialog.addEventListener("close", () => {
      sessionStorage.setItem(TOKEN, byId("token").value.trim());
      asking = null;
      resolve();
    }, { once: true });
    dialog.showModal();
  });
  return asking;
}

/** What `work` gives; `place` is marked as busy while anything works for it. */
export async function working(place, work) {
  const count = (by) => { place.dataset.working = String(Number(place.dataset.working ?? 0) + by); };
  const mark = () => place.setAttribute("aria-busy", String(place.dataset.working !== "0"));
  count(1);
  mark();
  try {
    return await work;
  } finally {
    count(-1);
    mark();
  }
}

/** Work of which only the newest matters: at most one is under way, and what was wanted meanwhile is dropped but the last. */
export class Newest {
  #wanted = null;
  #running = false;
  #retry = null;

  /** `place` is marked as busy while there is work. */
  constructor(place, work, show, fail) {
    this.place = place;
    this.work = work;
    this.show = show;
    this.fail = fail;
  }

  want(what) {
    this.#wanted = { what };
    clearTimeout(this.#retry);
    if (!this.#running) working(this.place, this.#run());
  }

  async #run() {
    this.#running = true;
    while (this.#wanted) {
      const { what } = this.#wanted;
      this.#wanted = null;
      try {
        this.show(await this.work(what), what);
      } catch (problem) {
        if (!(problem instanceof Refused)) throw problem;
        this.fail(problem);
        if (problem.wait !== null && !this.#wanted) this.#retry = setTimeout(() => this.want(what), 1000 * problem.wait);
      }
    }
    this.#running = false;
  }
}

/** Whether requests carry a token, which is then named and not shown in what is copied. */
export const holdsToken = () => sessionStorage.getItem(TOKEN) !== null;
