import { createInterface } from "node:readline/promises";

/** Where the run's words go. */
export interface Output {
  /** A line of its own; `label` stands in a column of its own at the left. */
  line(label: string, text: string): void;
  /** Text as it is. */
  text(text: string): void;
  good(label: string, text: string): void;
  bad(label: string, text: string): void;
  /** Belongs to the line above. */
  detail(text: string): void;
  /** Yes without a terminal, and for an empty answer. */
  confirm(question: string): Promise<boolean>;
}

const LABEL_WIDTH = 13;
const GREEN = 32;
const RED = 31;
const DIM = 2;

export interface OutputOptions {
  readonly stream: NodeJS.WriteStream;
  /** Null: nobody can be asked. */
  readonly input: NodeJS.ReadStream | null;
}

export function createOutput({ stream, input }: OutputOptions): Output {
  const coloured = stream.isTTY && stream.hasColors();
  const paint = (code: number, text: string) => (coloured ? `\x1b[${code}m${text}\x1b[0m` : text);
  const print = (label: string, text: string) => stream.write(`${label}${text}\n`);
  const column = (label: string) => label.padEnd(LABEL_WIDTH);
  return {
    line: (label, text) => print(column(label), text),
    text: (text) => stream.write(`${text}\n`),
    good: (label, text) => print(paint(GREEN, column(label)), text),
    bad: (label, text) => print(paint(RED, column(label)), text),
    detail: (text) => print(" ".repeat(LABEL_WIDTH), paint(DIM, text)),
    confirm: async (question) => {
      if (!input?.isTTY || !stream.isTTY) return true;
      const terminal = createInterface({ input, output: stream });
      try {
        const answer = (await terminal.question(`${question} [Y/n] `)).trim().toLowerCase();
        return answer === "" || answer === "y" || answer === "yes";
      } finally {
        terminal.close();
      }
    },
  };
}

/** `0.4 s`, `75 s`, `12 min`. */
export function formatDuration(ms: number): string {
  if (ms < 10_000) return `${(ms / 1_000).toFixed(1)} s`;
  if (ms < 120_000) return `${Math.round(ms / 1_000)} s`;
  return `${Math.round(ms / 60_000)} min`;
}

/** `1 build`, `2 builds`. */
export function count(number: number, noun: string): string {
  return `${number} ${noun}${number === 1 ? "" : "s"}`;
}
