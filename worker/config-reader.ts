export type Environment = Readonly<Record<string, string | undefined>>;

/**
 * Reads values of the environment by exact rules. What is wrong is collected in `problems`, so that the operator sees
 * all of it at once; the value is then the fallback. Except for `textOrEmpty` an empty value counts as not set.
 */
export class ConfigReader {
  readonly problems: string[] = [];
  readonly #environment: Environment;

  constructor(environment: Environment) {
    this.#environment = environment;
  }

  text(name: string): string | null {
    const value = this.#environment[name]?.trim();
    return value ? value : null;
  }

  /** For values that are switched off by the empty text. */
  textOrEmpty(name: string, fallback: string): string {
    return this.#environment[name]?.trim() ?? fallback;
  }

  integer(name: string, fallback: number, range: { readonly min: number; readonly max: number }): number {
    const text = this.text(name);
    if (text === null) return fallback;
    const value = /^\d{1,15}$/.test(text) ? Number(text) : Number.NaN;
    if (value >= range.min && value <= range.max) return value;
    return this.wrong(name, `must be a whole number from ${range.min} to ${range.max}`, fallback);
  }

  boolean(name: string, fallback: boolean): boolean {
    const text = this.text(name);
    if (text === null) return fallback;
    if (text === "true" || text === "1") return true;
    if (text === "false" || text === "0") return false;
    return this.wrong(name, "must be true or false", fallback);
  }

  choice<const Choice extends string>(name: string, choices: readonly Choice[], fallback: Choice): Choice {
    const text = this.text(name);
    if (text === null) return fallback;
    const found = choices.find((choice) => choice === text);
    return found ?? this.wrong(name, `must be one of ${choices.join(", ")}`, fallback);
  }

  absolutePath(name: string, fallback: string): string {
    const path = this.textOrEmpty(name, fallback);
    return path === "" || path.startsWith("/") ? path : this.wrong(name, "must be an absolute path", fallback);
  }

  /** Short words with commas between them. Null when not set. */
  words(name: string): readonly string[] | null {
    const text = this.text(name);
    if (text === null) return null;
    const words = text.split(",").map((word) => word.trim());
    if (words.length <= 64 && words.every((word) => /^[\x21-\x7e]{1,211}$/.test(word))) return words;
    return this.wrong(name, "must be at most 64 words with commas between them, such as x86_64-linux,i686-linux", null);
  }

  /** Notes the problem, with the value: not for values that may be secret. */
  wrong<Fallback>(name: string, advice: string, fallback: Fallback): Fallback {
    this.problems.push(`${name}=${(this.#environment[name] ?? "").slice(0, 200)}: ${advice}`);
    return fallback;
  }
}
