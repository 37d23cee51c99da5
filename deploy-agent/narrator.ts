import type { Narrator } from "./ports.ts";

/** Lines on standard error, written at once: the last one before a crash is there. */
export class LineNarrator implements Narrator {
  readonly #asJson: boolean;
  readonly #write: (line: string) => void;

  constructor({ asJson, write }: { readonly asJson: boolean; readonly write: (line: string) => void }) {
    this.#asJson = asJson;
    this.#write = write;
  }

  info(message: string): void {
    this.#say("info", message);
  }

  warn(message: string): void {
    this.#say("warn", message);
  }

  #say(level: "info" | "warn", message: string): void {
    if (this.#asJson) this.#write(`${JSON.stringify({ time: new Date().toISOString(), level, message })}\n`);
    else this.#write(level === "warn" ? `warning: ${message}\n` : `${message}\n`);
  }
}
