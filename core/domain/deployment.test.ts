import fc from "fast-check";
import { expect, test } from "vitest";
import { TRIGGER_TYPES, type TriggerConfig } from "../api/triggers.ts";
import { DAY } from "../lib/clock.ts";
import { decideFor, deployBranchOf, hasFailed, isHostName, mayDeploy, systemAttributes } from "./deployment.ts";
import type { AskedSystems, Fleet, KnownHost } from "./deployment-fleet.ts";
import { NOT_TAKEN_MS, SILENT_MS, waveEnds } from "./deployment-waves.ts";

const NOW = 1_000_000_000_000;
const polling = (branch: string | null, active = true) => ({
  config: { type: "polling", interval_secs: 300, branch } as TriggerConfig,
  active,
});
const push = (...branches: string[]) => ({
  config: { type: "reporter_push", integration_id: "", branches, tags: [], releases_only: false } as TriggerConfig,
  active: true,
});

test("only what is of a branch, and was begun by its push, a look, the time or a member, may go to hosts", () => {
  const origin = { branch: "main", triggerType: null, ofRepository: true, needsApproval: false };
  expect(mayDeploy(origin)).toBe(true);
  const allowed = TRIGGER_TYPES.filter((_, triggerType) => mayDeploy({ ...origin, triggerType }));
  expect(allowed).toEqual(["polling", "reporter_push", "time"]);
  expect(mayDeploy({ ...origin, triggerType: 99 })).toBe(false);
  expect(mayDeploy({ ...origin, branch: null })).toBe(false);
  expect(mayDeploy({ ...origin, ofRepository: false })).toBe(false);
  expect(mayDeploy({ ...origin, needsApproval: true })).toBe(false);
});

test("the deploy branch is the one that is set, else a trigger's, else the default", () => {
  const unset = { deploy_branch: null, default_branch: "main" };
  expect(deployBranchOf({ ...unset, deploy_branch: "live" }, [polling("x")])).toBe("live");
  expect(deployBranchOf(unset, [])).toBe("main");
  expect(deployBranchOf(unset, [polling("release")])).toBe("release");
  expect(deployBranchOf(unset, [polling(null), polling("staging")])).toBe("main");
  expect(deployBranchOf(unset, [push("live"), polling(null)])).toBe("live");
  expect(deployBranchOf(unset, [push("a", "b"), push("x*"), push()])).toBe("main");
  // Switching a trigger off for a while sends no host elsewhere.
  expect(deployBranchOf(unset, [polling("release", false)])).toBe("release");
  expect(deployBranchOf(unset, [polling("old", false), polling("new")])).toBe("new");
  expect(deployBranchOf({ deploy_branch: null, default_branch: null }, [polling(null)])).toBe(null);
});

test("names of hosts are those that addresses and attributes can both have", () => {
  for (const name of ["web", "web.example.com", "alice@laptop", "_x", "a".repeat(253)])
    expect(isHostName(name)).toBe(true);
  for (const name of ["", "-web", ".", "..", "a/b", "a b", "ä", "a\0", "a".repeat(254)])
    expect(isHostName(name)).toBe(false);
  expect(systemAttributes("web.example.com")[1]).toEqual(["nixosConfigurations", "web.example.com"]);
});

test("a run is held against its system only when it got as far as running it", () => {
  expect(hasFailed(["started", "downloading", "failed"], "switch")).toBe(false);
  expect(hasFailed(["started", "activating", "failed"], "switch")).toBe(true);
  expect(hasFailed(["checking", "failed"], "boot")).toBe(true);
  expect(hasFailed(["rolled_back"], "test")).toBe(true);
  expect(hasFailed(["activating", "failed", "rolled_back"], "dry-activate")).toBe(false);
  expect(hasFailed(["activating", "checking", "succeeded"], "switch")).toBe(false);
});

const ORDER = 7;
const pathOf = (name: string) => `new-${name}`;
const known = (name: string, more: Partial<KnownHost> = {}): KnownHost => ({
  name,
  runningPath: "old",
  healthySince: NOW - 10_000,
  lastContactAt: NOW,
  ...more,
});
const arrived = (name: string, healthySince: number | null = NOW - 10_000): KnownHost =>
  known(name, { runningPath: pathOf(name), healthySince });

function fleetOf(hosts: readonly KnownHost[], more: Partial<Fleet> = {}): Fleet {
  const system = (name: string) => ({
    storePath: pathOf(name),
    available: true,
    order: ORDER,
    commit: "c7",
    builtAt: 0,
  });
  return {
    branch: "main",
    wanted: new Map(hosts.map(({ name }) => [name, system(name)])),
    evaluations: new Map([[ORDER, asked(hosts.map(({ name }) => [name, "built"]))]]),
    hosts,
    holds: [],
    settings: { hold: true, wavePercent: 100, soakSeconds: 0 },
    ...more,
  };
}
function asked(builds: Iterable<readonly [string, "built" | "open" | "failed"]>): AskedSystems {
  return { isWhole: true, knownAt: NOW - 20_000, builds: new Map(builds) };
}
const stateOf = (fleet: Fleet, name: string) => decideFor(fleet, name, NOW).state;

test("what there is not, nobody gets", () => {
  const fleet = fleetOf([known("web")]);
  expect(decideFor({ ...fleet, branch: null }, "web", NOW).why).toEqual({ kind: "no_branch" });
  expect(decideFor(fleet, "db", NOW).why).toEqual({ kind: "not_built" });
  const lost = { storePath: "x", available: false, order: 1, commit: "c", builtAt: 0 };
  expect(decideFor({ ...fleet, wanted: new Map([["web", lost]]) }, "web", NOW).why).toEqual({ kind: "not_available" });
});

test("a failure keeps the commit from the others, and the system from the host itself, until it is released", () => {
  const hosts = [known("db"), known("web"), arrived("mail")];
  const everybody = { host: null, storePath: null, commit: "c7", failedHost: "web" };
  const itself = { host: "web", storePath: pathOf("web"), commit: "c7", failedHost: "web" };
  const failed = fleetOf(hosts, { holds: [everybody, itself] });
  expect(decideFor(failed, "db", NOW)).toEqual({ state: "held", why: { kind: "failed_elsewhere", host: "web" } });
  expect(decideFor(failed, "web", NOW)).toEqual({ state: "held", why: { kind: "failed_here" } });
  // It runs it already.
  expect(stateOf(failed, "mail")).toBe("deploy");

  const off = { ...failed, settings: { ...failed.settings, hold: false } };
  expect([stateOf(off, "db"), stateOf(off, "web")]).toEqual(["deploy", "held"]);
  expect(stateOf({ ...failed, holds: [everybody] }, "web")).toBe("deploy");
  const operator = { ...everybody, failedHost: null };
  const held = { ...off, holds: [operator] };
  expect([stateOf(held, "db"), stateOf(held, "web")]).toEqual(["held", "held"]);
  expect(stateOf(fleetOf(hosts, { holds: [{ ...everybody, commit: "c6" }] }), "db")).toBe("deploy");
});

test("a wave waits for those before it: to be there, to be well, and to stay so", () => {
  const settings = { hold: true, wavePercent: 25, soakSeconds: 60 };
  const names = ["a", "b", "c", "d"];
  const with_a = (a: KnownHost) => fleetOf([...names.slice(1).map((name) => known(name)), a], { settings });
  expect(names.map((name) => stateOf(with_a(known("a")), name))).toEqual(["deploy", "waiting", "waiting", "waiting"]);
  const problem = (a: KnownHost) => decideFor(with_a(a), "b", NOW).why;
  expect(problem(known("a"))).toEqual({ kind: "wave", host: "a", problem: "not_there" });
  expect(problem(arrived("a", null))).toEqual({ kind: "wave", host: "a", problem: "not_healthy" });
  expect(problem(arrived("a", NOW - 59_999))).toEqual({ kind: "wave", host: "a", problem: "soaking" });
  expect(problem(arrived("a", NOW - 60_000))).toBe(null);
  expect(stateOf(with_a(arrived("a", NOW - 60_000)), "c")).toBe("waiting");
  // One that was not heard of for two days holds up nobody, and itself goes on where it was.
  const silent = with_a(known("a", { lastContactAt: NOW - SILENT_MS }));
  expect(["a", "b", "c"].map((name) => stateOf(silent, name))).toEqual(["deploy", "deploy", "waiting"]);
});

test("a host that died while its system had to prove itself has not proved it, until nobody waits for it", () => {
  const settings = { hold: true, wavePercent: 50, soakSeconds: 60 };
  const healthySince = NOW - DAY;
  const fleet = (lastContactAt: number) =>
    fleetOf([{ ...arrived("a", healthySince), lastContactAt }, known("b")], { settings });
  const why = (lastContactAt: number) => decideFor(fleet(lastContactAt), "b", NOW).why;
  expect(why(healthySince)).toEqual({ kind: "wave", host: "a", problem: "silent" });
  expect(why(healthySince + 59_999)).toEqual({ kind: "wave", host: "a", problem: "silent" });
  expect(why(healthySince + 60_000)).toBe(null);
  const later = healthySince + SILENT_MS;
  const bHeard = {
    ...fleet(healthySince),
    hosts: fleet(healthySince).hosts.map((host) => (host.name === "b" ? { ...host, lastContactAt: later } : host)),
  };
  expect([decideFor(bHeard, "b", later - 1).state, decideFor(bHeard, "b", later).state]).toEqual(["waiting", "deploy"]);
});

test("a host that never told of itself comes after all that have", () => {
  const settings = { hold: true, wavePercent: 50, soakSeconds: 0 };
  const fleet = (hosts: readonly KnownHost[]): Fleet => ({
    ...fleetOf(hosts, { settings }),
    wanted: fleetOf([...hosts, known("new")]).wanted,
  });
  expect(stateOf(fleet([]), "new")).toBe("deploy");
  expect(stateOf(fleet([arrived("a"), known("b")]), "new")).toBe("waiting");
  expect(stateOf(fleet([arrived("a"), arrived("b")]), "new")).toBe("deploy");
});

const quarters = { hold: true, wavePercent: 25, soakSeconds: 0 };
const older = (name: string) => ({ storePath: `old-${name}`, available: true, order: 6, commit: "c6", builtAt: 0 });

test("a host whose system is still being built keeps its place, and one whose build failed for good has none", () => {
  const hosts = [..."abcd"].map((name) => known(name));
  const fleet = fleetOf(hosts, { settings: quarters });
  const building = (state: "open" | "failed"): Fleet => ({
    ...fleet,
    wanted: new Map([...fleet.wanted, ["a", older("a")]]),
    evaluations: new Map([[ORDER, asked([...[..."bcd"].map((name) => [name, "built"] as const), ["a", state]])]]),
  });
  const open = building("open");
  expect(["b", "c", "d"].map((name) => stateOf(open, name))).toEqual(["waiting", "waiting", "waiting"]);
  expect(decideFor(open, "b", NOW).why).toEqual({ kind: "wave", host: "a", problem: "not_there" });
  expect(["b", "c"].map((name) => stateOf(building("failed"), name))).toEqual(["deploy", "waiting"]);
  // Others may come to be named.
  const early = { ...asked([["b", "built"]]), isWhole: false };
  expect(decideFor({ ...fleet, evaluations: new Map([[ORDER, early]]) }, "b", NOW).why).toEqual({ kind: "evaluating" });
});

test("a host that went on to something newer is waited for there", () => {
  const newer = { ...older("a"), storePath: "newer-a", order: ORDER + 1 };
  const with_a = (a: KnownHost) => {
    const fleet = fleetOf([a, known("b")], { settings: { ...quarters, wavePercent: 50 } });
    return { ...fleet, wanted: new Map([...fleet.wanted, ["a", newer]]) };
  };
  expect(stateOf(with_a(known("a")), "b")).toBe("waiting");
  expect(stateOf(with_a(known("a", { runningPath: "newer-a" })), "b")).toBe("deploy");
  expect(stateOf(with_a(known("a", { runningPath: "newer-a", healthySince: null })), "b")).toBe("waiting");
});

test("released is released also in waves: a host on which it failed holds up nobody, until it may try again", () => {
  const own = { host: "a", storePath: pathOf("a"), commit: "c7", failedHost: "a" };
  const everybody = { host: null, storePath: null, commit: "c7", failedHost: "a" };
  const hosts = [..."abcd"].map((name) => known(name));
  const states = (holds: Fleet["holds"]) => {
    const fleet = fleetOf(hosts, { settings: quarters, holds });
    return [..."abcd"].map((name) => stateOf(fleet, name));
  };
  expect(states([own, everybody])).toEqual(["held", "held", "held", "held"]);
  expect(states([own])).toEqual(["held", "deploy", "waiting", "waiting"]);
  expect(states([])).toEqual(["deploy", "waiting", "waiting", "waiting"]);
});

test("a host that does not take what it may take holds up the others for two days of its own wave alone", () => {
  const hosts = [known("a"), known("b"), known("c")];
  const at = (ms: number) => {
    const seen = hosts.map((host) => ({ ...host, lastContactAt: NOW - 20_000 + ms }));
    const fleet = fleetOf(seen, { settings: quarters });
    return ["a", "b", "c"].map((name) => decideFor(fleet, name, NOW - 20_000 + ms).state);
  };
  expect(at(NOT_TAKEN_MS - 1)).toEqual(["deploy", "waiting", "waiting"]);
  expect(at(NOT_TAKEN_MS)).toEqual(["deploy", "deploy", "waiting"]);
  expect(at(2 * NOT_TAKEN_MS - 1)).toEqual(["deploy", "deploy", "waiting"]);
  expect(at(2 * NOT_TAKEN_MS)).toEqual(["deploy", "deploy", "deploy"]);
  // One that took it and is not well is another thing.
  const ill = fleetOf([arrived("a", null), known("b")], { settings: quarters });
  const later = { ...ill, hosts: ill.hosts.map((host) => ({ ...host, lastContactAt: NOW + 9 * NOT_TAKEN_MS })) };
  expect(decideFor(later, "b", NOW + 9 * NOT_TAKEN_MS).state).toBe("waiting");
});

const hostNames = fc.uniqueArray(fc.constantFrom(..."abcdefghijklmnop"), { minLength: 1, maxLength: 16 });
const percent = fc.integer({ min: 1, max: 100 });

test("waves cut the hosts into parts that leave none out, none empty, and none larger than its share", () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 300 }), percent, (count, share) => {
      const ends = waveEnds(count, share);
      const sizes = ends.map((end, wave) => end - (ends[wave - 1] ?? 0));
      expect([ends.at(-1), Math.min(...sizes) > 0]).toEqual([count, true]);
      expect(Math.max(...sizes)).toBeLessThanOrEqual(Math.ceil((count * share) / 100));
    }),
    { numRuns: 200 },
  );
});

test("in whatever order builds end, or fail, no more hosts than a wave's share try what nobody has proved", () => {
  const event = fc.record({ pick: fc.nat(1_000), build: fc.boolean(), fails: fc.integer({ min: 0, max: 4 }) });
  fc.assert(
    fc.property(hostNames, percent, fc.array(event, { maxLength: 60 }), (names, share, events) => {
      const settings = { hold: true, wavePercent: share, soakSeconds: 0 };
      const builds = new Map(names.map((name) => [name, "open" as "open" | "built" | "failed"]));
      const tries = new Set<string>();
      const done = new Set<string>();
      const fleet = (): Fleet => {
        const whole = fleetOf(
          names.map((name) => (done.has(name) ? arrived(name) : known(name))),
          { settings },
        );
        const before = names.filter((name) => builds.get(name) !== "built");
        return {
          ...whole,
          wanted: new Map([...whole.wanted, ...before.map((name) => [name, older(name)] as const)]),
          evaluations: new Map([
            [ORDER, asked(builds)],
            [6, asked(names.map((name) => [name, "built"]))],
          ]),
        };
      };
      // Each takes at once what it gets, and whoever tries is well some time later.
      const offer = () => {
        const now = fleet();
        for (const name of names) {
          if (builds.get(name) === "built" && !done.has(name) && stateOf(now, name) === "deploy") tries.add(name);
        }
        expect(tries.size).toBeLessThanOrEqual(Math.ceil((names.length * share) / 100));
      };
      const act = (pick: number, build: boolean, outcome: "built" | "failed") => {
        const from = build ? names.filter((name) => builds.get(name) === "open") : [...tries];
        const name = from[pick % Math.max(from.length, 1)];
        if (name === undefined) return;
        if (build) builds.set(name, outcome);
        else done.add(name) && tries.delete(name);
        offer();
      };
      for (const { pick, build, fails } of events) act(pick, build, fails === 0 ? "failed" : "built");
      for (const _ of names) act(0, true, "built");
      for (const _ of names) act(0, false, "built");
      expect([...done].sort()).toEqual(names.filter((name) => builds.get(name) === "built").sort());
    }),
    { numRuns: 300 },
  );
});

test("no more hosts than a wave's share try what nobody has proved, and in the end all have it", () => {
  fc.assert(
    fc.property(
      hostNames,
      percent,
      fc.array(fc.integer({ min: 0, max: 1_000 }), { maxLength: 40 }),
      (names, share, picks) => {
        const settings = { hold: true, wavePercent: share, soakSeconds: 0 };
        const done = new Set<string>();
        const fleet = () =>
          fleetOf(
            names.map((name) => (done.has(name) ? arrived(name) : known(name))),
            { settings },
          );
        const offered = () => names.filter((name) => !done.has(name) && stateOf(fleet(), name) === "deploy");
        for (const pick of picks) {
          const open = offered();
          expect(open.length).toBeLessThanOrEqual(Math.ceil((names.length * share) / 100));
          const next = open[pick % Math.max(open.length, 1)];
          if (next !== undefined) done.add(next);
        }
        for (let open = offered(); open.length > 0; open = offered()) for (const name of open) done.add(name);
        expect([...done].sort()).toEqual([...names].sort());
      },
    ),
    { numRuns: 200 },
  );
});

test("the order in which rows come decides nothing", () => {
  const hosts = fc.uniqueArray(
    fc.record({ name: fc.constantFrom(..."abcdefgh"), there: fc.boolean(), well: fc.boolean() }),
    {
      selector: ({ name }) => name,
      minLength: 1,
    },
  );
  fc.assert(
    fc.property(hosts, percent, (drawn, wavePercent) => {
      const rows = drawn.map(({ name, there, well }) => (there ? arrived(name, well ? 0 : null) : known(name)));
      const settings = { hold: true, wavePercent, soakSeconds: 1 };
      const states = (order: readonly KnownHost[]) =>
        drawn.map(({ name }) => stateOf(fleetOf(order, { settings }), name));
      expect(states(rows.toReversed())).toEqual(states(rows));
    }),
    { numRuns: 200 },
  );
});
