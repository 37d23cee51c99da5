import { chmod, mkdir, stat } from "node:fs/promises";
import { join } from "node:path";
import { expect, test } from "vitest";
import { withTemporaryFolder } from "#test/support/temporary-folder.ts";
import { runProcess } from "./evaluation/process.ts";
import { OrganizationPlaces } from "./organization-places.ts";

const isRoot = process.getuid?.() === 0;
const NOBODY = { uid: 65_534, gid: 65_534 };

test("without a user of their own evaluators are the worker, and nobody else gets into their folders", async () => {
  await using folder = await withTemporaryFolder();
  // As an earlier version made it.
  await mkdir(join(folder.path, "evaluation", "one"), { recursive: true, mode: 0o755 });
  const place = await new OrganizationPlaces(folder.path, null).of("one");
  expect(place).toEqual({ folder: join(folder.path, "evaluation", "one"), user: null });
  expect((await stat(place.folder)).mode & 0o777).toBe(0o700);
});

test.skipIf(!isRoot)(
  "each organization's evaluators have a group, the same after a restart, and reach their own folder alone",
  async () => {
    await using folder = await withTemporaryFolder();
    await chmod(folder.path, 0o711);
    const places = new OrganizationPlaces(folder.path, NOBODY);
    const [one, two, again] = await Promise.all([places.of("one"), places.of("two"), places.of("one")]);
    const later = new OrganizationPlaces(folder.path, NOBODY);
    expect(again).toEqual(one);
    expect(await later.of("two")).toEqual(two);
    expect((await later.of("three")).user?.gid).not.toBe(one.user?.gid);
    expect(one.user).toMatchObject({ uid: NOBODY.uid });
    expect(one.user?.gid).not.toBe(two.user?.gid);
    await mkdir(join(one.folder, "repository"));

    const canEnter = async (user: typeof one.user) => {
      const options = { environment: { PATH: "/usr/bin:/bin" }, folder: "/", timeoutMs: null };
      const limits = { stdoutBytesMax: 1_000, stderrBytesMax: 1_000 };
      const args = ["-c", `cd ${join(one.folder, "repository")}`];
      return (await runProcess({ command: "sh", args, user, ...options, ...limits })).code === 0;
    };
    expect([await canEnter(one.user), await canEnter(two.user), await canEnter(NOBODY)]).toEqual([true, false, false]);
  },
);
