import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import { decide, type Wanted } from "./decide.ts";
import { newlyFailed } from "./health.ts";
import { parseInhibitors } from "./inhibitors.ts";
import { netrcFor } from "./netrc.ts";
import { classifyFailure, parseFetchPlan } from "./nix-output.ts";
import { readState, StateFormError } from "./read-state.ts";
import { REPORTS_MAX, type ReportFacts, withReport } from "./reports.ts";
import { MODES } from "./settings.ts";
import { BAD_BUILDS_MAX, emptyState, type QueuedReport, rememberBad } from "./state.ts";
import { parseWanted, WantedError } from "./wanted.ts";

const PATH = "/nix/store/11111111111111111111111111111111-nixos-system-h-2";
const ID = "0199d1f5-0000-7000-8000-000000000002";
const OTHER = "/nix/store/00000000000000000000000000000000-nixos-system-h-1";

const wish = fc.record({ force: fc.boolean(), allowOlder: fc.boolean() });
const path = fc.constantFrom(PATH, OTHER, null);
const view = fc.record({
  profilePath: path,
  runningPath: path,
  bootedPath: path,
  generation: fc.constant(7),
});
const situation = fc.record({
  wanted: fc.constantFrom("deploy", "none", "held", "waiting"),
  order: fc.integer({ min: 0, max: 3 }),
  known: fc.option(fc.integer({ min: 0, max: 3 })),
  bad: fc.constantFrom(null, "told", "untold"),
  mode: fc.constantFrom(...MODES),
  view,
  wish,
});

describe("whether a build is deployed", () => {
  test("never by itself: what is older, held, waiting, or failed here and was not released", () => {
    void fc.assert(
      fc.property(situation, ({ wanted: state, order, known, bad, mode, view: links, wish: wishes }) => {
        const build = { storePath: PATH, buildId: "b", evaluationId: "e", order, commit: "c" };
        const wanted: Wanted = { state, reason: null, build, caches: [], canReport: true };
        const empty = { ...emptyState("here"), order: known };
        const entry = { storePath: PATH, buildId: "b", reason: "r", at: "then", isConfirmed: bad === "told" };
        const remembered = bad === null ? empty : rememberBad(empty, entry);
        const decision = decide(wanted, { state: remembered, view: links, mode, nextBoot: null }, wishes);

        if (decision.kind === "end") return;
        expect(state).not.toBe("none");
        if (wishes.force) return;
        expect(state).toBe("deploy");
        expect(bad).not.toBe("untold");
        if (!wishes.allowOlder) expect(order).toBeGreaterThanOrEqual(known ?? 0);
      }),
      { numRuns: 2_000 },
    );
  });

  test("what runs and is well is never done again, even by force", () => {
    const build = { storePath: PATH, buildId: "b", evaluationId: "e", order: 1, commit: "c" };
    const wanted: Wanted = { state: "held", reason: null, build, caches: [], canReport: true };
    const links = { profilePath: PATH, runningPath: PATH, bootedPath: OTHER, generation: 2 };
    const known = { state: emptyState("here"), view: links, mode: "switch", nextBoot: null } as const;
    expect(decide(wanted, known, { force: true, allowOlder: true })).toMatchObject({ end: "up-to-date" });
  });
});

const UNSIGNED = "not signed by any of the keys in 'trusted-public-keys'\n";

describe("what Nix says", () => {
  const copying = `copying path '${OTHER}' from 'http://cache.example.com'...\n`;

  test("before a download: how much there is to fetch, and what is nowhere", () => {
    const text =
      "these 2 paths will be fetched (2.86 MiB download, 1024.50 MiB unpacked):\n" +
      `  ${OTHER}\ndon't know how to build these paths:\n  ${PATH}\nwarning: something else\n  /nix/store/x\n`;
    expect(parseFetchPlan(text)).toEqual({ unpackedBytes: 1_074_266_112, missing: [PATH] });
    expect(parseFetchPlan("")).toEqual({ unpackedBytes: 0, missing: [] });
  });

  test.each([
    [`warning: the substitute for '${PATH}' from 'file:///x' is ${UNSIGNED}`],
    [`warning: ignoring substitute for '${PATH}' from 'http://x', as it's ${UNSIGNED}`],
    [`error: cannot add path '${PATH}' because it lacks a signature by a trusted key\n`],
  ])("of a signature that is not trusted: %s", (text) => {
    expect(classifyFailure(copying + text)).toEqual({ end: "bad-signature", paths: [PATH] });
  });

  test.each([
    [`don't know how to build these paths:\n  ${PATH}\nerror: build of '${PATH}' failed\n`, [PATH]],
    [`${copying}error: file 'nar/1abc.nar.xz' does not exist in binary cache\n`, [OTHER]],
    [`error: path '${PATH}' does not exist and cannot be created\n`, [PATH]],
  ])("of a path that is nowhere: %s", (text, paths) => {
    expect(classifyFailure(text)).toEqual({ end: "missing-path", paths });
  });

  test.each([
    ["error: writing to file: No space left on device", "disk-full"],
    ["error (ignored): database or disk is full", "disk-full"],
    ["error: unable to download 'http://x/y.narinfo': HTTP error 500", "download-failed"],
  ])("%s", (text, end) => {
    expect(classifyFailure(text).end).toBe(end);
  });
});

describe("what is read from others", () => {
  const good = {
    state: "deploy",
    reason: null,
    can_report: false,
    caches: [],
    build: { store_path: PATH, build_id: ID, evaluation_id: ID, order: 1, commit: "c", nar_size: null, more: true },
  };

  test("the server's answer by exact rules, with room for later fields", () => {
    expect(parseWanted({ ...good, more: 1 }).build).toMatchObject({ storePath: PATH, order: 1 });
    const cache = { name: "c", url: "http://x y", public_keys: [], private: true, priority: 1 };
    for (const wrong of [
      null,
      { ...good, state: "maybe" },
      { ...good, build: null },
      { ...good, build: { ...good.build, store_path: `${PATH}/bin` } },
      { ...good, build: { ...good.build, order: 1.5 } },
      { ...good, caches: [cache] },
      { ...good, caches: [{ ...cache, url: "http://x", public_keys: ["k:short"] }] },
    ]) {
      expect(() => parseWanted(wrong)).toThrow(WantedError);
    }
  });

  test("any JSON is an answer or a WantedError, and a state or a StateFormError", () => {
    void fc.assert(
      fc.property(fc.jsonValue(), (value) => {
        expect(() => parseWanted(value)).toThrow(WantedError);
        expect(() => readState(JSON.stringify(value))).toThrow(StateFormError);
      }),
    );
  });

  test("who blocks a shutdown, and not who only delays it or blocks something else", () => {
    const text = [
      "ModemManager   0 root 801 ModemManager sleep ModemManager needs to reset devices delay",
      "UPower         0 root 900 upowerd      shutdown:sleep Pause device polling delay",
      "anna           1000 anna 1200 gnome-session handle-lid-switch External monitor attached block",
      "Backup Tool    0 root 77 backup       shutdown:sleep:idle half way through block",
    ].join("\n");
    expect(parseInhibitors(text)).toEqual(["Backup Tool (half way through)"]);
  });
});

test("units count when they failed newly and are not ignored", () => {
  const after = ["a.service", "b.service", "user@1000.service", "db+x.service"];
  expect(newlyFailed(["a.service"], after, ["user@*.service", "db+x.service"])).toEqual(["b.service"]);
  expect(newlyFailed(null, after, [])).toEqual([]);
  expect(newlyFailed([], null, [])).toEqual([]);
});

test("the key is sent to the server's machine alone", () => {
  const cache = { name: "c", publicKeys: [], isPrivate: true, priority: 1 };
  const told = { apiKey: "GRADkey", server: "https://ci.example.com", own: "machine x login y password z\n" };
  const ours = { ...cache, url: "https://ci.example.com/cache/c" };
  const elsewhere = { ...cache, url: "https://elsewhere.example.com/cache/c" };
  const text = `machine ci.example.com login gradient-deploy password GRADkey\n${told.own}`;
  expect(netrcFor([ours, elsewhere], told)).toEqual({ ok: true, text });
  for (const others of [{ ...ours, isPrivate: false }, elsewhere]) {
    expect(netrcFor([others], told)).toEqual({ ok: true, text: told.own });
  }
});

test("the key is not sent in clear, or to another port, to the machine of the server", () => {
  const told = { apiKey: "GRADkey", server: "https://ci.example.com", own: "" };
  const at = (url: string, isPrivate = true) => ({ name: "c", url, publicKeys: [], isPrivate, priority: 1 });
  for (const url of ["http://ci.example.com/cache/c", "https://ci.example.com:8443/cache/c"]) {
    for (const caches of [[at(url)], [at("https://ci.example.com/cache/d"), at(url, false)]]) {
      const netrc = netrcFor(caches, told);
      expect(netrc).toMatchObject({ ok: false, reason: expect.stringContaining("GRADIENT_SERVE_URL") });
      expect(netrc).toMatchObject({ reason: expect.stringContaining(url) });
    }
    // Nothing of it needs the key.
    expect(netrcFor([at(url, false)], told)).toEqual({ ok: true, text: "" });
  }
});

test("what is kept has bounds, and last words are kept longest", () => {
  const links = { profilePath: null, generation: null, runningPath: null, bootedPath: null };
  const facts = (step: ReportFacts["step"], sequence: number): ReportFacts => ({
    ...{ runId: "r", sequence, step, mode: "switch", buildId: null, storePath: null, view: links },
    ...{ health: "unknown", happenedAt: "now" },
  });
  let reports: readonly QueuedReport[] = withReport([], facts("failed", 0));
  for (let i = 1; i <= 2 * REPORTS_MAX; i++) reports = withReport(reports, facts("checking", i));
  expect(reports).toHaveLength(REPORTS_MAX);
  expect(reports[0]?.body).toMatchObject({ step: "failed" });
  expect(reports.at(-1)?.body).toMatchObject({ sequence: 2 * REPORTS_MAX });

  let state = emptyState("here");
  for (let i = 0; i < BAD_BUILDS_MAX + 5; i++) {
    state = rememberBad(state, { storePath: `${i}`, buildId: "", reason: "", at: "", isConfirmed: false });
  }
  expect(state.bad.map(({ storePath }) => storePath).slice(0, 1)).toEqual(["5"]);
});
