import { expect, test } from "vitest";
import { systemClock } from "#core/lib/clock.ts";
import { systemRandom } from "#core/lib/ids.ts";
import { type Context, StateKeeper } from "./context.ts";
import { newJournal, runJournal } from "./journal-runner.ts";
import type { Host, Server } from "./ports.ts";
import { type AgentState, emptyState } from "./state.ts";
import { StateError } from "./state-file.ts";

const OLD = "/nix/store/00000000000000000000000000000000-nixos-system-h-1";
const NEW = "/nix/store/11111111111111111111111111111111-nixos-system-h-2";

/** A host that writes down what happens, and a server that takes its time. */
function hostWithSlowServer({ write }: { readonly write: (state: AgentState) => void }) {
  const events: string[] = [];
  let running = OLD;
  const later = () => new Promise((resolve) => setTimeout(resolve, 20));
  const host: Partial<Host> = {
    view: () => ({ profilePath: running, generation: 1, runningPath: running, bootedPath: OLD }),
    bootId: () => "boot",
    failedUnits: async () => [],
    failedCommands: async () => [],
    busyReason: async () => null,
    needsBootFirst: () => false,
    pin: async () => {},
    setProfile: async () => ({ ok: true }),
    download: async () => {
      events.push("download");
      return { ok: true };
    },
    switchTo: async ({ systemPath }, _token, onUnderWay) => {
      events.push("switch");
      onUnderWay?.();
      await later();
      await later();
      running = systemPath;
      events.push("switched");
      return { ok: true };
    },
  };
  const server: Partial<Server> = {
    reach: async () => {},
    report: async ({ step }) => {
      await later();
      events.push(`heard of ${step}`);
    },
  };
  const settings = { report: true, rollback: true, healthUnits: true, healthIgnoredUnits: [], healthServer: true };
  const times = { waitSeconds: 0, healthSettleSeconds: 0, healthGraceSeconds: 0 };
  const context: Context = {
    settings: { ...settings, ...times, mode: "switch", reboot: "never", rebootWindow: null },
    host: host as Host,
    server: server as Server,
    keeper: new StateKeeper({ read: () => emptyState(""), write }, (state) => state),
    narrator: { info: () => {}, warn: () => {} },
    clock: systemClock,
    random: systemRandom,
    signal: new AbortController().signal,
  };
  const target = { storePath: NEW, buildId: "b", evaluationId: "e", order: 1, commit: "c" };
  const about = { goal: "deploy", phase: "downloading", cause: null, mode: "switch" } as const;
  const journal = newJournal(context, { ...about, target, before: context.host.view() });
  return { events, context, deploy: () => runJournal(context, journal, []) };
}

test("nothing waits until the server has heard of it, and it hears all in order, also of a switch", async () => {
  const { events, context, deploy } = hostWithSlowServer({ write: () => {} });
  expect(await deploy()).toMatchObject({ end: "deployed" });
  expect(events).toEqual([
    "download",
    "heard of started",
    "heard of downloading",
    "switch",
    "heard of activating",
    "switched",
    "heard of checking",
    "heard of succeeded",
  ]);
  expect(context.keeper.state.reports).toEqual([]);
});

test("a deployment that cannot go on leaves nothing under way behind it", async () => {
  const { events, context, deploy } = hostWithSlowServer({ write: () => {} });
  context.host.download = async () => {
    throw new StateError("the disk is gone");
  };
  await expect(deploy()).rejects.toThrow("the disk is gone");
  expect(events).toEqual(["heard of started", "heard of downloading"]);
});

test("that a report was sent is written down with the next step, and what was not is kept", async () => {
  const written: AgentState[] = [];
  const { deploy } = hostWithSlowServer({ write: (state) => written.push(state) });
  await deploy();
  const steps = written.map(({ journal, reports }) => [journal?.phase, reports.map(({ body }) => body.step)]);
  expect(steps).toEqual([
    ["downloading", ["started", "downloading"]],
    ["profile", []],
    ["profile", []],
    ["switching", []],
    ["switching", ["activating"]],
    ["checking", []],
    ["checking", ["checking"]],
    [undefined, ["succeeded"]],
  ]);
});
