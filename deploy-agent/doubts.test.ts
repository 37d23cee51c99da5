import { existsSync, linkSync, readdirSync, rmSync, statSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeEach, describe, expect, test } from "vitest";
import { both, NEW, NEWER, OLD, withDeployRoot } from "#test/support/deploy-root.ts";
import { TOOLS } from "#test/support/deploy-tools.ts";
import { parseFetchPlan } from "./nix-output.ts";

const root = await withDeployRoot();
beforeEach(() => root.reset());
afterAll(() => root[Symbol.asyncDispose]());

describe("what cannot be known is no good news", () => {
  test("systemd that told of failed units before the switch, and tells no more, makes a build unhealthy", async () => {
    root.tool("systemctl", `[ "$1" = list-units ] && [ -e "$root/mute" ] && exit 1\n${TOOLS.systemctl}`);
    root.set("SYSTEMD", "true");
    root.publish(NEW, 'touch "$root/mute"\n');
    const run = await root.run();
    expect(run.json.end, run.stderr).toBe("unhealthy");
    expect(run.json.reason).toContain("systemd does not say which units have failed");
    expect(root.links).toEqual(both(OLD));
  });

  test("a busy command that dies says that the host is busy", async () => {
    root.set("BUSY_COMMAND", "kill -9 $$");
    root.set("WAIT_SECS", "0");
    const run = await root.run();
    expect(run).toMatchObject({ code: 16, json: { end: "busy" } });
    expect(run.json.reason).toContain("nobody knows whether the host is busy");
  });

  test("inhibitors that cannot be listed may be there", async () => {
    root.tool("systemd-inhibit", "echo 'Failed to connect to bus' >&2; exit 1\n");
    root.set("WAIT_FOR_INHIBITORS", "true");
    root.set("WAIT_SECS", "0");
    const run = await root.run();
    expect(run).toMatchObject({ code: 16, json: { end: "busy" } });
    expect(run.json.reason).toContain("Failed to connect to bus");
  });

  test.each([
    ["1.2 MiB download, 3.4 MiB", 3_565_159],
    ["1.2 GiB download, 3.4 GiB", 3_650_722_202],
    ["980.0 KiB download, 1.5 TiB", 1_649_267_441_664],
    ["0.0 KiB download, 0.1 KiB", 103],
    ["5 B download, 12 B", 12],
  ])("the room that a download needs is read in each unit that Nix writes: %s", (text, bytes) => {
    expect(parseFetchPlan(`these 3 paths will be fetched (${text} unpacked):\n`).unpackedBytes).toBe(bytes);
  });
});

test("a server that answers, be it that it is ill, is no fault of the new system", async () => {
  root.publish(NEW, 'touch "$root/mute"\n');
  const timer = setInterval(() => {
    if (existsSync(join(root.path, "mute"))) root.status = 503;
  }, 1);
  root.set("HEALTH_COMMANDS", '["sleep 0.5"]');
  const run = await root.run();
  clearInterval(timer);
  expect(root.status).toBe(503);
  expect(run.json.end, String(run.json.reason)).toBe("deployed");
});

describe("the server's word of a failure comes", () => {
  test("also where a command prints what no text may hold", async () => {
    root.set("HEALTH_COMMANDS", JSON.stringify([String.raw`printf 'a\000b\033[2Jc\nd' >&2; exit 1`]));
    expect((await root.run()).json.end).toBe("unhealthy");
    const last = root.reports.at(-1);
    expect(last).toMatchObject({ step: "rolled_back", store_path: NEW });
    expect(last?.reason).toContain("a bc");
    expect(last?.reason).not.toMatch(/\p{Cc}/u);
  });

  test.each([400, 422])("without its text, where the server answers %i to it", async (status) => {
    root.publish(NEW, "echo why >&2; exit 1");
    root.textStatus = status;
    expect((await root.run()).json.end).toBe("rolled-back");
    expect(root.reports.at(-1)).toMatchObject({ step: "rolled_back", store_path: NEW, reason: null, failed_units: [] });
    expect(root.state()).toMatchObject({ reports: [], bad: [{ storePath: NEW, isConfirmed: true }] });
  });

  test("and is dropped where it is refused without text as well, so that others are not kept back", async () => {
    root.publish(NEW, "exit 1");
    root.reportStatus = 422;
    expect((await root.run()).json.end).toBe("rolled-back");
    expect(root.state()).toMatchObject({ reports: [], bad: [{ isConfirmed: false }] });
  });

  test.each([404, 409])("later, where the answer is %i at first", async (status) => {
    root.publish(NEW, "exit 1");
    root.reportStatus = status;
    expect((await root.run()).json).toMatchObject({ end: "rolled-back", unsent_reports: 5 });
    root.reportStatus = 200;
    await root.run();
    expect(root.steps()).toContain("rolled_back");
  });
});

describe("what was left is undone, and the status shown,", () => {
  beforeEach(async () => {
    root.publish(NEW, 'ln -sfn "$path" "$root/run/current-system"; exit 1\n');
    root.write(`${OLD.slice(1)}/behaviour`, "exit 1");
    expect((await root.run()).json.end).toBe("rollback-failed");
    root.write(`${OLD.slice(1)}/behaviour`, "");
  });

  test.each([
    ["without the API key", ["--api-key-file", "/nonexistent/key"]],
    ["without the certificates", ["--server", "https://127.0.0.1:1", "--ca-file", "/nonexistent/ca.pem"]],
  ])("%s", async (_, words) => {
    expect((await root.run("status", ...words)).code).toBe(0);
    const run = await root.run("resume", ...words);
    expect(run.json.end, run.stderr).toBe("rolled-back");
    expect(run.stderr).toContain("/nonexistent/");
    expect(root.links).toEqual(both(OLD));
  });

  test("also by a run that cannot ask for more, which says so", async () => {
    const run = await root.run("--api-key-file", "/nonexistent/key");
    expect(run).toMatchObject({ code: 3, json: { end: "key-file" } });
    expect(root.links).toEqual(both(OLD));
  });
});

describe("what is refused stays refused", () => {
  beforeEach(async () => {
    root.publish(NEW, "exit 1");
    root.offer(NEW, 7);
    root.set("REPORT", "false");
    expect((await root.run()).json.end).toBe("rolled-back");
  });

  test("when a later agent ended in a way that this one does not know", async () => {
    root.write("state/state.json", JSON.stringify({ ...root.state(), lastRun: { end: "of-a-later-agent" } }));
    expect((await root.run()).json.end).toBe("bad-build");
    expect(readdirSync(join(root.path, "state"))).not.toContain("state.json.damaged");
  });

  test("when the state is that of a later agent: that is said, and nothing is changed", async () => {
    const later = JSON.stringify({ ...root.state(), version: 2 });
    root.write("state/state.json", later);
    for (const command of ["run", "resume", "status"]) {
      const run = await root.run(command);
      expect(run).toMatchObject({ code: 4, json: { end: "state" } });
      expect(run.json.reason).toContain("of a later agent");
    }
    expect(root.read("state/state.json")).toBe(later);
  });

  test.each(["garbage", null])(
    "when the state is damaged or lost (%s); to look at it changes nothing",
    async (text) => {
      if (text === null) rmSync(join(root.path, "state/state.json"));
      else root.write("state/state.json", text);
      expect((await root.run("status")).json).toMatchObject({ bad_builds: [{ store_path: NEW }] });
      expect(root.read("state/state.json")).toBe(text ?? "");
      expect((await root.run()).json.end).toBe("bad-build");
      expect(root.read("state/state.json.damaged")).toBe(text ?? "");
    },
  );

  test("also what is older, when the state is damaged", async () => {
    root.publish(NEWER);
    root.offer(NEWER, 8);
    expect((await root.run()).json.end).toBe("deployed");
    root.write("state/state.json", "{");
    const other = NEW.replaceAll("1", "3");
    root.publish(other);
    root.offer(other, 6);
    expect((await root.run()).json.end).toBe("older");
  });

  test("when the server's address is spelled otherwise, or was written down with it", async () => {
    root.write("state/state.json", JSON.stringify({ ...root.state(), source: `${root.origin} myorg/myproject h` }));
    root.set("SERVER", root.origin.replace("127.0.0.1", "localhost"));
    root.offer(NEW, 7, { caches: [] });
    expect((await root.run()).json.end).toBe("bad-build");
  });
});

test("garbage in the lock file is no lock, and two agents never hold it both", async () => {
  root.write("state/lock", "x".repeat(5_000));
  const [lock, sameFile] = ["lock", "same-file"].map((name) => join(root.path, "state", name)) as [string, string];
  linkSync(lock, sameFile);
  root.publish(NEW, "sleep 1\n");
  const runs = await Promise.all([root.run(), root.run()]);
  expect(runs.map(({ json }) => json.end).sort()).toEqual(["deployed", "locked"]);
  // Another file at its place could be locked a second time.
  expect(statSync(lock).ino).toBe(statSync(sameFile).ino);
  expect(root.read("switches").trim().split("\n")).toHaveLength(1);
});
