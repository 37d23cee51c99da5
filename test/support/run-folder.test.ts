import { spawn } from "node:child_process";
import { access, chmod, mkdir, mkdtemp, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { expect, test } from "vitest";
import { commandLineOf } from "./processes.ts";

const KEEPER = join(import.meta.dirname, "run-folder-keeper.ts");

/** Starts the keeper of a new folder; `end` does what the end of the run does, and answers the report. */
async function keep(): Promise<{ readonly folder: string; readonly end: () => Promise<string> }> {
  const folder = await mkdtemp(join(tmpdir(), "kept-"));
  const keeper = spawn(process.execPath, [KEEPER, folder], { stdio: ["pipe", "pipe", "inherit"] });
  const report = text(keeper.stdout);
  const end = async () => {
    keeper.stdin.end();
    return await report;
  };
  return { folder, end };
}

test("a run that leaves nothing behind has nothing to report, and its folder goes", async () => {
  const { folder, end } = await keep();

  expect(await end()).toBe("");
  await expect(access(folder)).rejects.toThrow("ENOENT");
});

test("what a run leaves behind is named, its processes are ended with all below them, and its files go", async () => {
  const { folder, end } = await keep();
  const store = join(folder, "store");
  await mkdir(store);
  await writeFile(join(store, "path"), "read-only, as Nix leaves it");
  await chmod(store, 0o555);
  // The child knows nothing of the folder, as a builder does not.
  const child = 'exec env -i sh -c "echo \\$\\$; exec sleep 301.5"';
  const left = spawn("sh", ["-c", `${child} & wait`], { env: { ...process.env, PLACE: `${store}/path` } });
  const childId = Number(await new Promise((resolve) => left.stdout.once("data", resolve)));
  await expect.poll(() => commandLineOf(childId)).toBe("sleep 301.5");

  const report = await end();

  expect(report).toContain(`process ${left.pid}: sh -c`);
  expect(report).toContain(`process ${childId}: sleep 301.5\n`);
  expect(report).toContain(`${store}\n`);
  expect(await commandLineOf(childId)).toBe("");
  await expect(access(folder)).rejects.toThrow("ENOENT");
});
