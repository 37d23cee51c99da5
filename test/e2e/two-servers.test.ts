import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { sql } from "kysely";
import { describe, expect, test, vi } from "vitest";
import { nixAvailable } from "../support/nix.ts";
import { shortName } from "./builds.ts";
import { commitFlake } from "./flake.ts";
import { addProject } from "./gradient.ts";
import { nginxAvailable } from "./proxy.ts";
import { type ServerMachine, type SeveralServers, withSeveralServers } from "./several-servers.ts";

const nix = nixAvailable();
const ok = nix.ok && nginxAvailable();
const reason = ok ? "" : ` (skipped: ${nix.ok ? "nginx is not installed" : nix.reason})`;

/** Four chains of five, and one build that rests on all of them. */
const FLAKE = `{
  outputs = { self }: let
    mk = name: script: derivation {
      inherit name; system = "x86_64-linux"; builder = "/bin/sh"; args = [ "-c" script ]; PATH = "/usr/bin:/bin";
    };
    link = chain: n: mk "link-\${chain}-\${toString n}" (if n == 0
      then "echo begin \${chain}; sleep 0.4; echo \${chain} > $out"
      else "cat \${link chain (n - 1)}; sleep 0.4; cat \${link chain (n - 1)} > $out; echo \${toString n} >> $out");
    last = map (chain: link chain 4) [ "a" "b" "c" "d" ];
  in {
    packages.x86_64-linux.all = mk "all" "cat \${toString last} > $out";
    packages.x86_64-linux.slow = mk "slow" "echo slow has begun; sleep 617; echo > $out";
  };
}
`;
const LINKS = 21;
const MOMENT = { timeout: 45_000, interval: 50 };

describe.skipIf(!ok)(`two servers on one database, behind one proxy${reason}`, { timeout: 180_000 }, () => {
  test("share the work of two workers, and a server that is killed takes nothing along", async () => {
    await using installation = await withSeveralServers();
    const { api, servers } = installation;
    await vi.waitFor(async () => expect(await serversWithSessions(installation)).toBe(2), MOMENT);
    const evaluation = await evaluate(installation, "packages.*.all");
    await someLinksEnded(installation, evaluation);
    const before = await builtAttempts(installation);

    await servers[0].service.kill();
    await vi.waitFor(async () => expect(await serversWithSessions(installation)).toBe(1), MOMENT);
    expect(await api.waitForEnd(evaluation)).toMatchObject({ status: "Completed" });

    const attempts = await builtAttempts(installation);
    expect(attempts).toHaveLength(LINKS);
    expect(new Set(attempts.map(({ build_id }) => build_id)).size).toBe(LINKS);
    // What was acknowledged before stands, and both workers had their part.
    expect(attempts).toEqual(expect.arrayContaining(before));
    expect(new Set(attempts.map(({ worker_id }) => worker_id)).size).toBe(2);
    // The workers came back to the other server with what they ran: nothing was begun anew.
    expect(await abortedAttempts(installation)).toEqual([]);

    await servers[0].start();
    expect(await servers[0].api.evaluation(evaluation)).toMatchObject({ status: "Completed" });
  });

  test("give what a killed worker had to the other worker, whichever server hears it", async () => {
    await using installation = await withSeveralServers();
    const { api, workers } = installation;
    const evaluation = await evaluate(installation, "packages.*.all");
    await someLinksEnded(installation, evaluation);

    await workers[1].service.kill();
    expect(await api.waitForEnd(evaluation)).toMatchObject({ status: "Completed" });

    const attempts = await builtAttempts(installation);
    expect(new Set(attempts.map(({ build_id }) => build_id)).size).toBe(LINKS);
    expect(attempts).toHaveLength(LINKS);
    const aborted = await abortedAttempts(installation);
    expect(aborted.every(({ worker_id }) => worker_id === workers[1].id)).toBe(true);
    expect(aborted.length).toBeLessThanOrEqual(2);
  });

  test("show the live log of a build, and stop it, on the server that does not hold its worker", async () => {
    await using installation = await withSeveralServers();
    const { db, servers } = installation;
    const evaluation = await evaluate(installation, "packages.*.slow");
    const slow = await vi.waitFor(async () => {
      const [build] = (await installation.api.builds(evaluation)).filter(({ status }) => status === "Building");
      if (!build) throw new Error("nothing is being built");
      return build;
    }, MOMENT);
    expect(shortName(slow)).toBe("slow");
    const { worker_id } = await db
      .selectFrom("attempt")
      .select("worker_id")
      .where("kind", "=", 1)
      .executeTakeFirstOrThrow();
    const other = await serverWithout(installation, worker_id);

    await vi.waitFor(async () => expect(await other.api.log(slow.id)).toBe("slow has begun\n"), MOMENT);
    expect(await sleepers()).not.toEqual([]);
    await other.api.request("POST", `/evals/${evaluation}`, { method: "abort" });

    const holder = servers.find((server) => server !== other) as ServerMachine;
    expect(await holder.api.waitForEnd(evaluation)).toMatchObject({ status: "Aborted" });
    await vi.waitFor(async () => expect(await sleepers()).toEqual([]), MOMENT);
  });
});

async function evaluate({ api, folder }: SeveralServers, wildcard: string): Promise<string> {
  const url = await commitFlake(join(folder, "links"), { "flake.nix": FLAKE }, "Chains of builds");
  return await api.evaluate(await addProject(api, "links", url, wildcard));
}

/** In the middle: some builds have ended, and some run. */
async function someLinksEnded({ api }: SeveralServers, evaluation: string): Promise<void> {
  await vi.waitFor(async () => {
    const builds = await api.builds(evaluation);
    expect(builds.filter(({ status }) => status === "Completed").length).toBeGreaterThanOrEqual(4);
    expect(builds.filter(({ status }) => status === "Building").length).toBeGreaterThanOrEqual(2);
  }, MOMENT);
}

async function builtAttempts({ db }: SeveralServers) {
  return await db
    .selectFrom("attempt")
    .select(["id", "build_id", "worker_id"])
    .where("outcome", "=", 1)
    .where("kind", "=", 1)
    .execute();
}

async function abortedAttempts({ db }: SeveralServers) {
  return await db.selectFrom("attempt").select(["id", "worker_id", "message"]).where("outcome", "=", 4).execute();
}

/** Processes of the slow build. */
async function sleepers(): Promise<string[]> {
  const found: string[] = [];
  for (const pid of await readdir("/proc")) {
    const command = /^\d+$/.test(pid) ? await readFile(`/proc/${pid}/cmdline`, "utf8").catch(() => "") : "";
    if (command.startsWith("sleep\x00617")) found.push(pid);
  }
  return found;
}

/** Servers that hold an open session. */
async function serversWithSessions({ db }: SeveralServers): Promise<number> {
  const { rows } = await sql<{ servers: number }>`
    select count(distinct server_id)::int as servers from worker_connection where disconnected_at is null`.execute(db);
  return rows[0]?.servers ?? 0;
}

async function serverWithout({ db, servers }: SeveralServers, workerId: string): Promise<ServerMachine> {
  const session = await db
    .selectFrom("worker_connection")
    .select("id")
    .where("worker_id", "=", workerId)
    .where("disconnected_at", "is", null)
    .executeTakeFirstOrThrow();
  const own = servers.find(({ service }) => service.output().includes(session.id));
  const other = servers.find((server) => server !== own);
  if (!own || !other) throw new Error("no server says that it has the session");
  return other;
}
