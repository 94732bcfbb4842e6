/** The message at the bottom of the page. */

import { byId } from "./dom.js";

export class Notice {
  #isError = false;
  #isHint = false;

  constructor() {
    byId("dismiss").addEventListener("click", () => this.show(""));
  }

  /** Show `message` until it is dismissed or another one comes; an empty one hides the notice. */
  show(message) {
    this.#isError = this.#isHint = false;
    if (byId("notice-text").textContent !== message) byId("notice-text").textContent = message;
    byId("notice").hidden = !message;
  }

  /** Show `message` until the next change. */
  hint(message) {
    this.show(message);
    this.#isHint = true;
  }

  /** Show what was refused until a request succeeds. */
  error({ message, retryAfter }) {
    this.show(message + (retryAfter === null ? "" : ` Trying again in ${retryAfter} s.`));
    this.#isError = true;
  }

  clearHint() {
    if (this.#isHint) this.show("");
  }

  clearError() {
    if (this.#isError) this.show("");
  }
}
