import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { Clock } from "#core/lib/clock.ts";
import { systemRandom } from "#core/lib/ids.ts";
import { type Context, InterruptedError, StateKeeper } from "./context.ts";
import type { Wanted } from "./decide.ts";
import type { SwitchStep, WorkResult } from "./machine.ts";
import { type Host, type Memory, type Server, ServerError } from "./ports.ts";
import { readState } from "./read-state.ts";
import { type RunEnd, runOnce } from "./run.ts";
import type { Mode } from "./settings.ts";
import { type AgentState, emptyState, forSource, type SystemView } from "./state.ts";
import { runUndo } from "./undo.ts";

const OLD = "/nix/store/00000000000000000000000000000000-nixos-system-h-1";
const NEW = "/nix/store/11111111111111111111111111111111-nixos-system-h-2";
const NEWER = "/nix/store/22222222222222222222222222222222-nixos-system-h-3";

/** What becomes of a switch to the new system. */
const BEHAVIOURS = ["good", "fails at once", "fails half way", "unhealthy"] as const;
type Behaviour = (typeof BEHAVIOURS)[number];

/** killed: the agent alone; a switch that runs goes on. power: the machine, which then boots. */
const DEATHS = ["killed", "power"] as const;
type Death = (typeof DEATHS)[number];

class Died extends Error {}

/** All that outlives the agent, and what can take it down: each effect has a moment before and one after it. */
class Machine implements Memory {
  behaviour: Behaviour = "good";
  serverIsAway = false;
  readonly links = new Map([[1, OLD]]);
  generation = 1;
  running = OLD;
  bootEntry = OLD;
  boots = 1;
  readonly outcomes = new Map<string, WorkResult>();
  inFlight: { readonly step: SwitchStep; readonly token: string } | null = null;
  text = JSON.stringify(emptyState("here"));
  readonly reports: Readonly<Record<string, unknown>>[] = [];
  momentsLeft = Number.POSITIVE_INFINITY;
  moments = 0;

  moment(): void {
    this.moments++;
    // Who is dead does nothing more, also not what was under way beside it.
    if (--this.momentsLeft <= 0) throw new Died();
  }

  read(): AgentState {
    return forSource(readState(this.text), "here");
  }

  write(state: AgentState): void {
    this.moment();
    this.text = JSON.stringify(state);
    this.moment();
  }

  get profile(): string {
    return this.links.get(this.generation) as string;
  }

  endSwitch(): WorkResult {
    if (!this.inFlight) throw new Error("nothing is being switched");
    const { step, token } = this.inFlight;
    this.inFlight = null;
    const { systemPath, action } = step;
    const fails = systemPath === NEW && action !== "dry-activate" && this.behaviour.startsWith("fails");
    if (!(fails && this.behaviour === "fails at once")) {
      if (action === "switch" || action === "boot") this.bootEntry = systemPath;
      if (action === "switch" || action === "test") this.running = systemPath;
    }
    const result: WorkResult = fails ? { ok: false, end: "rolled-back", reason: "exit code 1" } : { ok: true };
    this.outcomes.set(token, result);
    return result;
  }

  die(death: Death): void {
    if (death === "killed") {
      if (this.inFlight) this.endSwitch();
    } else this.boot();
  }

  boot(): void {
    this.inFlight = null;
    this.outcomes.clear();
    this.running = this.bootEntry;
    this.boots++;
  }
}

function hostOf(machine: Machine): Host {
  const view = (): SystemView => ({
    profilePath: machine.profile,
    generation: machine.generation,
    runningPath: machine.running,
    bootedPath: OLD,
  });
  return {
    view,
    bootId: () => `boot ${machine.boots}`,
    failedUnits: async () => {
      const isIll = machine.running === NEW && machine.behaviour === "unhealthy";
      return isIll ? ["always.service", "web.service"] : ["always.service"];
    },
    download: async () => {
      machine.moment();
      return { ok: true };
    },
    pin: async () => machine.moment(),
    setProfile: async (systemPath, generation) => {
      machine.moment();
      if (machine.profile !== systemPath) {
        const kept = generation !== null && machine.links.get(generation) === systemPath;
        machine.generation = kept ? generation : Math.max(...machine.links.keys()) + 1;
        machine.links.set(machine.generation, systemPath);
      }
      machine.moment();
      return { ok: true };
    },
    outcomeOf: async (token) => machine.outcomes.get(token) ?? null,
    switchTo: async (step, token) => {
      machine.moment();
      machine.inFlight = { step, token };
      machine.moment();
      const result = machine.endSwitch();
      machine.moment();
      return result;
    },
    failedCommands: async () => [],
    busyReason: async () => null,
    needsBootFirst: () => false,
    needsReboot: () => false,
    reboot: async () => null,
    generationBefore: () => null,
  };
}

function serverOf(machine: Machine): Server {
  const answer = () => {
    machine.moment();
    if (machine.serverIsAway) throw new ServerError("unreachable", "it is away", null);
  };
  const target = { storePath: NEW, buildId: "b2", evaluationId: "e2", order: 2, commit: "c2" };
  const wanted = (): Wanted => ({
    // As the server has it: what failed here does not come again by itself.
    state: isHeld(machine.reports) ? "held" : "deploy",
    reason: null,
    build: target,
    caches: [],
    canReport: true,
  });
  return {
    wanted: async () => {
      answer();
      return wanted();
    },
    report: async (body) => {
      answer();
      machine.reports.push(body);
    },
    reach: async () => {},
  };
}

/** What was rolled back, or failed after it was tried. */
function isHeld(reports: Machine["reports"]): boolean {
  const tried = reports.filter(({ step }) => step === "activating" || step === "checking").map(({ run_id }) => run_id);
  return reports.some(({ step, run_id }) => step === "rolled_back" || (step === "failed" && tried.includes(run_id)));
}

/** Waits take no time, but it passes. */
class HastyClock implements Clock {
  #ms = 1_700_000_000_000;
  now(): number {
    return this.#ms++;
  }
  monotonic(): number {
    return this.#ms;
  }
  schedule(ms: number, action: () => void): () => void {
    this.#ms += ms;
    queueMicrotask(action);
    return () => {};
  }
}

function contextOf(machine: Machine, mode: Mode, rollback = true): Context {
  return {
    settings: {
      mode,
      rollback,
      report: true,
      reboot: "never",
      rebootWindow: null,
      waitSeconds: 0,
      healthUnits: true,
      healthIgnoredUnits: [],
      healthServer: true,
      healthSettleSeconds: 0,
      healthGraceSeconds: 2,
    },
    host: hostOf(machine),
    server: serverOf(machine),
    keeper: new StateKeeper(machine, (state) => state),
    narrator: { info: () => {}, warn: () => {} },
    clock: new HastyClock(),
    random: systemRandom,
    signal: new AbortController().signal,
  };
}

type Work = (context: Context) => Promise<RunEnd>;
const run: Work = (context) => runOnce(context, { force: false, allowOlder: false });

/** Null when it died. */
async function runUntil(
  machine: Machine,
  mode: Mode,
  moments: number,
  death: Death,
  work = run,
): Promise<RunEnd | null> {
  machine.momentsLeft = moments;
  try {
    return await work(contextOf(machine, mode));
  } catch (error) {
    if (!(error instanceof Died)) throw error;
    machine.die(death);
    return null;
  } finally {
    machine.momentsLeft = Number.POSITIVE_INFINITY;
  }
}

const links = ({ profile, running, bootEntry }: Machine) => ({ profile, running, bootEntry });
const all = (path: string) => ({ profile: path, running: path, bootEntry: path });

/** The host is whole, nothing is left to do, and the server was told how it is. */
function expectSettled(machine: Machine, at: string): void {
  const state = machine.read();
  expect(state.journal, at).toBe(null);
  expect(state.reports, at).toEqual([]);
  expect([machine.profile, machine.bootEntry], at).toEqual([machine.running, machine.running]);
  expect(
    state.bad.map(({ storePath }) => storePath),
    at,
  ).toEqual(machine.running === NEW ? [] : [NEW]);
  expect(machine.reports.at(-1)?.running_path, at).toBe(machine.running);
  const lastOf = new Map(machine.reports.map((report) => [report.run_id, report.step]));
  for (const step of lastOf.values()) expect(["succeeded", "failed", "rolled_back", "unchanged"], at).toContain(step);
  for (const id of lastOf.keys()) {
    const sequence = machine.reports.filter(({ run_id }) => run_id === id).map((report) => report.sequence);
    // A report that was taken and not struck off is sent again; the server knows it by its number.
    expect([...new Set(sequence)], at).toEqual([...new Set(sequence)].sort((a, b) => Number(a) - Number(b)));
  }
}

function machineThat(behaviour: Behaviour): Machine {
  const machine = new Machine();
  machine.behaviour = behaviour;
  return machine;
}

describe.each(BEHAVIOURS)("a host whose new system is: %s", (behaviour) => {
  const lastSystem = behaviour === "good" ? NEW : OLD;

  test.each(DEATHS)("is whole after the next run, at whatever moment the agent dies (%s)", async (death) => {
    let deaths = 0;
    for (let moments = 1; ; moments++) {
      const machine = machineThat(behaviour);
      const ended = await runUntil(machine, "switch", moments, death);
      if (ended) break;
      deaths++;
      const at = `${death} at moment ${moments}`;
      for (const path of Object.values(links(machine))) expect([OLD, NEW], at).toContain(path);
      await run(contextOf(machine, "switch"));
      expect(links(machine), at).toEqual(all(lastSystem));
      expectSettled(machine, at);
    }
    expect(deaths).toBeGreaterThan(25);
  });

  test("is whole in the end, however often the agent dies", async () => {
    const death = fc.record({ moments: fc.integer({ min: 1, max: 45 }), death: fc.constantFrom(...DEATHS) });
    await fc.assert(
      fc.asyncProperty(fc.array(death, { maxLength: 6 }), fc.boolean(), async (deaths, serverIsAway) => {
        const machine = machineThat(behaviour);
        for (const { moments, death: how } of deaths) {
          await runUntil(machine, "switch", moments, how);
          machine.serverIsAway = serverIsAway;
        }
        machine.serverIsAway = false;
        await run(contextOf(machine, "switch"));
        await run(contextOf(machine, "switch"));
        if (behaviour !== "good") expect(links(machine)).toEqual(all(OLD));
        expectSettled(machine, JSON.stringify(deaths));
      }),
      { numRuns: 150 },
    );
  });

  test.each(DEATHS)("only tried (mode test) is whole after the next run, at whatever moment (%s)", async (death) => {
    for (let moments = 1; ; moments++) {
      const machine = machineThat(behaviour);
      if (await runUntil(machine, "test", moments, death)) break;
      await run(contextOf(machine, "test"));
      expect(links(machine), `${death} at moment ${moments}`).toEqual({ ...all(OLD), running: lastSystem });
      expect(machine.read().journal).toBe(null);
    }
  });

  test.each(DEATHS)("only looked at (dry-activate) is never changed, at whatever moment (%s)", async (death) => {
    for (let moments = 1; ; moments++) {
      const machine = machineThat(behaviour);
      const ended = await runUntil(machine, "dry-activate", moments, death);
      expect(links(machine)).toEqual(all(OLD));
      expect(machine.read().bad).toEqual([]);
      if (ended) break;
    }
  });

  test.each(DEATHS)("and is booted (mode boot) is whole after boot and run, at whatever moment (%s)", async (death) => {
    for (let moments = 1; ; moments++) {
      const machine = machineThat(behaviour);
      const ended = await runUntil(machine, "boot", moments, death);
      await run(contextOf(machine, "boot"));
      machine.boot();
      await run(contextOf(machine, "boot"));
      expect(links(machine), `${death} at moment ${moments}`).toEqual(all(lastSystem));
      expectSettled(machine, `${death} at moment ${moments}`);
      if (ended) break;
    }
  });
});

test.each(DEATHS)(
  "going back by hand leads to the system before, at whatever moment the agent dies (%s)",
  async (death) => {
    for (let moments = 1; ; moments++) {
      const machine = machineThat("good");
      await run(contextOf(machine, "switch"));
      expect(links(machine)).toEqual(all(NEW));
      const ended = await runUntil(machine, "switch", moments, death, runUndo);
      const began = machine.read().journal !== null || machine.read().bad.length > 0;
      await run(contextOf(machine, "switch"));
      const at = `${death} at moment ${moments}`;
      expect(links(machine), at).toEqual(all(began ? OLD : NEW));
      expectSettled(machine, at);
      if (ended) break;
    }
  },
);

/** The way back fails until it is mended, and what is wanted by then can be fetched by nobody. */
function stuckContext(machine: Machine, isMended: boolean): Context {
  const context = contextOf(machine, "switch");
  const newest = { storePath: NEWER, buildId: "b3", evaluationId: "e3", order: 3, commit: "c3", closureBytes: null };
  const isTried = machine.read().bad.length > 0 || machine.read().journal?.cause != null;
  const host: Host = {
    ...context.host,
    download: async ({ storePath }) => {
      machine.moment();
      return storePath === NEWER ? { ok: false, end: "missing-path", reason: "it is nowhere" } : { ok: true };
    },
    switchTo: async (step, token) => {
      if (step.systemPath !== OLD || isMended) return context.host.switchTo(step, token);
      machine.moment();
      return { ok: false, end: "rolled-back", reason: "the way back is broken" };
    },
  };
  const wanted: Server["wanted"] = async () => {
    const answer = await context.server.wanted();
    return isTried ? { ...answer, state: "deploy", build: newest } : answer;
  };
  return { ...context, host, server: { ...context.server, wanted } };
}

test.each(DEATHS)(
  "a way back that failed is gone in the end, at whatever moment the agent dies over a newer build (%s)",
  async (death) => {
    for (let moments = 1; ; moments++) {
      const machine = machineThat("fails half way");
      expect(await run(stuckContext(machine, false))).toMatchObject({ end: "rollback-failed" });
      const broken = (): Promise<RunEnd> => run(stuckContext(machine, false));
      const ended = await runUntil(machine, "switch", moments, death, broken);
      await broken();
      await run(stuckContext(machine, true));
      const at = `${death} at moment ${moments}`;
      expect(links(machine), at).toEqual(all(OLD));
      expect(machine.read(), at).toMatchObject({ journal: null, bad: [{ storePath: NEW }] });
      if (ended) break;
      expect(moments).toBeLessThan(200);
    }
  },
);

test.each(DEATHS)(
  "a host that booted another system keeps that one, at whatever moment the agent dies (%s)",
  async (death) => {
    for (let moments = 1; ; moments++) {
      const machine = machineThat("good");
      expect(await run(contextOf(machine, "boot"))).toMatchObject({ end: "will-boot" });
      machine.boots++;
      const ended = await runUntil(machine, "boot", moments, death);
      await run(contextOf(machine, "boot"));
      const at = `${death} at moment ${moments}`;
      // With the power gone before anything was written down it boots what was set up, which is well.
      const isBooted = death === "power" && machine.running === NEW && moments === 1;
      expect(links(machine), at).toEqual(all(isBooted ? NEW : OLD));
      expectSettled(machine, at);
      if (ended) break;
      expect(moments).toBeLessThan(200);
    }
  },
);

test("a system that takes the machine down each time is given up after the second time", async () => {
  const machine = machineThat("good");
  const crashing = { ...contextOf(machine, "switch") };
  const takesDown: Host = {
    ...crashing.host,
    switchTo: async (step, token) => {
      if (step.systemPath !== NEW) return crashing.host.switchTo(step, token);
      throw new Died();
    },
  };
  for (let boots = 0; boots < 2; boots++) {
    const context = { ...contextOf(machine, "switch"), host: takesDown };
    await expect(run(context)).rejects.toThrow(Died);
    machine.boot();
  }
  const ended = await run({ ...contextOf(machine, "switch"), host: takesDown });
  expect(ended).toMatchObject({ end: "rolled-back", reason: expect.stringContaining("interrupted 2 times") });
  expect(links(machine)).toEqual(all(OLD));
  expectSettled(machine, "given up");
});

test("who is asked to end begins nothing new, and the next run goes on from there", async () => {
  const machine = machineThat("good");
  const ending = new AbortController();
  const context = { ...contextOf(machine, "switch"), signal: ending.signal };
  const setProfile: Host["setProfile"] = async (...words) => {
    ending.abort();
    return context.host.setProfile(...words);
  };
  await expect(run({ ...context, host: { ...context.host, setProfile } })).rejects.toThrow(InterruptedError);
  expect(machine.outcomes.size).toBe(0);
  expect(links(machine)).toEqual({ ...all(OLD), profile: NEW });
  expect(await run(contextOf(machine, "switch"))).toMatchObject({ end: "deployed" });
  expectSettled(machine, "asked to end");
});

test("without rollback a failed system stays, is told, and is not tried again by itself", async () => {
  const machine = machineThat("unhealthy");
  expect(await run(contextOf(machine, "switch", false))).toMatchObject({ end: "failed" });
  expect(links(machine)).toEqual(all(NEW));
  expect(machine.reports.at(-1)).toMatchObject({ step: "failed", health: "unhealthy", failed_units: ["web.service"] });
  expect(await run(contextOf(machine, "switch", false))).toMatchObject({ end: "bad-build" });
});
