import { resolve } from "node:path";
import { parseArgs } from "node:util";
import { QuickstartError } from "./problem.ts";

export interface QuickstartOptions {
  /** The person's repository; null for the example. */
  readonly flake: string | null;
  /** Null: `WILDCARD_DEFAULT` for a repository, this machine's part of the example. */
  readonly wildcard: string | null;
  /** Absolute. */
  readonly dataDir: string;
  readonly port: number;
  /** Asks nothing. */
  readonly yes: boolean;
  /** Ends after the run. */
  readonly once: boolean;
  /** The summary is one line of JSON on stdout, all else goes to stderr. */
  readonly json: boolean;
  readonly help: boolean;
  /** Where relative paths of the command line begin. */
  readonly invokedFrom: string;
}

export const WILDCARD_DEFAULT = "packages.*,checks.*";
export const PORT_DEFAULT = 3_000;

export const USAGE: string = `npm run quickstart -- [options]

Starts Gradient on this machine (a server with a database of its own, and a worker), builds the example or your own
flake, and serves the result as a binary cache until Ctrl-C.

  --flake URL        your repository instead of the example: https://, ssh://, user@host:path, github:owner/name,
                     or a folder that is a git repository
  --wildcard LIST    which attributes to build (default: ${WILDCARD_DEFAULT})
  --data DIR         where everything is kept (default: data/quickstart in the clone); the next run goes on from it
  --port N           the server's port on 127.0.0.1 (default: ${PORT_DEFAULT})
  --yes              ask nothing
  --once             end after the run; the exit code says whether everything was built
  --json             print the summary as one line of JSON on stdout, all else on stderr
`;

/** `root` is the clone. Throws `QuickstartError` for what is not an option. */
export function parseOptions(args: readonly string[], root: string, invokedFrom: string): QuickstartOptions {
  const values = parseValues(args);
  const flag = (name: "yes" | "once" | "json" | "help") => values[name] === true;
  return {
    flake: required(values.flake, "--flake"),
    wildcard: required(values.wildcard, "--wildcard"),
    dataDir: values.data ? resolve(invokedFrom, values.data) : resolve(root, "data", "quickstart"),
    port: parsePort(values.port),
    yes: flag("yes"),
    once: flag("once"),
    json: flag("json"),
    help: flag("help"),
    invokedFrom,
  };
}

function parseValues(args: readonly string[]) {
  try {
    return parseArgs({
      args: [...args],
      strict: true,
      options: {
        flake: { type: "string" },
        wildcard: { type: "string" },
        data: { type: "string" },
        port: { type: "string" },
        yes: { type: "boolean", short: "y" },
        once: { type: "boolean" },
        json: { type: "boolean" },
        help: { type: "boolean", short: "h" },
      },
    }).values;
  } catch (error) {
    // Node's second sentence is about arguments that begin with a dash, which none of ours does.
    const words = (error as Error).message.split(". ")[0];
    throw new QuickstartError(`${words}. The options are:\n\n${USAGE}`);
  }
}

function required(value: string | undefined, name: string): string | null {
  if (value === "") throw new QuickstartError(`${name} needs a value`);
  return value ?? null;
}

function parsePort(text: string | undefined): number {
  if (text === undefined) return PORT_DEFAULT;
  const port = /^\d{1,5}$/.test(text) ? Number(text) : 0;
  if (port >= 1 && port <= 65_535) return port;
  throw new QuickstartError(`--port ${text}: must be a number from 1 to 65535`);
}
