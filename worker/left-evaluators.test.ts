import { mkdir, readdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, test } from "vitest";
import { withTemporaryFolder } from "#test/support/temporary-folder.ts";
import { startProcess } from "./evaluation/process.ts";
import { LeftEvaluators } from "./left-evaluators.ts";

async function sleeper() {
  return await startProcess({
    command: "sh",
    // The leader ends; what it started stays in its group.
    args: ["-c", "sleep 100 & wait"],
    environment: { PATH: "/usr/bin:/bin" },
    folder: "/",
    timeoutMs: null,
    stdoutBytesMax: null,
    stderrBytesMax: 1_000,
  });
}

test("evaluators that outlived their worker are ended with their children, and the notes go", async () => {
  await using folder = await withTemporaryFolder();
  const left = await sleeper();
  await new LeftEvaluators(folder.path).note(left.pid);

  expect(await new LeftEvaluators(folder.path).end()).toBe(1);
  expect((await left.ended).signal).toBe("SIGKILL");
  expect(await readdir(join(folder.path, "evaluators"))).toEqual([]);
});

test("a process that got the number of one that is gone is left alone", async () => {
  await using folder = await withTemporaryFolder();
  const other = await sleeper();
  await mkdir(join(folder.path, "evaluators"));
  const started = "1 (nix) S 1 1 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 17 0 0";
  await writeFile(join(folder.path, "evaluators", String(other.pid)), started);
  await writeFile(join(folder.path, "evaluators", "999999999"), started);
  await writeFile(join(folder.path, "evaluators", "no-number"), started);

  expect(await new LeftEvaluators(folder.path).end()).toBe(0);
  expect((await readdir(join(folder.path, "evaluators"))).sort()).toEqual(["no-number"]);
  other.stop("aborted");
  expect((await other.ended).stopped).toBe("aborted");
});
