import { rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeEach, describe, expect, test, vi } from "vitest";
import { both, endOf, NEW, NEWER, OLD, withDeployRoot } from "#test/support/deploy-root.ts";

const root = await withDeployRoot();
beforeEach(() => root.reset());
afterAll(() => root[Symbol.asyncDispose]());

const wayBack = (text: string) => writeFileSync(`${root.path}${OLD}/behaviour`, text);
const HALF_WAY = 'ln -sfn "$path" "$root/run/current-system"; exit 1\n';

describe("a rollback that failed", () => {
  beforeEach(async () => {
    root.publish(NEW, HALF_WAY);
    wayBack("exit 1");
    expect((await root.run()).json.end).toBe("rollback-failed");
    expect(root.links).toEqual({ profile: OLD, running: NEW });
  });

  const hindrances: readonly (readonly [string, () => void])[] = [
    ["that is in no cache", () => {}],
    [
      "while the host is busy",
      () => {
        root.publish(NEWER);
        root.write("busy", "");
        root.set("BUSY_COMMAND", `test -e ${join(root.path, "busy")}`);
        root.set("WAIT_SECS", "0");
      },
    ],
    ["whose switch never begins", () => root.publish(NEWER, "echo Could not acquire lock >&2; exit 11\n")],
  ];
  test.each(hindrances)("is tried again after a newer build was wanted %s", async (_, hinder) => {
    root.set("SWITCH_TIMEOUT_SECS", "4");
    hinder();
    root.offer(NEWER, 3);
    expect((await root.run()).json.end).toBe("rollback-failed");
    expect(root.state().journal).toMatchObject({ target: { storePath: NEW }, unfinished: null });
    wayBack("");
    root.offer(NEWER, 3, { state: "held", reason: "it failed elsewhere" });
    expect((await root.run()).json.end).toBe("rolled-back");
    expect(root.links).toEqual(both(OLD));
    expect(root.state().bad).toMatchObject([{ storePath: NEW }]);
  });

  test("is over as soon as a newer build runs", async () => {
    root.publish(NEWER);
    root.offer(NEWER, 3);
    expect((await root.run()).json.end).toBe("deployed");
    expect(root.links).toEqual(both(NEWER));
    expect(root.state()).toMatchObject({ journal: null, bad: [{ storePath: NEW }], before: { profilePath: OLD } });
  });

  test.each([
    ["resume", "rolled-back"],
    ["rollback", "rolled-back-by-hand"],
  ])("is still there when the fetching of a newer build was cut off (%s)", async (command, end) => {
    root.publish(NEWER);
    root.offer(NEWER, 3);
    root.write(
      "download.sh",
      '[ "$dry" ] || { touch "$root/fetching"; while kill -0 "$PPID" 2>/dev/null; do sleep 0.1; done; }\n',
    );
    const child = root.start();
    await vi.waitFor(() => expect(root.read("calls")).toContain(`--realise ${NEWER}`), 20_000);
    child.kill("SIGKILL");
    await endOf(child);
    expect(root.state().journal).toMatchObject({ phase: "downloading", unfinished: { target: { storePath: NEW } } });
    rmSync(join(root.path, "download.sh"));
    wayBack("");
    expect((await root.run(command)).json.end).toBe(end);
    expect(root.links).toEqual(both(OLD));
    expect(root.state()).toMatchObject({ journal: null, bad: [{ storePath: NEW }] });
  });
});

test("a way back that was only interrupted is gone to its end also when a newer build is forced", async () => {
  root.publish(NEW, HALF_WAY);
  wayBack(': > "$root/going-back"; sleep 1\n');
  const child = root.start();
  await vi.waitFor(() => expect(root.read("switches")).toContain(`switch ${OLD}`), 20_000);
  child.kill("SIGTERM");
  expect((await endOf(child)).json.end).toBe("interrupted");
  root.offer(NEWER, 3);
  expect((await root.run("--force")).json.end).toBe("missing-path");
  expect(root.links).toEqual(both(OLD));
  expect(root.state()).toMatchObject({ journal: null, bad: [{ storePath: NEW }] });
});

test("a build that failed where rollback is off, and was released, is looked at where it runs", async () => {
  root.set("ROLLBACK", "false");
  root.set("HEALTH_COMMANDS", JSON.stringify([`test ! -e ${root.path}/ill`]));
  root.publish(NEW, 'touch "$root/ill"\n');
  expect((await root.run()).json.end).toBe("failed");
  root.offer(NEW, 2, { state: "held", reason: "it failed here" });
  expect((await root.run()).json.end).toBe("bad-build");
  rmSync(join(root.path, "ill"));
  root.offer(NEW, 2);
  expect((await root.run()).json.end).toBe("up-to-date");
  expect(root.reports.at(-1)).toMatchObject({ step: "unchanged", health: "healthy" });
  expect(root.state().bad).toEqual([]);
});
