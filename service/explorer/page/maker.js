/** "The same again": the request that made what is shown, to copy, to share, to download. */

import { Refused, holdsToken } from "./api.js";
import { byId, choice, make } from "./dom.js";
import { LANGUAGES, written } from "./requests.js";

export class Maker {
  #language = "curl";

  constructor(app, files) {
    this.app = app;
    this.files = files;
    byId("copy").addEventListener("click", (event) => copy(byId("request").textContent, event.target));
    byId("link").addEventListener("click", (event) => copy(app.link(), event.target));
  }

  render() {
    choice(byId("languages"), LANGUAGES, this.#language, (language) => { this.#language = language; this.render(); });
    const made = this.app.made();
    byId("request").textContent = made ? written(this.#language, made.request, this.app.view, made.frame, holdsToken()) : "";
    byId("copy").disabled = !made;
    const place = byId("downloads");
    const files = this.files();
    if ([...place.children].map((each) => each.textContent).join() !== Object.keys(files).join()) {
      place.replaceChildren(...Object.keys(files).map((name) => make("button", { type: "button", click: (event) => this.#download(name, event.target) }, name)));
    }
  }

  async #download(name, button) {
    button.setAttribute("aria-busy", "true");
    try {
      const [content, file] = await this.files()[name]();
      const source = URL.createObjectURL(content);
      make("a", { href: source, download: file }).click();
      setTimeout(() => URL.revokeObjectURL(source), 10_000);
      this.app.fine();
    } catch (problem) {
      if (!(problem instanceof Refused)) throw problem;
      this.app.fail(problem);
    } finally {
      button.removeAttribute("aria-busy");
    }
  }
}

async function copy(text, button) {
  const before = button.textContent;
  try {
    await navigator.clipboard.writeText(text);
    button.textContent = "Copied";
  } catch { // not allowed, or a page without https: mark it, so that a keystroke copies it
    getSelection().selectAllChildren(byId("request"));
    button.textContent = "Press Ctrl+C";
  }
  setTimeout(() => { button.textContent = before; }, 1500);
}
