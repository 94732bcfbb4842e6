/** The service's HTTP API: one place for tokens, errors in words, and waiting when the service is busy. */

import { byId } from "./dom.js";

const TOKEN = "latentd-token";
const SOON = 3;
/** Seconds until what could not be reached is asked again. */
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
export async function ask(path, { body, accept = "application/json" } = {}) {
  for (;;) {
    const token = sessionStorage.getItem(TOKEN);
    const answer = await once(path, body, accept, token);
    if (answer.ok) return answer;
    const refusal = await refused(answer);
    if (answer.status !== 401) throw refusal;
    if (sessionStorage.getItem(TOKEN) === token) sessionStorage.removeItem(TOKEN); // another may have been given since
    if (!holdsToken() && !(await askForToken(refusal.message))) throw refusal;
  }
}

export const askJson = (path, options) => ask(path, options).then((answer) => whole(answer.json()));
export const askBlob = (path, options) => ask(path, options).then((answer) => whole(answer.blob()));
export const askText = (path, options) => ask(path, options).then((answer) => whole(answer.text()));

/** What is read of an answer; Refused where it ends too soon. */
async function whole(reading) {
  try {
    return await reading;
  } catch {
    throw new Refused("The answer was cut off on its way.", 0, "cut_off", SOON);
  }
}

async function once(path, body, accept, token) {
  const headers = { Accept: accept };
  if (token) headers.Authorization = `Bearer ${token}`;
  if (body) headers["Content-Type"] = "application/json";
  try {
    return await fetch(address(path), { method: body ? "POST" : "GET", headers, body: body && JSON.stringify(body) });
  } catch {
    throw new Refused("The service cannot be reached. Is it still running?", 0, "unreachable", SOON);
  }
}

async function refused(answer) {
  let said = {};
  try {
    said = (await answer.json()).error ?? {};
  } catch { /* not our body: a proxy's */ }
  const message = said.message || answer.statusText || `status ${answer.status}`;
  const after = Number(answer.headers.get("retry-after"));
  const refusal = (words, wait) => new Refused(words, answer.status, said.code, wait);
  if (answer.status === 429) return refusal(`The service is busy: ${message}.`, after > 0 ? after : 1);
  if (answer.status === 502 || answer.status === 503) return refusal(`The service is not ready: ${message}.`, SOON);
  if (answer.status === 403) return refusal(`This token may not do that: ${message}.`);
  if (answer.status === 504) return refusal(`It took too long: ${message}.`);
  if (answer.status >= 500) return refusal("The service failed; its log says why.");
  return refusal(`${message[0].toUpperCase()}${message.slice(1)}.`);
}

/** Whether requests carry a token, which is then named and not shown in what is copied. */
export const holdsToken = () => Boolean(sessionStorage.getItem(TOKEN));

let asking = null;

/** A dialog, the same for all requests that wait for it; gives whether there is a token now. */
function askForToken(why) {
  asking ??= new Promise((resolve) => {
    const dialog = byId("ask");
    byId("ask-why").textContent = why;
    byId("token").value = "";
    dialog.returnValue = "";
    dialog.addEventListener("close", () => {
      asking = null;
      if (dialog.returnValue === "go") sessionStorage.setItem(TOKEN, byId("token").value.trim());
      resolve(holdsToken());
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

/**
 * Work of which only the newest matters: at most one is under way, and what was wanted meanwhile is dropped but the last.
 * What was refused and is worth asking again waits for as long as the service says, whatever is wanted meanwhile.
 */
export class Newest {
  #wanted = null;
  #running = false;
  #waiting = false;

  /** `place` is marked as busy while there is work. */
  constructor(place, work, show, fail) {
    this.place = place;
    this.work = work;
    this.show = show;
    this.fail = fail;
  }

  want(what) {
    this.#wanted = { what };
    if (!this.#running && !this.#waiting) working(this.place, this.#run());
  }

  /** What was asked for is wanted no more. */
  forget() {
    this.#wanted = null;
  }

  async #run() {
    this.#running = true;
    try {
      while (this.#wanted && !this.#waiting) await this.#one();
    } finally {
      this.#running = false;
    }
  }

  async #one() {
    const { what } = this.#wanted;
    this.#wanted = null;
    try {
      this.show(await this.work(what), what);
    } catch (problem) {
      if (!(problem instanceof Refused)) throw problem;
      this.fail(problem);
      if (problem.wait !== null) this.#again(what, problem.wait);
    }
  }

  #again(what, seconds) {
    this.#wanted ??= { what };
    this.#waiting = true;
    setTimeout(() => {
      this.#waiting = false;
      if (this.#wanted && !this.#running) working(this.place, this.#run());
    }, 1000 * seconds);
  }
}
