import { parsePublicKey } from "#core/nix/signature.ts";
import type { SettingSpec } from "./settings.ts";

/** A daily span of local time in minutes since midnight; it passes midnight where `from` is after `to`. */
export interface TimeWindow {
  readonly fromMinute: number;
  readonly toMinute: number;
}

/** A value, or what is wrong with the text. */
export type Parsed<Value> =
  | { readonly ok: true; readonly value: Value }
  | { readonly ok: false; readonly advice: string };

const TEXT_MAX = 65_536;
const COMMANDS_MAX = 20;
const UNITS_MAX = 100;
const KEYS_MAX = 20;

function good<Value>(value: Value): Parsed<Value> {
  return { ok: true, value };
}

function wrong(advice: string): Parsed<never> {
  return { ok: false, advice };
}

/** An http or https address without credentials, query, fragment and closing slash. */
export function parseServer(text: string): Parsed<string> {
  const advice = "must be an address such as https://gradient.example.com, without user, query and fragment";
  if (text.length > 2_000 || !/^https?:\/\/[^\s]+$/.test(text) || !URL.canParse(text)) return wrong(advice);
  const url = new URL(text);
  if (url.username || url.password || url.search || url.hash) return wrong(advice);
  return good(`${url.origin}${url.pathname.replace(/\/+$/, "")}`);
}

export function parseProject(text: string): Parsed<{ readonly organization: string; readonly name: string }> {
  const [organization = "", name = "", ...more] = text.split("/");
  if (more.length > 0 || !isSlug(organization) || !isSlug(name)) {
    return wrong("must be organization/project, such as myorg/myproject");
  }
  return good({ organization, name });
}

function isSlug(text: string): boolean {
  return /^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$/.test(text);
}

/** The name of an attribute of `nixosConfigurations`. */
export function parseHost(text: string): Parsed<string> {
  return /^[A-Za-z0-9_][A-Za-z0-9._@+-]{0,252}$/.test(text)
    ? good(text)
    : wrong("must be the name of a host: at most 253 letters, digits and ._@+-");
}

export function parsePath(text: string): Parsed<string> {
  return /^\/[^\n\0]{0,4094}$/.test(text) ? good(text) : wrong("must be an absolute path");
}

export function parseCommand(text: string): Parsed<string> {
  return /^(?:[A-Za-z0-9._+-]{1,255}|\/[^\n\0]{1,4094})$/.test(text)
    ? good(text)
    : wrong("must be an absolute path or the name of a command");
}

export function parseBoolean(text: string): Parsed<boolean> {
  if (text === "true" || text === "1") return good(true);
  if (text === "false" || text === "0") return good(false);
  return wrong("must be true or false");
}

export function parseNumber(text: string, { range }: SettingSpec): Parsed<number> {
  const { min, max } = range ?? { min: 0, max: Number.MAX_SAFE_INTEGER };
  const value = /^\d{1,15}$/.test(text) ? Number(text) : Number.NaN;
  return value >= min && value <= max ? good(value) : wrong(`must be a whole number from ${min} to ${max}`);
}

export function parseChoice<const Choice extends string>(text: string, choices: readonly Choice[]): Parsed<Choice> {
  const found = choices.find((choice) => choice === text);
  return found === undefined ? wrong(`must be one of ${choices.join(", ")}`) : good(found);
}

export function parseShell(text: string): Parsed<string> {
  return isShell(text) ? good(text) : wrong("must be a shell command of at most 64 KiB");
}

function isShell(value: unknown): value is string {
  return typeof value === "string" && value.trim() !== "" && value.length <= TEXT_MAX && !value.includes("\0");
}

export function parseShellList(text: string): Parsed<readonly string[]> {
  const advice = `must be a JSON list of at most ${COMMANDS_MAX} shell commands, such as ["test -e /run/ready"]`;
  try {
    const value: unknown = JSON.parse(text);
    if (!Array.isArray(value) || value.length > COMMANDS_MAX || !value.every(isShell)) return wrong(advice);
    return good(value);
  } catch {
    return wrong(advice);
  }
}

export function parseUnitList(text: string): Parsed<readonly string[]> {
  const units = text.split(/\s+/).filter((unit) => unit !== "");
  return units.length <= UNITS_MAX && units.every((unit) => /^[A-Za-z0-9:_.\\@*-]{1,255}$/.test(unit))
    ? good(units)
    : wrong(`must be at most ${UNITS_MAX} names of units with spaces between them; * stands for anything`);
}

export function parseKeyList(text: string): Parsed<readonly string[]> {
  const keys = text.split(/\s+/).filter((key) => key !== "");
  return keys.length <= KEYS_MAX && keys.every((key) => parsePublicKey(key) !== null)
    ? good(keys)
    : wrong(`must be at most ${KEYS_MAX} public keys such as name:base64, with spaces between them`);
}

export function parseWindow(text: string): Parsed<TimeWindow> {
  const advice = "must be a span of local time such as 02:00-05:00";
  const match = /^([01]\d|2[0-3]):([0-5]\d)-([01]\d|2[0-3]):([0-5]\d)$/.exec(text);
  if (!match) return wrong(advice);
  const [, fromHour, fromRest, toHour, toRest] = match;
  const window = {
    fromMinute: Number(fromHour) * 60 + Number(fromRest),
    toMinute: Number(toHour) * 60 + Number(toRest),
  };
  return window.fromMinute === window.toMinute ? wrong(`${advice}; for always leave it empty`) : good(window);
}

/** From the first minute on, up to the last one and without it. */
export function isInWindow(window: TimeWindow | null, minuteOfDay: number): boolean {
  if (!window) return true;
  const { fromMinute, toMinute } = window;
  if (fromMinute < toMinute) return minuteOfDay >= fromMinute && minuteOfDay < toMinute;
  return minuteOfDay >= fromMinute || minuteOfDay < toMinute;
}
