import { readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { nixAvailable, nixOutput, runNix } from "../support/nix.ts";
import type { BuildItem } from "./api.ts";
import { commitFlake, FLAKE } from "./flake.ts";
import { addProject, CACHE, type Gradient, publicKey, withGradient } from "./gradient.ts";

const nix = nixAvailable();
const reason = nix.ok ? "" : ` (skipped: ${nix.reason})`;

describe.skipIf(!nix.ok)(`from a commit to a signed cache${reason}`, () => {
  let gradient: Gradient;
  let project: string;
  let repository: string;
  let first: string;

  beforeAll(async () => {
    gradient = await withGradient();
    repository = join(gradient.folder, "repository");
    const url = await commitFlake(repository, { "flake.nix": FLAKE, "text.txt": "one\n" }, "The first commit");
    project = await addProject(gradient.api, "demo", url, "packages.*");
    first = await gradient.api.evaluate(project);
    await gradient.api.waitForEnd(first);
  }, 180_000);

  afterAll(async () => {
    await gradient?.[Symbol.asyncDispose]();
  });

  test("everything is built but what fails, and what rests on it", async () => {
    const builds = await gradient.api.builds(first);
    const named = (status: string) =>
      builds
        .filter((build) => build.status === status)
        .map(shortName)
        .sort();

    expect(named("FailedPermanent")).toEqual(["broken"]);
    expect(named("DependencyFailed")).toEqual(["above", "above-too"]);
    expect(builds.filter((build) => build.status === "Completed")).toHaveLength(builds.length - 3);
    expect(builds.length).toBeGreaterThanOrEqual(35);
    expect(await gradient.api.evaluation(first)).toMatchObject({ status: "Failed" });
  });

  test("the attribute that throws is named with its own words", async () => {
    const messages = await gradient.api.messages(first);

    const errors = messages.filter(({ level }) => level === "Error");
    expect(errors).toHaveLength(1);
    expect(errors[0]?.message).toContain("this attribute does not evaluate");
  });

  test("entry points keep their names, dots and spaces too", async () => {
    const points = await gradient.api.request<{ eval: string; build_status: string }[]>(
      "GET",
      `/projects/${project}/entry-points?evaluation_id=${first}`,
    );

    const dotted = points.find(({ eval: attribute }) => attribute.includes("dots"));
    expect(dotted).toMatchObject({ eval: 'packages.x86_64-linux."a name.with dots"', build_status: "Completed" });
    expect(points).toHaveLength(9);
  });

  test("the log of a failed build says what its builder said", async () => {
    const broken = (await gradient.api.builds(first)).find((build) => shortName(build) === "broken") as BuildItem;

    expect(await gradient.api.log(broken.id)).toContain("about to fail");
  });

  test("stock Nix substitutes the result into an empty store and verifies it", async () => {
    const out = await outputOf(gradient, first, "all");
    const key = await publicKey(gradient.api);
    const store = join(gradient.daemon.folder, "substituted");

    await copyFrom(gradient, store, out, key);

    const verify = [
      "nix",
      "store",
      "verify",
      "--store",
      store,
      "-r",
      out,
      "--option",
      "trusted-public-keys",
      key,
    ] as const;
    expect(await runNix([...verify], isolated(gradient))).toMatchObject({ code: 0 });
    expect(await readFile(join(store, out), "utf8")).toContain("leaf 0");
  });

  test("without the cache's key nothing is accepted", async () => {
    const out = await outputOf(gradient, first, "all");
    const store = join(gradient.daemon.folder, "untrusting");

    const run = await runNix(
      ["nix", "copy", "--from", `${gradient.url}/cache/${CACHE}`, "--to", store, out],
      isolated(gradient),
    );

    expect(run.code).not.toBe(0);
    expect(run.stderr).toMatch(/signature/);
  });

  test("a second evaluation of the same commit builds nothing", async () => {
    const before = await countAttempts(gradient);
    const second = await gradient.api.evaluate(project);
    await gradient.api.waitForEnd(second);

    const builds = await gradient.api.builds(second);
    expect(
      builds.filter(({ status }) =>
        ["Completed", "FailedPermanent", "Substituted", "DependencyFailed"].includes(status),
      ),
    ).toHaveLength(builds.length);
    expect(await countAttempts(gradient)).toBe(before);
  });

  test("a change of one line rebuilds only what depends on it", async () => {
    const before = await builtNames(gradient);
    await commitFlake(repository, { "text.txt": "two\n" }, "Another text");
    const third = await gradient.api.evaluate(project);
    await gradient.api.waitForEnd(third);

    const built = (await builtNames(gradient)).slice(before.length).sort();
    expect(built).toEqual(["text", "uses-text"]);
  });

  test("a changed byte in a stored object is never accepted, and is gone once it was noticed", async () => {
    const out = await outputOf(gradient, first, "several-1");
    const key = await publicKey(gradient.api);
    const narinfo = await (await fetch(narinfoUrl(gradient, out))).text();
    const url = `${gradient.url}/cache/${CACHE}/${/^URL: (.*)$/m.exec(narinfo)?.[1]}`;
    await damageObject(gradient, narinfo);

    const copy = await runNix(
      [
        "nix",
        "copy",
        "--from",
        `${gradient.url}/cache/${CACHE}`,
        "--to",
        join(gradient.daemon.folder, "damaged"),
        out,
        "--option",
        "trusted-public-keys",
        key,
        "--option",
        "download-attempts",
        "1",
      ],
      isolated(gradient),
    );

    expect(copy.code).not.toBe(0);
    expect((await fetch(url)).status).toBe(404);
    expect((await fetch(narinfoUrl(gradient, out))).status).toBe(404);
  });

  test("what was lost is built again by the next evaluation", async () => {
    await writeFile(join(repository, "text.txt"), "three\n");
    await commitFlake(repository, {}, "A third text");
    const next = await gradient.api.evaluate(project);
    await gradient.api.waitForEnd(next);

    const out = await outputOf(gradient, next, "several-1");
    expect((await fetch(narinfoUrl(gradient, out))).status).toBe(200);
  });
});

function shortName({ name }: BuildItem): string {
  return name.slice(33).replace(/\.drv$/, "");
}

async function outputOf(gradient: Gradient, evaluation: string, name: string): Promise<string> {
  const build = (await gradient.api.builds(evaluation)).find((candidate) => shortName(candidate) === name);
  if (!build) throw new Error(`no build ${name}`);
  const view = await gradient.api.request<{ output: Record<string, string> }>("GET", `/builds/${build.id}`);
  return `/nix/store/${view.output.out}`;
}

function isolated({ daemon }: Gradient): Readonly<Record<string, string>> {
  return { ...daemon.env, NIX_REMOTE: "" };
}

async function copyFrom(gradient: Gradient, store: string, out: string, key: string): Promise<void> {
  await nixOutput(
    [
      "nix",
      "copy",
      "--from",
      `${gradient.url}/cache/${CACHE}`,
      "--to",
      store,
      out,
      "--option",
      "trusted-public-keys",
      key,
    ],
    isolated(gradient),
  );
}

function narinfoUrl({ url }: Gradient, storePath: string): string {
  return `${url}/cache/${CACHE}/${storePath.slice("/nix/store/".length, "/nix/store/".length + 32)}.narinfo`;
}

/** Names of the builds that the worker ended, in order, as its log tells. */
async function builtNames(gradient: Gradient): Promise<string[]> {
  const lines = gradient.worker.output().split("\n");
  return lines.flatMap((line) => (/"message":"build ended".*/.test(line) ? [JSON.parse(line).name as string] : []));
}

async function countAttempts(gradient: Gradient): Promise<number> {
  return (await builtNames(gradient)).length;
}

/** Flips one byte in the middle of the object that the narinfo's NAR is kept in. */
async function damageObject({ storage }: Gradient, narinfo: string): Promise<void> {
  const narHash = /^NarHash: sha256:(.*)$/m.exec(narinfo)?.[1];
  const entries = await readdir(storage, { recursive: true, withFileTypes: true });
  const file = entries.find((entry) => entry.isFile() && narHash && entry.name.startsWith(narHash));
  if (!file) throw new Error("the object was not found");
  const path = join(file.parentPath, file.name);
  const bytes = await readFile(path);
  const middle = Math.floor(bytes.length / 2);
  bytes[middle] = (bytes[middle] as number) ^ 0xff;
  await writeFile(path, bytes);
}
