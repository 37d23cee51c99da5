import { type ChildProcess, execFile, spawn } from "node:child_process";
import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { mkdir, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";
import { radosgwKeyring, radosgwSettings } from "./radosgw-settings.ts";

/** Where a gateway answers, and who may use it. */
export interface RadosgwAddress {
  readonly endpoint: string;
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
}

export interface RunningRadosgw {
  readonly address: RadosgwAddress;
  stop(): Promise<void>;
}

/** Two slow cores under full load need a fifth of it. */
const START_MS_MAX = 60_000;

/** A whole Ceph of three processes that keeps its objects in memory, below `folder`; it forgets all at its end. */
export async function startRadosgw(folder: string): Promise<RunningRadosgw> {
  const [fsid, osd] = [randomUUID(), randomUUID()];
  const place = { folder, fsid, monitorPort: await freePort(), port: await freePort() };
  for (const name of ["mon", "osd", "run", "rgw"]) await mkdir(join(folder, name), { recursive: true });
  await writeFile(join(folder, "keyring"), radosgwKeyring(), { mode: 0o600 });
  await writeFile(join(folder, "ceph.conf"), radosgwSettings(place));
  const user = { accessKeyId: "TESTACCESSKEY", secretAccessKey: randomUUID() };

  const processes: ChildProcess[] = [];
  const env = { ...process.env, CEPH_CONF: join(folder, "ceph.conf") };
  const options = { cwd: folder, env };
  const run = async (command: string, ...parameters: readonly string[]): Promise<void> => {
    await promisify(execFile)(command, [...parameters], { ...options, timeout: START_MS_MAX });
  };
  const start = (command: string, ...parameters: readonly string[]): void => {
    processes.push(spawn(command, [...parameters], { ...options, stdio: "ignore" }));
  };
  const stop = async (): Promise<void> => {
    for (const child of processes.toReversed()) {
      if (child.exitCode !== null || child.signalCode !== null) continue;
      child.kill("SIGKILL");
      await once(child, "exit");
    }
  };
  try {
    const monitor = `[v2:127.0.0.1:${place.monitorPort}]`;
    await run("monmaptool", "--create", "--fsid", fsid, "--addv", "a", monitor, "monmap");
    await run("ceph-mon", "--mkfs", "-i", "a", "--monmap", "monmap", "--keyring", "keyring");
    start("ceph-mon", "-f", "-i", "a");
    await run("ceph", "osd", "new", osd);
    await run("ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", osd);
    await run("ceph", "auth", "add", "osd.0", "-i", "keyring");
    start("ceph-osd", "-f", "-i", "0");
    const keys = [`--access-key=${user.accessKeyId}`, `--secret=${user.secretAccessKey}`];
    await run("radosgw-admin", "user", "create", "--uid=test", "--display-name=test", ...keys);
    start("radosgw", "-f", "-n", "client.admin");
    const endpoint = `http://127.0.0.1:${place.port}`;
    await untilItAnswers(endpoint);
    return { address: { endpoint, ...user }, stop };
  } catch (error) {
    await stop();
    throw error;
  }
}

async function untilItAnswers(endpoint: string): Promise<void> {
  const deadline = performance.now() + START_MS_MAX;
  for (;;) {
    const answer = await fetch(endpoint).catch(() => null);
    await answer?.body?.cancel();
    if (answer?.ok) return;
    if (performance.now() > deadline) throw new Error(`radosgw did not answer within ${START_MS_MAX / 1_000} s`);
    await sleep(50);
  }
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  server.close();
  if (address === null || typeof address === "string") throw new Error("the system gave no port");
  return address.port;
}
