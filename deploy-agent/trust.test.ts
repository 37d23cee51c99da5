import { chmodSync, symlinkSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeEach, describe, expect, test } from "vitest";
import { both, NEW, OLD, withDeployRoot } from "#test/support/deploy-root.ts";
import { compileCacheFolder } from "./config.ts";

const root = await withDeployRoot();
beforeEach(() => root.reset());
afterAll(() => root[Symbol.asyncDispose]());

const KEY = `ours-1:${Buffer.alloc(32, 7).toString("base64")}`;

describe("a server that is asked by http on another machine", () => {
  const elsewhere = ["--server", "http://gradient.example.invalid"] as const;
  test("is not asked, with the reason and the ways out, unless that is allowed", async () => {
    // It is on this machine: nothing leaves it.
    root.environment.HTTP_PROXY = root.origin;
    const run = await root.run(...elsewhere);
    expect(run).toMatchObject({ code: 2, json: { end: "settings" } });
    expect(run.json.reason).toMatch(/root on this host.*https.*GRADIENT_DEPLOY_ALLOW_HTTP=true/);
    expect(await root.run("read-settings", ...elsewhere)).toMatchObject({ code: 2, json: { end: "settings" } });

    const allowed = await root.run(...elsewhere, "--allow-http", "true");
    expect(allowed.json.end, allowed.stderr).toBe("not-found");
    expect(allowed.stderr).toContain("the API key crosses the network unprotected");
  });

  test("does not keep a watch alive that could never ask", async () => {
    expect(await root.run("watch", ...elsewhere)).toMatchObject({ code: 2, json: { end: "settings" } });
  });

  test("does not keep the host from being put right", async () => {
    root.publish(NEW, 'ln -sfn "$path" "$root/run/current-system"; exit 1\n');
    root.write(`${OLD.slice(1)}/behaviour`, "exit 1");
    expect((await root.run()).json.end).toBe("rollback-failed");
    root.write(`${OLD.slice(1)}/behaviour`, "");
    expect((await root.run("resume", ...elsewhere)).json.end).toBe("rolled-back");
    expect(root.links).toEqual(both(OLD));
  });
});

test("keys that the host names itself take the place of those that the server names", async () => {
  root.set("TRUSTED_PUBLIC_KEYS", KEY);
  expect((await root.run()).json.end).toBe("deployed");
  const fetched = root.read("calls").match(/extra-trusted-public-keys \S+/g) ?? [];
  expect(fetched.length).toBeGreaterThan(0);
  expect(new Set(fetched)).toEqual(new Set([`extra-trusted-public-keys ${KEY}`]));
});

test.each(["?trusted=true", "#x", "?", "%3F?priority=1"])(
  "the address of a cache cannot carry settings of Nix, which could take signatures off: %s",
  async (tail) => {
    const [cache] = root.wanted.caches as readonly Readonly<Record<string, unknown>>[];
    root.offer(NEW, 2, { caches: [{ ...cache, url: `${root.origin}/cache/main${tail}` }] });
    const run = await root.run();
    expect(run).toMatchObject({ code: 23, json: { end: "bad-answer" } });
    expect(run.json.reason).toContain("no user, query and fragment");
    expect(root.read("calls")).not.toContain("--realise");
  },
);

describe("the state directory", () => {
  test("holds no code that another could have put there", () => {
    const folder = join(root.path, "state");
    const environment = { GRADIENT_DEPLOY_STATE_DIR: folder };
    expect(compileCacheFolder(environment)).toBe(join(folder, "compile-cache"));
    chmodSync(folder, 0o777);
    expect(compileCacheFolder(environment)).toBeNull();
  });

  test("is used when nobody else may write there, and else refused with what to do", async () => {
    const folder = join(root.path, "state");
    for (const mode of [0o770, 0o707]) {
      chmodSync(folder, mode);
      const run = await root.run();
      expect(run).toMatchObject({ code: 4, json: { end: "state" } });
      expect(run.json.reason).toMatch(/the state directory .* others may write to it \(mode 7.*chmod 700 it/);
    }
    expect(root.links).toEqual(both(OLD));
    chmodSync(folder, 0o755);
    expect((await root.run()).json.end).toBe("deployed");
  });

  test("is written without following a link that lies in the way", async () => {
    root.write("victim", "precious");
    for (const name of ["state.json.new", "refusals.json.new"]) {
      symlinkSync(join(root.path, "victim"), join(root.path, "state", name));
    }
    expect((await root.run()).json.end).toBe("deployed");
    expect(root.read("victim")).toBe("precious");
  });
});
