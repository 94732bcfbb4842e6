/** "The same again": the request that made what is shown, to copy, to share, to download. */

import { Refused, holdsToken } from "./api.js";
import { Choice, byId, make } from "./dom.js";
import { LANGUAGES, written } from "./requests.js";

const SAID_FOR = 1500;

export class Maker {
  #language = "curl";
  #offered = "";

  constructor(app, stage) {
    this.app = app;
    this.stage = stage;
    this.languages = new Choice(byId("languages"), LANGUAGES, (language) => { this.#language = language; this.render(); });
    offer(byId("copy"), app, () => byId("request").textContent);
    offer(byId("link"), app, app.link);
  }

  render() {
    const { made, files } = this.stage;
    this.languages.show(this.#language);
    const text = made ? written(this.#language, made.request, this.app.view, made.frame, holdsToken()) : "";
    if (byId("request").textContent !== text) byId("request").textContent = text;
    byId("copy").disabled = !made;
    const names = Object.keys(files);
    if (names.join() === this.#offered) return;
    this.#offered = names.join();
    byId("downloads").replaceChildren(...names.map((name) => make("button", { type: "button", click: (event) => this.#download(name, event.currentTarget) }, name)));
  }

  async #download(name, button) {
    button.setAttribute("aria-busy", "true");
    try {
      const [content, file] = await this.stage.files[name]();
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

/** A button that copies `text()`, and says for a moment that it did. */
function offer(button, app, text) {
  const resting = button.textContent;
  let saying = null;
  button.addEventListener("click", async () => {
    if (await copied(text())) button.textContent = "Copied";
    else app.say(`The browser does not let this page copy. Here it is: ${text()}`);
    clearTimeout(saying);
    saying = setTimeout(() => { button.textContent = resting; }, SAID_FOR);
  });
}

/** Browsers have a clipboard for pages over https and on this machine; elsewhere the older way is left. */
async function copied(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    const field = document.body.appendChild(make("textarea", { class: "unseen", "aria-hidden": "true" }));
    const focused = document.activeElement;
    field.value = text;
    field.select();
    const done = document.execCommand("copy");
    field.remove();
    focused?.focus();
    return done;
  }
}
