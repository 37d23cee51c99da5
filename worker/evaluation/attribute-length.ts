import type { AttributePath } from "./attribute-order.ts";

/** What a row and a message take (`AttributePath` of the protocol). All names together, in characters. */
const LENGTH_MAX = 4_096;
const NAMES_MAX = 64;
const SHOWN_LENGTH = 200;

/** Null for an attribute that can be told of; otherwise why not, with the beginning of its name. */
export function tooLongName(attribute: AttributePath): string | null {
  const length = attribute.reduce((sum, name) => sum + name.length, 0);
  if (length <= LENGTH_MAX && attribute.length <= NAMES_MAX) return null;
  return (
    `${attribute.join(".").slice(0, SHOWN_LENGTH)}…: an attribute's name has at most ${LENGTH_MAX} characters and ` +
    `${NAMES_MAX} parts`
  );
}
