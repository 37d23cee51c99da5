import { existsSync, rmSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeEach, describe, expect, test, vi } from "vitest";
import { MINUTE } from "#core/lib/clock.ts";
import { type AgentRun, both, endOf, NEW, NEWER, OLD, withDeployRoot } from "#test/support/deploy-root.ts";
import type { Context } from "./context.ts";
import type { Wanted } from "./decide.ts";
import { LastWord } from "./decide-again.ts";
import { ServerError } from "./ports.ts";

const root = await withDeployRoot();
beforeEach(() => root.reset());
afterAll(() => root[Symbol.asyncDispose]());

/** A run in whose download the server changes its mind. */
async function runWhile(change: () => void, ...words: readonly string[]): Promise<AgentRun> {
  root.write(
    "download.sh",
    '[ "$dry" ] || { touch "$root/fetching"; while [ ! -e "$root/go" ]; do sleep 0.05; done; }\n',
  );
  const ended = root.run(...words);
  await vi.waitFor(() => expect(existsSync(join(root.path, "fetching"))).toBe(true), 20_000);
  change();
  root.write("go", "");
  return ended;
}

describe("the server is asked again right before the host is changed", () => {
  test.each(["switch", "boot", "test", "dry-activate"])(
    "a build that it holds back by then is fetched and not taken (%s)",
    async (mode) => {
      root.set("MODE", mode);
      const run = await runWhile(() => root.offer(NEW, 2, { state: "held", reason: "it failed on another host" }));
      expect(run.json).toMatchObject({ end: "held", exit_code: 10, reason: "it failed on another host" });
      expect(root.links).toEqual(both(OLD));
      expect(root.read("switches")).toBe("");
      expect(existsSync(`${root.path}${NEW}`)).toBe(true);
      expect(root.steps()).toEqual(["started", "downloading", "failed"]);
      expect(root.state()).toMatchObject({ bad: [], journal: null });
      root.offer(NEW, 2);
      expect((await root.run()).code).toBe(0);
    },
  );

  test("so does a wave that is not the host's any more, but for who forces it", async () => {
    const change = () => root.offer(NEW, 2, { state: "waiting", reason: "not yet" });
    expect((await runWhile(change)).json.end).toBe("waiting");
    for (const name of ["go", "fetching"]) rmSync(join(root.path, name));
    root.offer(NEW, 2);
    expect((await runWhile(change, "--force")).json.end).toBe("deployed");
  });

  test("a newer build that it wants by then is deployed by the same run", async () => {
    root.publish(NEWER);
    const run = await runWhile(() => root.offer(NEWER, 3));
    expect(run.json).toMatchObject({ end: "deployed", wanted: { store_path: NEWER } });
    expect(root.read("switches").trim()).toBe(`switch ${NEWER}`);
  });

  test("a key that it refuses by then ends the run", async () => {
    const run = await runWhile(() => {
      root.status = 401;
    });
    expect(run.json.end).toBe("unauthorized");
    expect(root.links).toEqual(both(OLD));
  });
});

describe("a server that is away at that moment", () => {
  async function confirmed(ageMs: number, force = false) {
    let timeMs = 0;
    const build = { storePath: NEW, buildId: "b", evaluationId: "e", order: 1, commit: "c" };
    const wanted: Wanted = { state: "deploy", reason: null, build, caches: [], canReport: true };
    const word = new LastWord(wanted, { heardAtMs: timeMs, wishes: { force, allowOlder: false } });
    const context = {
      server: { wanted: () => Promise.reject(new ServerError("unreachable", "it is away", null)) },
      clock: { monotonic: () => timeMs },
      signal: new AbortController().signal,
      narrator: { warn: () => {} },
    } as unknown as Context;
    timeMs += ageMs;
    return word.confirm(context, build);
  }

  test("leaves its word standing for ten minutes, or for who forces the build", async () => {
    expect(await confirmed(10 * MINUTE)).toBe(null);
    expect(await confirmed(10 * MINUTE + 1)).toMatchObject({ ok: false, end: "unreachable" });
    expect(await confirmed(10 * MINUTE + 1, true)).toBe(null);
  });
});

describe("a system that waits for its boot", () => {
  beforeEach(async () => {
    root.set("MODE", "boot");
    expect((await root.run()).json.end).toBe("will-boot");
    root.set("REBOOT", "when-needed");
  });
  const rebooted = () => existsSync(join(root.path, "rebooted"));

  test("is not booted into by the agent while the server holds it back, also when it is away later", async () => {
    root.offer(NEW, 2, { state: "held", reason: "it failed on another host" });
    const run = await root.run();
    expect(run.json.end).toBe("held");
    expect(run.json.reason).toContain("set up for the next boot");
    root.status = 503;
    expect((await root.run()).json.end).toBe("unreachable");
    expect((await root.run("resume")).json.end).toBe("resumed");
    expect(rebooted()).toBe(false);
    root.status = null;
    root.offer(NEW, 2);
    expect((await root.run()).json.end).toBe("rebooting");
    expect(rebooted()).toBe(true);
  });

  test("is booted into by who forces it", async () => {
    root.offer(NEW, 2, { state: "held", reason: "it failed on another host" });
    expect((await root.run("--force")).json.end).toBe("rebooting");
  });

  test("does not end a watch, whose unit would start it again and again", async () => {
    root.set("REBOOT", "never");
    root.reports.length = 0;
    const child = root.start("watch");
    const ended = endOf(child);
    await vi.waitFor(() => expect(root.steps()).toEqual(["unchanged"]), 20_000);
    root.publish(NEWER);
    root.offer(NEWER, 3);
    // News ends it: it was still there to hear of them.
    expect((await ended).json.end).toBe("will-boot");
    expect(root.links).toEqual({ profile: NEWER, running: OLD });
  });

  test("is neither taken for booted nor for bad where boots have no name", async () => {
    root.set("REBOOT", "never");
    rmSync(join(root.path, "boot-id"));
    for (let runs = 0; runs < 2; runs++) expect((await root.run()).json.end).toBe("will-boot");
    expect(root.state().bad).toEqual([]);
    root.boot();
    rmSync(join(root.path, "boot-id"));
    expect((await root.run("resume")).json.end).toBe("deployed");
    expect((await root.run()).json.end).toBe("up-to-date");
  });

  test("and was passed over by the boot is neither the next default nor what a failure goes back to", async () => {
    root.set("REBOOT", "never");
    root.write("boot-id", "second");
    expect((await root.run("resume")).json).toMatchObject({ end: "booted-other", exit_code: 48 });
    expect(root.links).toEqual(both(OLD));
    expect(root.link("boot-entry")).toBe(OLD);
    expect(root.steps().slice(-3)).toEqual(["checking", "failed", "rolled_back"]);
    root.offer(NEW, 2, { state: "held", reason: "it failed here" });
    expect((await root.run()).json.end).toBe("bad-build");
    // Released.
    root.offer(NEW, 2);
    expect((await root.run()).json.end).toBe("will-boot");
    root.boot();
    expect((await root.run()).json.end).toBe("deployed");
  });
});
