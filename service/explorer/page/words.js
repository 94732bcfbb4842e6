/** How samples are called. */

const LETTERS = "ABCDEFGH";

export const MOST_PICKS = LETTERS.length;
export const letterOf = (index) => LETTERS[index];
export const nameOf = ({ seed, label }) => `Seed ${seed}${label ? `, ${inWords(label)}` : ""}`;
export const inWords = (label) => (typeof label === "string" ? label : Object.entries(label).map(([name, share]) => `${Math.round(100 * share)} % ${name}`).join(" and "));
