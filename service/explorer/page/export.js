/** The request for the sample that is shown: to copy as code or as a link, and to download its files. */

import { RequestError, hasToken } from "./api.js";
import { ButtonGroup, byId, create } from "./dom.js";
import { LANGUAGES, asCode } from "./requests.js";

const COPIED_MILLISECONDS = 1500;

export class Export {
  #language = "curl";
  #fileNames = "";

  constructor(app, viewer) {
    this.app = app;
    this.viewer = viewer;
    this.languages = new ButtonGroup(byId("languages"), LANGUAGES, (language) => { this.#language = language; this.render(); });
    copyOnClick(byId("copy"), app.notice, () => byId("request").textContent);
    copyOnClick(byId("link"), app.notice, app.link);
  }

  render() {
    const { shown, files } = this.viewer;
    this.languages.show(this.#language);
    const text = shown ? asCode(this.#language, shown.request, this.app.view, shown.frame, hasToken()) : "";
    if (byId("request").textContent !== text) byId("request").textContent = text;
    byId("copy").disabled = !shown;
    const names = Object.keys(files);
    if (names.join() === this.#fileNames) return;
    this.#fileNames = names.join();
    byId("downloads").replaceChildren(...names.map((name) => create("button", { type: "button", click: (event) => this.#download(name, event.currentTarget) }, name)));
  }

  async #download(name, button) {
    button.setAttribute("aria-busy", "true");
    try {
      const [content, file] = await this.viewer.files[name]();
      const url = URL.createObjectURL(content);
      create("a", { href: url, download: file }).click();
      setTimeout(() => URL.revokeObjectURL(url), 10_000);
      this.app.notice.clearError();
    } catch (problem) {
      if (!(problem instanceof RequestError)) throw problem;
      this.app.fail(problem);
    } finally {
      button.removeAttribute("aria-busy");
    }
  }
}

/** Let `button` copy `text()`, and say "Copied" for a moment. */
function copyOnClick(button, notice, text) {
  const title = button.textContent;
  let timer = null;
  button.addEventListener("click", async () => {
    if (await copy(text())) button.textContent = "Copied";
    else notice.show(`The browser does not allow this page to copy. Copy it by hand: ${text()}`);
    clearTimeout(timer);
    timer = setTimeout(() => { button.textContent = title; }, COPIED_MILLISECONDS);
  });
}

/** Copy `text`; gives whether it worked. Over plain http there is no clipboard API, and an older command is used. */
async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    const field = document.body.appendChild(create("textarea", { class: "visually-hidden", "aria-hidden": "true" }));
    const focused = document.activeElement;
    field.value = text;
    field.select();
    const copied = document.execCommand("copy");
    field.remove();
    focused?.focus();
    return copied;
  }
}
