import { appendFileSync, existsSync, readFileSync, writeFileSync } from "node:fs";
import { rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { nixOutput } from "../../support/nix.ts";
import { killAtOnce, killProcesses, untilGone } from "../../support/processes.ts";
import type { AgentRun, Host } from "./host.ts";
import { linesOf, processesOf, readRun } from "./host.ts";
import type { Network } from "./network.ts";

/** killed: the agent alone dies, and what it has started goes on. power: everything ends, and the host boots. */
export type Death = "killed" | "power";

/** Something that the agent does to the world, and which time it does so in a run, from 1. */
export interface Moment {
  readonly event: string;
  readonly time: number;
}

const COMMANDS = ["nix-store", "nix-env", "systemctl", "systemd-run"];
const GONE_MS_MAX = 10_000;

/**
 * Makes a host note everything that its agent does to the world - each command before it runs and after it has, each
 * request before it is passed on and after it was answered, each begin, middle and end of a switch - as a line of
 * `log/events`, and kill the agent at the moment that `dieAt` names.
 */
export async function noteEvents(host: Host, network: Network): Promise<void> {
  const { events, killAt, pid } = eventFiles(host.root);
  const note = join(host.root, "bin/note");
  await writeFile(
    note,
    `#!/bin/sh
echo "$*" >> '${events}'
if [ "$(grep -cFx -e "$*" '${events}') $*" = "$(cat '${killAt}' 2>/dev/null)" ]; then kill -9 "$(cat '${pid}')"; fi
`,
    { mode: 0o755 },
  );
  for (const command of COMMANDS) await wrap(host, command, note);
  for (const label of ["old", "new"]) {
    await host.behave(label, `'${note}' "switch to ${label} begins"; ${SWITCH_FAILS}`);
    await host.behave(label, `'${note}' "switch to ${label} has ended"`, "after");
  }
  network.watch = (line, ended) => {
    const what = whatIsAsked(line, host.name);
    if (what === null) return;
    const event = `${what} ${ended ? "answered" : "asked"}`;
    appendFileSync(events, `${event}\n`);
    if (!existsSync(killAt)) return;
    const time = readFileSync(events, "utf8")
      .split("\n")
      .filter((noted) => noted === event).length;
    if (readFileSync(killAt, "utf8") === `${time} ${event}\n`) killProcesses([Number(readFileSync(pid, "utf8"))]);
  };
}

/** Null: another's request, or one whose answer Nix keeps, so that it comes only once. */
function whatIsAsked(line: string, host: string): string | null {
  if (line.includes("/nar/")) return "GET nar";
  const [, method, what] = /^([A-Z]+) .*\/hosts\/([^/]+\/[a-z]+)/.exec(line) ?? [];
  return what?.startsWith(`${host}/`) ? `${method} ${what}` : null;
}

const SWITCH_FAILS = 'if [ -e "$root/behaviour/$label.fails" ]; then exit 1; fi';

function eventFiles(root: string) {
  return { events: join(root, "log/events"), killAt: join(root, "kill-at"), pid: join(root, "agent-pid") };
}

/** The command of that name notes itself from now on, with its first argument. */
async function wrap(host: Host, command: string, note: string): Promise<void> {
  const own = join(host.root, "bin", command);
  const found = (host.env.PATH ?? "").split(":").map((folder) => join(folder, command));
  let real = found.find((path) => existsSync(path)) ?? command;
  if (real === own) {
    real = `${own}.real`;
    await writeFile(real, readFileSync(own), { mode: 0o755 });
  }
  const script = `#!/bin/sh
what="${command} \${1%%=*}"
case " $* " in *" --dry-run "*) what="$what --dry-run" ;; esac
'${note}' "$what begins"
'${real}' "$@"
code=$?
'${note}' "$what has ended"
exit $code
`;
  await writeFile(own, script, { mode: 0o755 });
}

/** Runs the agent and answers what it did to the world. */
export async function eventsOf(host: Host): Promise<{ readonly run: AgentRun; readonly events: string[] }> {
  const { events, killAt } = eventFiles(host.root);
  for (const file of [events, killAt]) await rm(file, { force: true });
  const run = await startNoted(host);
  return { run, events: await linesOf(events) };
}

/** Runs the agent and lets it die at the moment. */
export async function dieAt(host: Host, { event, time }: Moment, death: Death): Promise<AgentRun> {
  const { events, killAt } = eventFiles(host.root);
  await rm(events, { force: true });
  writeFileSync(killAt, `${time} ${event}\n`);
  const run = await startNoted(host);
  await rm(killAt);
  if (death === "power") await losePower(host);
  return run;
}

async function startNoted(host: Host): Promise<AgentRun> {
  const agent = host.start(["--json"]);
  // Before the agent has read a single file.
  writeFileSync(eventFiles(host.root).pid, `${agent.pid}\n`);
  return readRun(await agent.ended, agent.output());
}

/** Everything that runs on the host ends at once, and the host boots what its boot loader names. */
export async function losePower(host: Host): Promise<void> {
  await untilGone(await killAtOnce(() => processesOf(host.root)), GONE_MS_MAX);
  await host.daemon.restart();
  await host.boot();
}

/** The host as it was: on this system, with nothing else in its store, and an agent that remembers nothing. */
export async function putBack(host: Host, to: string): Promise<void> {
  const { root, daemon, state } = host;
  const profile = join(root, "nix/var/nix/profiles/system");
  await nixOutput(["nix-env", "-p", profile, "--set", to], daemon.env);
  await nixOutput(["nix-env", "-p", profile, "--delete-generations", "old"], daemon.env);
  await rm(state, { recursive: true, force: true });
  await rm(join(root, "nix/var/nix/gcroots"), { recursive: true, force: true });
  await nixOutput(["mkdir", "-p", state, join(root, "nix/var/nix/gcroots")], {});
  await nixOutput([`${root}${to}/bin/switch-to-configuration`, "boot"], {});
  await host.boot();
  await nixOutput(["nix-store", "--gc"], daemon.env);
}
