import { randomUUID } from "node:crypto";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, test } from "vitest";
import { nixAvailable } from "../support/nix.ts";
import { commitFlake } from "./flake.ts";
import { addProject, freePort, ORGANIZATION, withGradient } from "./gradient.ts";
import { startService } from "./process.ts";

const nix = nixAvailable();
const reason = nix.ok ? "" : ` (skipped: ${nix.reason})`;

const FLAKE = `{ outputs = { self }: { packages.x86_64-linux.thing = derivation {
  name = "thing"; system = "x86_64-linux"; builder = "/bin/sh"; args = [ "-c" "echo hello > $out" ];
}; }; }
`;

test.skipIf(!nix.ok)(`a worker that only listens builds for the server that dials it${reason}`, async () => {
  await using gradient = await withGradient();
  await gradient.worker.stop();
  const [id, port] = [randomUUID(), await freePort()];
  const { peer_id, token } = await gradient.api.request<{ peer_id: string; token: string }>(
    "POST",
    `/orgs/${ORGANIZATION}/workers`,
    { worker_id: id, url: `http://127.0.0.1:${port}` },
  );
  const state = () => gradient.api.request<{ message: string }>("POST", `/orgs/${ORGANIZATION}/workers/${id}/test`);
  await expect.poll(async () => (await state()).message, { timeout: 10_000 }).toMatch(/ECONNREFUSED/);
  const peersFile = join(gradient.folder, "peers-of-the-dialled");
  await writeFile(peersFile, `${peer_id}:${token}\n`);
  await using worker = startService("worker/main.ts", {
    NIX_REMOTE: gradient.daemon.storeUrl,
    NIX_CONF_DIR: gradient.daemon.env.NIX_CONF_DIR ?? "",
    GRADIENT_WORKER_DATA_DIR: join(gradient.folder, "dialled"),
    GRADIENT_WORKER_ID: id,
    GRADIENT_WORKER_DISCOVERABLE: "true",
    GRADIENT_WORKER_PORT: String(port),
    GRADIENT_WORKER_PEERS_FILE: peersFile,
    GRADIENT_WORKER_GCROOTS_DIR: join(gradient.folder, "gcroots-of-the-dialled"),
    GRADIENT_WORKER_ALLOW_LOCAL_SOURCES: "true",
    GRADIENT_WORKER_CAPABILITY_FETCH: "true",
    GRADIENT_WORKER_CAPABILITY_EVAL: "true",
    GRADIENT_WORKER_CAPABILITY_BUILD: "true",
    GRADIENT_MAX_CONCURRENT_BUILDS: "2",
  });
  await worker.waitFor("waiting to be dialled");
  await worker.waitFor("connected to the server");
  expect(await state()).toMatchObject({ ok: true, connected: true, authorized_for_org: true });

  const url = await commitFlake(join(gradient.folder, "site"), { "flake.nix": FLAKE }, "A commit");
  const evaluation = await gradient.api.evaluate(await addProject(gradient.api, "site", url, "packages.*"));
  expect(await gradient.api.waitForEnd(evaluation)).toMatchObject({ status: "Completed" });
  await worker.waitFor('"name":"thing","status":"built"');

  await gradient.server.kill();
  await gradient.startServer();
  await expect.poll(() => worker.output().split("connected to the server").length, { timeout: 30_000 }).toBe(3);
  process.kill(worker.pid, "SIGHUP");
  await worker.waitFor("looking at the peers file and at Nix's settings anew");
  await writeFile(peersFile, `${peer_id}:${Buffer.alloc(48).toString("base64")}\n`);
  // Its token is another now: the server that dials does not know it, and nobody gets in with it.
  await worker.waitFor("no valid token in the worker's peers file");
  expect(worker.output()).not.toContain(token);
  expect(await worker.stop()).toBe(0);
});
