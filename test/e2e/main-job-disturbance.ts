import { expect, vi } from "vitest";
import { endedBuilds, findBuild, shortName } from "./builds.ts";
import { BULKY_BYTES } from "./flake.ts";
import type { Gradient } from "./gradient.ts";
import { finishedObjects, unfinishedObjects } from "./storage.ts";

/** More than everything else that the flake's builds upload, together. */
const UPLOAD_BYTES_MIN = 1_000_000;
const MOMENT = { timeout: 30_000, interval: 10 };

/**
 * Kills the worker in mid-build, later the server in mid-upload, and starts each again as a supervisor would. Fails
 * when a kill does not hit what it is meant for. Answers the names of the builds that the worker was about.
 */
export async function disturb(gradient: Gradient, evaluation: string): Promise<ReadonlySet<string>> {
  const interrupted = await killWorkerInMidBuild(gradient, evaluation);
  await killServerInMidUpload(gradient, evaluation);
  return interrupted;
}

async function killWorkerInMidBuild(gradient: Gradient, evaluation: string): Promise<ReadonlySet<string>> {
  const { api, worker } = gradient;
  // A worker that dies while it evaluates begins the evaluation anew, messages and all: another promise.
  await vi.waitFor(async () => expect((await api.evaluation(evaluation)).status).toBe("Building"), MOMENT);
  const slow = await findBuild(gradient, evaluation, "slow");
  await vi.waitFor(async () => expect(await api.log(slow.id)).toBe("slow has begun\n"), MOMENT);

  await worker.kill();
  // The server keeps the attempts open: the worker may come back with them.
  const interrupted = (await api.builds(evaluation)).filter(({ status }) => status === "Building").map(shortName);
  expect(interrupted).toContain("slow");
  expect(await api.log(slow.id)).toBe("slow has begun\n");
  expect(endedBuilds(worker)).not.toContain("slow");

  await gradient.startWorker();
  return new Set(interrupted);
}

async function killServerInMidUpload(gradient: Gradient, evaluation: string): Promise<void> {
  const { api, server, worker } = gradient;
  const received = () => largest(unfinishedObjects(gradient));
  await vi.waitFor(async () => expect(await received()).toBeGreaterThan(UPLOAD_BYTES_MIN), MOMENT);
  expect(await findBuild(gradient, evaluation, "bulky")).toMatchObject({ status: "Building" });
  expect(await api.evaluation(evaluation)).toMatchObject({ status: "Building" });

  await server.kill();
  // What the upload had come to: nobody touches the files before the next start.
  const part = await received();
  expect(part).toBeGreaterThan(UPLOAD_BYTES_MIN);
  expect(part).toBeLessThan(BULKY_BYTES);
  expect(await largest(finishedObjects(gradient))).toBeLessThan(UPLOAD_BYTES_MIN);

  await gradient.startServer();
  // The worker has outlived the server, and brings the attempt back with what it has built.
  expect(gradient.worker).toBe(worker);
  await worker.waitFor("the session with the server ended");
}

async function largest(sizes: Promise<readonly number[]>): Promise<number> {
  return Math.max(0, ...(await sizes));
}
