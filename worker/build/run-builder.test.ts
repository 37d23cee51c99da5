import { expect, test } from "vitest";
import type { Clock } from "#core/lib/clock.ts";
import type { BasicDerivation } from "#core/nix/daemon/build.ts";
import type { DaemonEventHandler } from "#core/nix/daemon/events.ts";
import { ActivityType, ResultType } from "#core/nix/daemon/numbers.ts";
import type { StorePath } from "#core/nix/store-path.ts";
import type { BuildOptions, DaemonConnection } from "../daemon/connection.ts";
import { BuildLog } from "./build-log.ts";
import { runBuilder } from "./run-builder.ts";

/** Time passes when it is told to. */
class ManualClock implements Clock {
  #now = 0;
  #timers: { at: number; action: () => void }[] = [];

  now(): number {
    return this.#now;
  }

  monotonic(): number {
    return this.#now;
  }

  schedule(ms: number, action: () => void): () => void {
    const timer = { at: this.#now + ms, action };
    this.#timers.push(timer);
    return () => {
      this.#timers = this.#timers.filter((one) => one !== timer);
    };
  }

  get scheduled(): number {
    return this.#timers.length;
  }

  pass(ms: number): void {
    const end = this.#now + ms;
    for (;;) {
      const due = this.#timers.filter(({ at }) => at <= end).sort((a, b) => a.at - b.at)[0];
      if (!due) break;
      this.#timers = this.#timers.filter((one) => one !== due);
      this.#now = due.at;
      due.action();
    }
    this.#now = end;
  }
}

const BUILDING = {
  kind: "start",
  id: 1n,
  parent: 0n,
  level: 3,
  type: ActivityType.build,
  text: "",
  fields: [],
} as const;
const LINE = { kind: "result", id: 1n, type: ResultType.buildLogLine, fields: ["line"] } as const;
const WAITING = { ...BUILDING, type: ActivityType.buildWaiting } as const;

/** A build in a daemon that never ends it by itself. */
function stuckBuild(limits: { readonly timeoutMs: number; readonly maxSilentMs: number }) {
  const clock = new ManualClock();
  let tell: DaemonEventHandler = () => {};
  let logText = "";
  const connection = {
    buildDerivation: (_path: StorePath, _derivation: BasicDerivation, { signal, onEvent }: BuildOptions) => {
      tell = onEvent as DaemonEventHandler;
      return new Promise((_, reject) => signal?.addEventListener("abort", () => reject(signal.reason)));
    },
  } as unknown as DaemonConnection;
  const write = (bytes: Uint8Array) => {
    logText += Buffer.from(bytes).toString();
  };
  const outcome = runBuilder(
    connection,
    { drvPath: "" as StorePath, derivation: {} as BasicDerivation, ...limits },
    { log: new BuildLog({ write, clock }), clock, signal: new AbortController().signal },
  ).catch((error: unknown) => error);
  let settled = false;
  void outcome.then(() => {
    settled = true;
  });
  return {
    clock,
    tell: (event: Parameters<DaemonEventHandler>[0]) => tell(event),
    outcome,
    isSettled: () => settled,
    log: () => logText,
  };
}

test("a build that the daemon does not end in time is given up, shortly after its limit", async () => {
  const { clock, tell, outcome, isSettled } = stuckBuild({ timeoutMs: 60_000, maxSilentMs: 0 });
  await tell(BUILDING);
  clock.pass(61_000);
  await Promise.resolve();
  expect(isSettled()).toBe(false);
  clock.pass(20_000);
  expect(await outcome).toMatchObject({ failureClass: "timeout" });
  expect(clock.scheduled).toBe(0);
});

test("silence is counted from the last line", async () => {
  const { clock, tell, outcome, isSettled } = stuckBuild({ timeoutMs: 0, maxSilentMs: 60_000 });
  await tell(BUILDING);
  for (let i = 0; i < 10; i++) {
    clock.pass(59_000);
    await tell(LINE);
  }
  expect(isSettled()).toBe(false);
  clock.pass(200_000);
  expect(await outcome).toMatchObject({ failureClass: "silent_timeout" });
});

test("time before the build begins is not the build's, but it is not without end", async () => {
  const late = stuckBuild({ timeoutMs: 60_000, maxSilentMs: 1_000 });
  await late.tell(WAITING);
  expect(late.log()).toMatch(/^\[gradient: waiting: another process/);
  late.clock.pass(50_000);
  await late.tell(BUILDING);
  await late.tell(LINE);
  late.clock.pass(14_000);
  await Promise.resolve();
  expect(late.isSettled()).toBe(false);

  const never = stuckBuild({ timeoutMs: 60_000, maxSilentMs: 0 });
  never.clock.pass(80_000);
  expect(await never.outcome).toMatchObject({ failureClass: "transient", message: expect.stringContaining("locked") });
});

test("without limits nothing is given up", async () => {
  const { clock, tell, isSettled } = stuckBuild({ timeoutMs: 0, maxSilentMs: 0 });
  await tell(BUILDING);
  clock.pass(10 ** 9);
  await Promise.resolve();
  expect(isSettled()).toBe(false);
});
