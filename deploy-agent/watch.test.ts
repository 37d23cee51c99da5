import { describe, expect, test } from "vitest";
import { type Clock, HOUR, MINUTE, SECOND } from "#core/lib/clock.ts";
import { systemRandom } from "#core/lib/ids.ts";
import { type Context, StateKeeper } from "./context.ts";
import type { Wanted } from "./decide.ts";
import { type Host, type Server, ServerError } from "./ports.ts";
import type { RunEnd } from "./run.ts";
import { emptyState } from "./state.ts";
import { watch } from "./watch.ts";

const WAIT_SECONDS = 50;
const BUILD = "0199d1f5-0000-7000-8000-000000000002";

const SETTINGS: Context["settings"] = {
  ...{ mode: "dry-activate", rollback: true, report: false, reboot: "never", rebootWindow: null, waitSeconds: 0 },
  ...{ healthUnits: true, healthIgnoredUnits: [], healthServer: true, healthSettleSeconds: 0, healthGraceSeconds: 0 },
};

function wantedOf(buildId: string): Wanted {
  const build = { storePath: "/nix/store/x", buildId, evaluationId: "e", order: 1, commit: "c" };
  return { state: "deploy", reason: null, build, caches: [], canReport: true };
}

/** A watch for some hours of a clock that runs as fast as it can, at a server that answers as `answer` says. */
async function watched(
  durationMs: number,
  answer: (question: { readonly waits: boolean; readonly atMs: number }) => Wanted | ServerError,
  { waitsMs = WAIT_SECONDS * SECOND, host = null }: { readonly waitsMs?: number; readonly host?: Host | null } = {},
) {
  let timeMs = 0;
  const ending = new AbortController();
  const pass = (ms: number): void => {
    timeMs += ms;
    if (timeMs >= durationMs) ending.abort();
  };
  const clock: Clock = {
    now: () => timeMs,
    monotonic: () => timeMs,
    schedule: (ms, action) => {
      pass(ms);
      const soon = setImmediate(action);
      return () => clearImmediate(soon);
    },
  };
  const asked: { readonly waits: boolean; readonly atMs: number }[] = [];
  let runs = 0;
  const server: Pick<Server, "wanted"> = {
    wanted: async (news) => {
      const question = { waits: news !== undefined, atMs: timeMs };
      asked.push(question);
      // An agent that asks without end must not take the tests with it.
      if (asked.length >= 20_000) ending.abort();
      const answered = answer(question);
      if (answered instanceof ServerError) throw answered;
      if (news && answered.build?.buildId === news.seen.buildId) pass(waitsMs);
      return answered;
    },
  };
  const up: RunEnd = { end: "up-to-date", reason: null, failedUnits: [], wanted: null };
  const shared = {
    clock,
    random: systemRandom,
    narrator: { info: () => {}, warn: () => {} },
    server: server as Server,
    signal: ending.signal,
  };
  const memory = { read: () => emptyState(""), write: () => {} };
  const keeper = new StateKeeper(memory, (state) => state);
  const ended = await watch({
    ...shared,
    waitSeconds: WAIT_SECONDS,
    wishes: { force: false, allowOlder: false },
    withContext: async (work) => {
      runs++;
      return host ? work({ ...shared, host, keeper, settings: SETTINGS }) : up;
    },
  });
  return { asked, ended, runs, timeMs };
}

describe("watching a server", () => {
  test.each([429, 503])(
    "that takes none who wait (%i) does not add to its burden, and news still come",
    async (status) => {
      const newsAt = 2 * HOUR;
      const { asked, runs, ended } = await watched(4 * HOUR, ({ waits, atMs }) => {
        if (waits) return new ServerError("unreachable", "too many wait", status);
        return wantedOf(atMs < newsAt ? BUILD : BUILD.replace("2", "3"));
      });
      expect(ended.end).toBe("interrupted");
      // Polls every 30 to 60 s, and one that would wait every few minutes.
      expect(asked.length).toBeLessThan(4 * 60 * 3);
      expect(asked.filter(({ waits }) => waits).length).toBeLessThan(4 * 30);
      const pauses = asked
        .filter(({ waits }) => !waits)
        .map(({ atMs }, index, all) => atMs - (all[index - 1]?.atMs ?? 0));
      expect(Math.max(...pauses)).toBeLessThan(6 * MINUTE);
      // One look every ten minutes, one at the beginning, one for the news, and what was left.
      expect(runs).toBeLessThanOrEqual(4 * 6 + 3);
    },
  );

  test("that takes those who wait again is waited at again", async () => {
    const wellAt = HOUR;
    const { asked } = await watched(2 * HOUR, ({ waits, atMs }) =>
      waits && atMs < wellAt ? new ServerError("unreachable", "too many wait", 503) : wantedOf(BUILD),
    );
    const late = asked.filter(({ atMs }) => atMs > wellAt + 10 * MINUTE);
    expect(late.length).toBeGreaterThan(10);
    expect(late.every(({ waits }) => waits)).toBe(true);
  });

  test("that answers at once without news is not asked without end", async () => {
    const { asked } = await watched(MINUTE, () => wantedOf(BUILD), { waitsMs: 0 });
    expect(asked.length).toBeLessThan(70);
  });

  test.each(["unauthorized", "not-found"] as const)("that goes on refusing the key ends it as %s", async (end) => {
    const { asked, ended, timeMs } = await watched(HOUR, () => new ServerError(end, "no such key", 401));
    expect(ended).toMatchObject({ end, reason: "no such key" });
    expect(asked.length).toBe(10);
    expect(timeMs).toBeLessThan(10 * MINUTE);
  });

  test("that refused the key for a while only goes on", async () => {
    const { ended } = await watched(HOUR, ({ atMs }) =>
      atMs < MINUTE ? new ServerError("unauthorized", "no such key", 401) : wantedOf(BUILD),
    );
    expect(ended.end).toBe("interrupted");
  });

  test("in the mode dry-activate shows a build once, and the next one", async () => {
    const shown: number[] = [];
    let at = 0;
    const host: Partial<Host> = {
      view: () => ({ profilePath: null, generation: null, runningPath: "/nix/store/y", bootedPath: null }),
      bootId: () => "boot",
      failedUnits: async () => [],
      pin: async () => {},
      download: async () => ({ ok: true }),
      needsBootFirst: () => false,
      switchTo: async () => {
        shown.push(at);
        return { ok: true };
      },
    };
    const newsAt = 2 * HOUR;
    await watched(
      4 * HOUR,
      ({ atMs }) => {
        at = atMs;
        return wantedOf(atMs < newsAt ? BUILD : BUILD.replace("2", "3"));
      },
      { host: host as Host },
    );
    expect(shown).toHaveLength(2);
    expect(shown[0]).toBeLessThan(newsAt);
    expect(shown[1]).toBeGreaterThanOrEqual(newsAt);
  });
});
