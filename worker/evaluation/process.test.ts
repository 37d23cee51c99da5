import { readFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { setTimeout as sleep } from "node:timers/promises";
import { expect, test } from "vitest";
import { LineSplitter } from "./line-splitter.ts";
import { type ProcessOptions, ProcessStartError, runProcess, startProcess } from "./process.ts";

function shell(script: string, changes: Partial<ProcessOptions> = {}): ProcessOptions {
  return {
    command: "sh",
    args: ["-c", script],
    environment: { PATH: "/usr/bin:/bin" },
    folder: tmpdir(),
    timeoutMs: 20_000,
    stdoutBytesMax: 1_000,
    stderrBytesMax: 1_000,
    ...changes,
  };
}

async function isAlive(pid: number): Promise<boolean> {
  // proc(5): a process that ended and was not waited for yet is a zombie, Z.
  const status = await readFile(`/proc/${pid}/stat`, "utf8").catch(() => "");
  return status !== "" && !/\) [ZX] /.test(status);
}

test("a process sees the environment it is given and nothing of ours", async () => {
  process.env.GRADIENT_TEST_SECRET = "secret";
  const { stdout, code } = await runProcess(shell("env", { environment: { PATH: "/usr/bin:/bin", ONLY: "this" } }));

  expect(code).toBe(0);
  expect(stdout).toContain("ONLY=this");
  expect(stdout).not.toContain("secret");
});

test("stopping a process stops its children, and what it leaves behind ends with it", async () => {
  const lines: string[] = [];
  const onStderrLine = (line: string) => void lines.push(line);
  const running = await startProcess(shell("sleep 60 & echo $! >&2; wait", { onStderrLine }));
  while (lines.length === 0) await sleep(10);
  running.stop("stalled");
  expect(await running.ended).toMatchObject({ code: null, signal: "SIGKILL", stopped: "stalled" });

  const left = await runProcess(shell("sleep 60 & echo $! >&2", { onStderrLine }));
  expect(left).toMatchObject({ code: 0, stopped: null });
  for (const pid of lines) await expect.poll(() => isAlive(Number(pid)), { timeout: 15_000 }).toBe(false);
});

test("time, output and abort end a process and are told apart", async () => {
  const abort = new AbortController();
  const aborted = runProcess(shell("sleep 60", { signal: abort.signal }));
  abort.abort();

  expect((await aborted).stopped).toBe("aborted");
  expect((await runProcess(shell("sleep 60", { signal: abort.signal }))).stopped).toBe("aborted");
  expect((await runProcess(shell("sleep 60", { timeoutMs: 50 }))).stopped).toBe("timed_out");
  expect((await runProcess(shell("while true; do echo text; done"))).stopped).toBe("too_much_output");
  expect((await runProcess(shell("while true; do echo text >&2; done"))).stopped).toBe("too_much_output");
});

test("what has left the process's group does not keep its end from being told", async () => {
  const marked = { environment: { PATH: "/usr/bin:/bin", LEFT_THE_GROUP: "1" } };
  const { code, stdout } = await runProcess(shell("setsid sh -c 'echo $$; exec sleep 6' & sleep 0.2", marked));
  expect([code, await isAlive(Number(stdout))]).toEqual([0, true]);
});

test("what a process that goes on has written can be forgotten: then the limit counts anew", async () => {
  const script = "while read -r line; do head -c 900 /dev/zero >&2; echo >&2; done";
  const lines: string[] = [];
  const onStderrLine = (line: string) => void lines.push(line);
  const running = await startProcess(shell(script, { hasInput: true, onStderrLine }));
  for (let round = 1; round <= 3; round++) {
    running.forgetOutput();
    running.input?.write("go\n");
    await expect.poll(() => lines.length).toBe(round);
  }
  running.input?.write("go\n");
  expect((await running.ended).stopped).toBe("too_much_output");
});

test("a command that is not there, or whose arguments are too long, is an error of its own", async () => {
  await expect(runProcess(shell("", { command: "no-such-command" }))).rejects.toThrow(ProcessStartError);
  await expect(runProcess(shell("x".repeat(3_000_000)))).rejects.toThrow(ProcessStartError);
});

test("lines are put together across chunks, and a line beyond the limit is cut", () => {
  const lines: string[] = [];
  const splitter = new LineSplitter((line) => void lines.push(line), 8);
  const bytes = new TextEncoder().encode("one\n\nzwölf\nmuch too long a line\nend");
  for (const byte of bytes) splitter.push(Uint8Array.of(byte));
  splitter.end();
  splitter.end();

  expect(lines).toEqual(["one", "", "zwölf", "much too", "end"]);
});
