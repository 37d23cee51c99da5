import { mkdtemp, stat } from "node:fs/promises";
import { expect, test } from "vitest";
import { withTemporaryFolder } from "#test/support/temporary-folder.ts";
import { startProcess } from "./evaluation/process.ts";
import {
  endLeftProcesses,
  markVariables,
  removeLeftSockets,
  socketFolderPrefix,
  workerMark,
} from "./left-processes.ts";

async function shell(script: string, variables: Readonly<Record<string, string>>) {
  return await startProcess({
    command: "sh",
    args: ["-c", script],
    environment: { PATH: "/usr/bin:/bin", ...variables },
    folder: "/",
    timeoutMs: null,
    stdoutBytesMax: null,
    stderrBytesMax: 1_000,
  });
}

test("what outlived its worker is ended, also what has left its group and session", async () => {
  await using folder = await withTemporaryFolder();
  const marked = markVariables(folder.path);
  const left = await shell("setsid sleep 100 & sleep 100", marked);
  await expect.poll(() => endLeftProcesses(folder.path)).toBeGreaterThan(0);
  expect((await left.ended).signal).toBe("SIGKILL");
  // The pipe of its standard error is closed, so that nobody has it any more.
  expect(await endLeftProcesses(folder.path)).toBe(0);
});

test("what another worker started is left alone", async () => {
  await using folder = await withTemporaryFolder();
  await using other = await withTemporaryFolder();
  const theirs = await shell("sleep 100", markVariables(other.path));
  expect(await endLeftProcesses(folder.path)).toBe(0);
  theirs.stop("aborted");
  expect((await theirs.ended).stopped).toBe("aborted");
});

test("folders of sockets that a killed worker left are removed, and nobody else's", async () => {
  await using folder = await withTemporaryFolder();
  await using other = await withTemporaryFolder();
  const prefixes = [folder, other].map(({ path }) => socketFolderPrefix(workerMark(path)));
  const [own = "", theirs = ""] = await Promise.all(prefixes.map((prefix) => mkdtemp(prefix)));
  await removeLeftSockets(folder.path);
  await expect(stat(own)).rejects.toThrow("ENOENT");
  expect((await stat(theirs)).isDirectory()).toBe(true);
  await removeLeftSockets(other.path);
});
