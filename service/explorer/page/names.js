/** How samples and their classes are named on the page. */

const LETTERS = "ABCDEFGH";

export const MAX_SELECTED = LETTERS.length;
export const letterOf = (index) => LETTERS[index];
export const sampleName = ({ seed, label, image_sha256: picture }) => `${picture ? `Picture ${picture.slice(0, 8)}` : `Seed ${seed}`}${label ? `, ${labelText(label)}` : ""}`;

/** A class's name, or the shares of several classes. */
export const labelText = (label) => (typeof label === "string" ? label : Object.entries(label).map(([name, share]) => `${Math.round(100 * share)} % ${name}`).join(" and "));
