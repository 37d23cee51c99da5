import { execFile, spawnSync } from "node:child_process";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";
import { expect, test } from "vitest";
import { withPlace } from "#test/options/support.ts";
import { git } from "#test/support/git.ts";

const WORKER = "550e8400-e29b-41d4-a716-446655440002";
/** Of a worker beside its server, as the module declares it. */
const stateWith = (tokenFile: string) => ({
  workers: {
    "beside-server": { worker_id: WORKER, token_file: tokenFile, created_by: null, base_worker: true },
  },
});

/** The commands of the page, in order. */
function firstSteps(): string {
  const page = readFileSync(join(import.meta.dirname, "../../docs/nixos.md"), "utf8");
  const part = page.slice(page.indexOf("## First steps"), page.indexOf("## A worker\n"));
  const lines = part.split("\n").filter((line) => line.startsWith("      "));
  return lines.map((line) => line.slice(6)).join("\n");
}

const [, major, minor] = /^curl (\d+)\.(\d+)/.exec(spawnSync("curl", ["--version"], { encoding: "utf8" }).stdout) ?? [];
const canAsk =
  Number(major) * 1_000 + Number(minor) >= 7_082 &&
  ["bash", "jq"].every((name) => spawnSync(name, ["--version"]).status === 0);

test.skipIf(!canAsk)("the first steps of the page for NixOS lead to a branch whose builds a host gets", async () => {
  await using place = await withPlace();
  const repository = join(place.folder, "fleet");
  mkdirSync(repository);
  await git(repository, "init", "-q", "-b", "main");
  writeFileSync(join(repository, "flake.nix"), "{ outputs = _: { }; }\n");
  await git(repository, "add", ".");
  await git(repository, "commit", "-q", "-m", "first");
  const tokenFile = join(place.folder, "token");
  writeFileSync(tokenFile, Buffer.alloc(48, 7).toString("base64"));
  const stateFile = join(place.folder, "state.json");
  writeFileSync(stateFile, JSON.stringify(stateWith(tokenFile)));
  await using server = await place.start({ GRADIENT_STATE_FILE: stateFile, GRADIENT_ALLOW_LOCAL_SOURCES: "true" });

  const script = firstSteps()
    .replace("https://gradient.example.com", server.url)
    .replaceAll('"password":"..."', '"password":"Correct-Horse-9-Battery"')
    .replace("https://git.example.com/fleet.git", `file://${repository}`);
  const { stdout } = await promisify(execFile)("bash", ["-e", "-o", "pipefail", "-c", script], { timeout: 60_000 });
  const split = stdout.indexOf("\n{\n");
  const lines = stdout.slice(0, split).split("\n").filter(Boolean);
  const answers = lines.map((line) => JSON.parse(line) as { readonly message: unknown });
  for (const answer of answers) expect(answer).toMatchObject({ error: false });
  // Those of signing in and of listing the workers go into variables.
  expect(answers).toHaveLength(script.match(/^post /gm)?.length ?? 0);
  const messages = answers.map(({ message }) => message);
  expect(messages).toContainEqual(expect.objectContaining({ worker_id: WORKER, is_base: true, active: true }));
  expect(JSON.parse(stdout.slice(split))).toMatchObject({
    project: "myorg/myproject",
    branch: "main",
    caches: [{ name: "fleet", private: true }],
    can_report: true,
  });
});
