import { HOUR, SECOND } from "../lib/clock.ts";
import type { Fleet, KnownHost, WantedSystem } from "./deployment-fleet.ts";

/** A host that was not heard of for so long holds up no wave. */
export const SILENT_MS: number = 48 * HOUR;

/** Nor does one that is heard of, and for so long has not taken the system that it may take. */
export const NOT_TAKEN_MS: number = 48 * HOUR;

/** What keeps a host's wave from beginning. */
export type WaveObstacle =
  | { readonly kind: "evaluating" }
  | { readonly kind: "wave"; readonly host: string; readonly problem: WaveProblem };

/** `silent`: the soak time is over, and nobody heard since whether the host is well still. */
export type WaveProblem = "not_there" | "not_healthy" | "soaking" | "silent";

/**
 * Wave `k` is the first `n * percent * k / 100` hosts, rounded up, in the order of their names: of all that the
 * evaluation names, whether their systems are built already or not, so that no order in which builds end lets more of
 * them begin. A wave begins when all hosts before it run what they are to run, of this evaluation or a newer one, and
 * have been healthy on it for the soak time, of which the last word came when it was over: a host that died meanwhile
 * says nothing. Who never told of itself comes last.
 *
 * A host whose build has failed for good, or on which its system has failed, has no part in it. One that could take its
 * system and does not holds up the others for `NOT_TAKEN_MS`; one that is not healthy on it for as long as it says so.
 */
export function waveObstacle(
  fleet: Fleet,
  { name, order }: { readonly name: string; readonly order: number },
  nowMs: number,
): WaveObstacle | null {
  const { wavePercent, soakSeconds } = fleet.settings;
  if (wavePercent >= 100) return null;
  const asked = fleet.evaluations.get(order);
  if (!asked?.isWhole) return { kind: "evaluating" };
  const failedHere = new Set(fleet.holds.flatMap(({ host, storePath }) => (host ? `${host} ${storePath}` : [])));
  const taking = fleet.hosts
    .filter((host) => ["built", "open"].includes(asked.builds.get(host.name) ?? "failed"))
    .filter((host) => host.name === name || nowMs - host.lastContactAt < SILENT_MS)
    .filter((host) => !failedHere.has(`${host.name} ${fleet.wanted.get(host.name)?.storePath}`))
    .sort((one, other) => (one.name < other.name ? -1 : 1));
  const place = taking.findIndex((host) => host.name === name);

  let start = 0;
  let openedAt = asked.knownAt;
  for (const end of waveEnds(taking.length, wavePercent)) {
    if (place >= 0 && place < end) return null;
    let doneAt = openedAt;
    for (const host of taking.slice(start, end)) {
      const wanted = fleet.wanted.get(host.name);
      // What it has of older evaluations is not what the others wait for.
      const target = wanted && wanted.order >= order ? wanted : null;
      const { until, problem } = holdUpOf(host, target, { openedAt, soakMs: soakSeconds * SECOND, nowMs });
      if (until > nowMs) return { kind: "wave", host: host.name, problem };
      doneAt = Math.max(doneAt, until);
    }
    start = end;
    openedAt = doneAt;
  }
  return null;
}

/** How many hosts are in each wave and those before it. */
export function waveEnds(count: number, percent: number): number[] {
  const waves = Array.from({ length: Math.ceil(100 / percent) }, (_, wave) => wave + 1);
  const ends = waves.map((wave) => Math.min(Math.ceil((count * percent * wave) / 100), count));
  // A share of less than a host makes no wave.
  return [...new Set(ends)].filter((end) => end > 0);
}

/** Until when, in milliseconds, and why the host holds up the waves after its own. */
function holdUpOf(
  host: KnownHost,
  target: WantedSystem | null,
  { openedAt, soakMs, nowMs }: { readonly openedAt: number; readonly soakMs: number; readonly nowMs: number },
): { readonly until: number; readonly problem: WaveProblem } {
  if (target === null || host.runningPath !== target.storePath) {
    const mayTakeAt = Math.max(openedAt, target?.builtAt ?? openedAt);
    return { until: mayTakeAt + NOT_TAKEN_MS, problem: "not_there" };
  }
  if (host.healthySince === null) return { until: Number.POSITIVE_INFINITY, problem: "not_healthy" };
  const until = host.healthySince + soakMs;
  if (nowMs < until || host.lastContactAt >= until) return { until, problem: "soaking" };
  return { until: Number.POSITIVE_INFINITY, problem: "silent" };
}
