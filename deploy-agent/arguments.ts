import { nearestWord } from "#core/lib/nearest-word.ts";
import type { Flags } from "./read-settings.ts";
import { flagOf, SETTING_NAMES, SETTINGS, type SettingName } from "./settings.ts";

export const COMMANDS = {
  run: "Ask the server once and deploy what is new (the default).",
  watch: "Keep asking, and deploy within seconds of a new build. Ends after an update, to be started anew.",
  resume: "Finish or undo what an earlier run could not, send what it could not report, and ask nothing new.",
  status: "Print what this host runs and what the agent remembers.",
  rollback: "Go back to the system before the last deployment and refuse that build from now on.",
  "read-settings": "Read the settings, print what is wrong with them, and do nothing.",
} as const;
export type Command = keyof typeof COMMANDS;

export const SWITCHES = {
  "--force": "Deploy also what is held back, waits for its wave, is older, or was remembered as bad.",
  "--allow-older": "Deploy also a build that is older than the last one.",
  "--json": "Print one JSON object at the end, and steps as lines of JSON on standard error.",
  "--help": "Print this.",
  "--version": "Print the version.",
} as const;
export type Switch = keyof typeof SWITCHES;

export interface Arguments {
  readonly command: Command;
  readonly switches: ReadonlySet<Switch>;
  readonly flags: Flags;
}

/** Throws `UsageError`. A flag's value follows it or stands behind `=`. */
export function parseArguments(words: readonly string[]): Arguments {
  const names = new Map<string, SettingName>(SETTING_NAMES.map((name) => [flagOf(name), name]));
  const switches = new Set<Switch>();
  const flags: Partial<Record<SettingName, string>> = {};
  const commands: Command[] = [];
  const problems: string[] = [];
  for (let i = 0; i < words.length; i++) {
    const [flag = "", ...rest] = (words[i] as string).split("=");
    const name = names.get(flag);
    if (name) {
      const value = rest.length > 0 ? rest.join("=") : words[++i];
      if (value === undefined) problems.push(`${flag} needs a value: ${SETTINGS[name].description}`);
      else if (flags[name] !== undefined) problems.push(`${flag} is given twice`);
      else flags[name] = value;
    } else if (isSwitch(words[i] as string)) switches.add(words[i] as Switch);
    else if (isCommand(words[i] as string)) commands.push(words[i] as Command);
    else problems.push(unknownWord(words[i] as string, [...names.keys()]));
  }
  if (commands.length > 1) problems.push(`only one of ${commands.join(", ")} can be done`);
  if (problems.length > 0) throw new UsageError(problems);
  return { command: commands[0] ?? "run", switches, flags };
}

/** The message lists everything that is wrong, one line each. */
export class UsageError extends Error {
  override readonly name = "UsageError";

  constructor(problems: readonly string[]) {
    super(`the command cannot be understood:\n${problems.map((problem) => `  - ${problem}`).join("\n")}`);
  }
}

function isSwitch(word: string): word is Switch {
  return Object.hasOwn(SWITCHES, word);
}

function isCommand(word: string): word is Command {
  return Object.hasOwn(COMMANDS, word);
}

function unknownWord(word: string, flags: readonly string[]): string {
  const nearest = nearestWord(word, [...flags, ...Object.keys(SWITCHES), ...Object.keys(COMMANDS)]);
  const shown = JSON.stringify(word.slice(0, 100));
  return `${shown} is neither a command nor a flag${nearest ? `; did you mean ${nearest}?` : "; see --help"}`;
}

export function usage(): string {
  const lines = (entries: readonly (readonly [string, string])[]): string =>
    entries.map(([name, text]) => `  ${name}\n      ${text}`).join("\n");
  const settings = SETTING_NAMES.map((name) => {
    const { description, fallback } = SETTINGS[name];
    const shown = fallback === null ? "required" : fallback === "" ? "" : `default ${fallback}`;
    return [`${flagOf(name)} VALUE`, shown ? `${description} (${shown})` : description] as const;
  });
  return [
    "gradient-deploy [COMMAND] [FLAGS]: takes what Gradient built for this host.",
    "",
    "Commands:",
    lines(Object.entries(COMMANDS)),
    "",
    "Flags:",
    lines(Object.entries(SWITCHES)),
    "",
    "Settings, also by environment (--server is GRADIENT_DEPLOY_SERVER):",
    lines(settings),
    "",
  ].join("\n");
}
