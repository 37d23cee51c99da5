import { readFileSync } from "node:fs";
import { type IpNetwork, parseIpAddress, parseIpNetwork } from "#core/domain/ip-address.ts";

/** Longer files are no secret and no URL. */
const FILE_BYTES_MAX = 64 * 1024;

/**
 * Reads values of the environment by exact rules. What is wrong is collected in `problems`, so that the operator sees
 * all of it at once; the value is then the fallback. An empty value counts as not set. Messages never show a value that
 * may be a secret.
 */
export class EnvironmentReader {
  readonly problems: string[] = [];
  readonly #environment: Readonly<Record<string, string | undefined>>;

  constructor(environment: Readonly<Record<string, string | undefined>>) {
    this.#environment = environment;
  }

  text(name: string): string | null {
    const value = this.#environment[name]?.trim();
    return value ? value : null;
  }

  integer(name: string, fallback: number, range: { readonly min: number; readonly max: number }): number {
    const text = this.text(name);
    if (text === null) return fallback;
    const value = /^\d{1,15}$/.test(text) ? Number(text) : Number.NaN;
    if (value >= range.min && value <= range.max) return value;
    return this.#wrong(name, text, `a whole number from ${range.min} to ${range.max}`, fallback);
  }

  boolean(name: string, fallback: boolean): boolean {
    const text = this.text(name);
    if (text === null) return fallback;
    if (text === "true" || text === "1") return true;
    if (text === "false" || text === "0") return false;
    return this.#wrong(name, text, "true or false", fallback);
  }

  choice<const Choice extends string>(name: string, choices: readonly Choice[], fallback: Choice): Choice;
  choice<const Choice extends string>(name: string, choices: readonly Choice[], fallback: Choice | null): Choice | null;
  choice<const Choice extends string>(
    name: string,
    choices: readonly Choice[],
    fallback: Choice | null,
  ): Choice | null {
    const text = this.text(name);
    if (text === null) return fallback;
    const found = choices.find((choice) => choice === text);
    return found ?? this.#wrong(name, text, `one of ${choices.join(", ")}`, fallback);
  }

  address(name: string, fallback: string): string {
    const text = this.text(name);
    if (text === null || parseIpAddress(text)) return text ?? fallback;
    return this.#wrong(name, text, "an IP address such as 127.0.0.1 or ::1", fallback);
  }

  networks(name: string, fallback: string): IpNetwork[] {
    const networks: IpNetwork[] = [];
    for (const part of (this.text(name) ?? fallback).split(",")) {
      const entry = part.trim();
      const network = parseIpNetwork(entry);
      if (network) networks.push(network);
      else if (entry !== "") this.#wrong(name, entry, "a list of networks such as 10.0.0.0/8,::1/128", null);
    }
    return networks;
  }

  /** An address under which clients reach us, without a trailing slash. */
  origin(name: string, fallback: string): string {
    const text = this.text(name);
    if (text === null) return fallback;
    const url = URL.canParse(text) ? new URL(text) : null;
    const isPlain = url && /^https?:$/.test(url.protocol) && !url.username && !url.search && !url.hash;
    if (isPlain) return text.replace(/\/+$/, "");
    return this.#wrong(name, text, "an address such as https://gradient.example.com", fallback);
  }

  /** The contents of the file that `NAME` points to; null when it is not set or cannot be read. */
  file(name: string): Uint8Array<ArrayBuffer> | null {
    const path = this.text(name);
    if (path === null) return null;
    try {
      const contents = Uint8Array.from(readFileSync(path));
      if (contents.length <= FILE_BYTES_MAX) return contents;
      this.problems.push(`${name}: ${path} is larger than ${FILE_BYTES_MAX} bytes`);
    } catch (error) {
      this.problems.push(`${name}: cannot read ${path}: ${error instanceof Error ? error.message : String(error)}`);
    }
    return null;
  }

  #wrong<Fallback>(name: string, value: string, wanted: string, fallback: Fallback): Fallback {
    this.problems.push(`${name}=${value.slice(0, 200)}: must be ${wanted}`);
    return fallback;
  }
}
