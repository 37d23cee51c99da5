// ECMA-48 section 5.4 (CSI sequences), OSC strings up to BEL or ST, and the two-byte escapes.
// biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what it is about
const ESCAPES = /\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[ -/]*[0-Z\\^-~])/g;

/** The text without terminal control sequences (colours, cursor movement, hyperlinks). Other bytes stay. */
export function stripAnsi(text: string): string {
  return text.includes("\x1b") ? text.replace(ESCAPES, "") : text;
}
