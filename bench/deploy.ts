import { setTimeout as sleep } from "node:timers/promises";
import { type Fleet, PROJECT, type Published, withFleet } from "#test/deploy/support/fleet.ts";
import type { Host } from "#test/deploy/support/host.ts";
import { putBack } from "#test/deploy/support/kill-points.ts";
import { commitSystems, type SystemsCommit } from "#test/deploy/support/system-flake.ts";
import { CACHE } from "#test/e2e/gradient.ts";
import { nixOutput } from "#test/support/nix.ts";
import { type Agent, packedAgent } from "./deploy-process.ts";
import type { Figure, PartResult } from "./figures.ts";
import { interleave, median, timed } from "./measure.ts";

const MEGA = 1_000_000;
const CHECKS = 9;
const ROUNDS = 5;
const PUSHES = 3;
const PUSH_MS_MAX = 120_000;
/** 200 MB: 50 outputs of 4 MB beside the system itself. */
const LARGE = { count: 50, bytes: 4 * MEGA };
/** The shortest that a polling trigger may have. */
const POLLING_SECONDS = 10;
/** A gigabit a second. */
const LINE_BYTES_PER_SECOND = 125 * MEGA;
const HOST = "alpha";

const NOTES = [
  "`deploy`: the agent, in the one file that its package has, as a process of its own against a host with a " +
    "nix-daemon of its own, a fake root and a switch script that only sets links. A check is a whole run " +
    "that finds nothing new; its CPU time is that of the agent and of all that it starts, its memory " +
    "the agent's peak (VmHWM), Node included.",
  "An update is a whole run - question, download, profile, switch, one look at the health without settling time, " +
    "reports -, beside `nix-store --realise` of the same path from the same cache into the same, emptied store: of " +
    `${LARGE.count} outputs of ${LARGE.bytes / MEGA} MB random bytes, and of a system with nothing but itself. ` +
    "Both come from the same machine; as most hosts have a slower way to their server, it is also measured with one " +
    `that lets ${LINE_BYTES_PER_SECOND / MEGA} MB a second through.`,
  "From push to running host: a commit to the repository, which a polling trigger looks at every " +
    `${POLLING_SECONDS} s, until the host in watch mode runs the new system.`,
];

/** What an update of a host costs beside what Nix alone takes for the download. */
export async function benchDeploy(settings: Readonly<Record<string, string>>): Promise<PartResult> {
  const commit: SystemsCommit = { label: "old", hosts: [HOST] };
  await using fleet = await withFleet(commit, { settings, direct: true });
  const old = await fleet.evaluate();
  const small = await fleet.publish({ ...commit, label: "small" });
  const host = await fleet.hostWith(HOST, pathOf(old));
  const agent = await packedAgent(host.daemon.folder);
  const smallFigure = await updateFigure(fleet, { host, agent }, { old, wanted: small });
  const checks = await checkFigures({ host, agent });
  const large = await fleet.publish({ ...commit, label: "large", packages: LARGE });
  const largeFigure = await updateFigure(fleet, { host, agent }, { old, wanted: large });
  const lineFigure = await onTheLine(fleet, host, () => updateFigure(fleet, { host, agent }, { old, wanted: large }));
  const figures: Figure[] = [
    ...checks,
    {
      ...largeFigure,
      what: `update of a host by ${(LARGE.count * LARGE.bytes) / MEGA} MB`,
      aim: { ratioMax: 1.1 },
    },
    {
      ...lineFigure,
      what: `update of a host by ${(LARGE.count * LARGE.bytes) / MEGA} MB over a line of 1 Gbit/s`,
      aim: { ratioMax: 1.1 },
    },
    { ...smallFigure, what: "update of a host by a small system", aim: { none: "see the next line" } },
    {
      ...smallFigure,
      what: "a small update beyond the download by Nix alone",
      ours: smallFigure.ours - (smallFigure.other?.value ?? 0),
      other: null,
      aim: { valueMax: 1_500 },
    },
    await pushFigure(fleet, host),
  ];
  return { figures, notes: NOTES };
}

interface Updated {
  readonly host: Host;
  readonly agent: Agent;
}

function pathOf({ systems }: Published): string {
  const path = systems[HOST];
  if (path === undefined) throw new Error("the system was not built");
  return path;
}

/** The host meanwhile reaches server and cache over a line of that width, with or without the agent. */
async function onTheLine<Result>(fleet: Fleet, host: Host, work: () => Promise<Result>): Promise<Result> {
  const { network, gradient } = fleet;
  network.bytesPerSecond = LINE_BYTES_PER_SECOND;
  network.rewrite = (_, body) => body.replaceAll(gradient.url, network.url);
  host.env.GRADIENT_DEPLOY_SERVER = network.url;
  try {
    return await work();
  } finally {
    host.env.GRADIENT_DEPLOY_SERVER = gradient.url;
    network.rewrite = null;
    network.bytesPerSecond = null;
  }
}

/** Leaves the host on the wanted system. */
async function updateFigure(
  fleet: Fleet,
  { host, agent }: Updated,
  { old, wanted }: { readonly old: Published; readonly wanted: Published },
): Promise<Figure> {
  const [from, to] = [pathOf(old), pathOf(wanted)];
  const { publicKey } = await fleet.cache();
  const cache = `${host.env.GRADIENT_DEPLOY_SERVER}/cache/${CACHE}`;
  const trust = ["--option", "substituters", cache, "--option", "trusted-public-keys", publicKey];
  const values = await interleave(ROUNDS, {
    ours: async () => {
      await putBack(host, from);
      return await timed(() => deployed({ host, agent }));
    },
    nix: async () => {
      await putBack(host, from);
      return await timed(() => nixOutput(["nix-store", "--realise", to, ...trust], host.daemon.env));
    },
  });
  await putBack(host, from);
  await deployed({ host, agent });
  return {
    part: "deploy",
    what: "",
    unit: "ms",
    ours: values.ours,
    other: { name: "nix-store --realise", value: values.nix },
    aim: { none: "" },
    samples: ROUNDS,
  };
}

async function deployed({ host, agent }: Updated): Promise<void> {
  const { end, output } = await agent.run(host);
  if (end !== "deployed") throw new Error(`the host was not updated: ${output}`);
}

async function checkFigures({ host, agent }: Updated): Promise<Figure[]> {
  const used: { readonly cpuMs: number; readonly peakBytes: number }[] = [];
  for (let i = 0; i < CHECKS; i++) used.push(await agent.measure(host));
  const figure = { part: "deploy", other: null, samples: CHECKS } as const;
  return [
    {
      ...figure,
      what: "a check with nothing new: CPU time",
      unit: "ms",
      ours: median(used.map(({ cpuMs }) => cpuMs)),
      aim: { valueMax: 500 },
    },
    {
      ...figure,
      what: "a check with nothing new: peak memory",
      unit: "MB",
      ours: median(used.map(({ peakBytes }) => peakBytes / MEGA)),
      aim: { valueMax: 100 },
    },
  ];
}

/** Nobody but the trigger starts the evaluations. */
async function pushFigure(fleet: Fleet, host: Host): Promise<Figure> {
  const { api } = fleet.gradient;
  const triggers = `/projects/${PROJECT}/triggers`;
  const trigger = { type: "polling", interval_secs: POLLING_SECONDS };
  for (const { id } of await api.request<{ id: string }[]>("GET", triggers)) {
    await api.request("DELETE", `${triggers}/${id}`);
  }
  await api.request("POST", triggers, { config: trigger, active: true });
  const seconds: number[] = [];
  for (let i = 0; i < PUSHES; i++) {
    const before = (await host.present()).current;
    await using agent = host.start(["watch"]);
    await commitSystems(fleet.repository, { label: `pushed-${i}`, hosts: [HOST] });
    const ms = await timed(async () => {
      const deadline = performance.now() + PUSH_MS_MAX;
      while ((await host.present()).current === before) {
        if (performance.now() > deadline) throw new Error(`the push did not reach the host: ${agent.output()}`);
        await sleep(50);
      }
    });
    await agent.ended;
    seconds.push(ms / 1_000);
  }
  return {
    part: "deploy",
    what: "from a push to the running host, watched",
    unit: "s",
    ours: median(seconds),
    other: null,
    aim: { valueMax: 60 },
    samples: PUSHES,
  };
}
