import { readdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { parseRealisation, type Realisation, realisationFingerprints } from "#core/nix/realisation.ts";
import { parsePublicKey, verify } from "#core/nix/signature.ts";
import { storePathBaseName } from "#core/nix/store-path.ts";
import { type NixDaemon, nixAvailable, nixOutput, withNixDaemon } from "../support/nix.ts";
import { endedBuilds, outputOf, shortName } from "./builds.ts";
import { CacheClient } from "./cache-client.ts";
import { commitFlake } from "./flake.ts";
import { addProject, CACHE, type Gradient, publicKey, withGradient } from "./gradient.ts";

const nix = nixAvailable();
const reason = nix.ok ? "" : ` (skipped: ${nix.reason})`;
const FEATURES = { "experimental-features": "nix-command flakes ca-derivations" };

/**
 * `lib` refers to itself, `tool` only needs it, `deferred` and `top` refer to it. What `note` says does not reach the
 * content of `lib`.
 */
function expression(note: string): string {
  return `let
  mk = name: script: extra: derivation ({
    inherit name; system = "x86_64-linux"; builder = "/bin/sh"; args = [ "-c" script ]; PATH = "/usr/bin:/bin";
  } // extra);
  ca = { __contentAddressed = true; outputHashMode = "recursive"; outputHashAlgo = "sha256"; };
in rec {
  seed = mk "seed" "echo seed > $out" {};
  lib = mk "lib" "mkdir $out; cat \${seed} > $out/seed; echo $out > $out/self; echo lib > $doc" (ca // {
    outputs = [ "out" "doc" ]; note = "${note}";
  });
  tool = mk "tool" "cat \${lib}/seed \${lib.doc} > $out" (ca // { outputHashMode = "flat"; });
  deferred = mk "deferred" "mkdir $out; ln -s \${lib} $out/lib; cat \${tool} > $out/tool" {};
  above = mk "above" "cat \${deferred}/tool > $out" {};
  fixed = mk "fixed" "cat \${tool} > /dev/null; printf hello > $out" {
    outputHash = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";
    outputHashMode = "flat"; outputHashAlgo = "sha256";
  };
  top = mk "top" "mkdir $out; ln -s \${deferred} \${lib} $out; cat \${above} \${fixed} > $out/all" ca;
}`;
}

const FLAKE = `{ outputs = { self }: { packages.x86_64-linux = import ./ca.nix; }; }`;

describe.skipIf(!nix.ok)(`derivations whose outputs only the build can place${reason}`, () => {
  let gradient: Gradient;
  let elsewhere: NixDaemon;
  let project: string;
  let first: string;
  let commits = 0;

  const built = async (note: string) => {
    const files = { "flake.nix": FLAKE, "ca.nix": expression(note), "commit.txt": String(commits++) };
    await commitFlake(join(gradient.folder, "repository"), files, `with ${note}`);
    const before = endedBuilds(gradient.worker).length;
    const id = await gradient.api.evaluate(project);
    const { status } = await gradient.api.waitForEnd(id);
    const messages = status === "Completed" ? [] : await gradient.api.messages(id);
    expect({ status, messages }).toEqual({ status: "Completed", messages: [] });
    const ran = endedBuilds(gradient.worker).slice(before);
    return { id, ran: ran.map((name) => name.replace(/^[0-9a-z]{32}-|\.drv$/g, "")).sort() };
  };

  beforeAll(async () => {
    gradient = await withGradient({}, FEATURES);
    elsewhere = await withNixDaemon({ settings: FEATURES });
    const repository = join(gradient.folder, "repository");
    const url = await commitFlake(repository, { "flake.nix": FLAKE, "ca.nix": expression("one") }, "A commit");
    project = await addProject(gradient.api, "site", url, "packages.*");
    first = (await built("one")).id;
  }, 90_000);

  afterAll(async () => {
    await gradient?.[Symbol.asyncDispose]();
    await elsewhere?.[Symbol.asyncDispose]();
  });

  test("they are built, and their outputs have the paths that Nix gives them", async () => {
    const builds = await gradient.api.builds(first);
    expect(builds.map((build) => [shortName(build), build.status])).toEqual(
      expect.arrayContaining(
        ["seed", "lib", "tool", "deferred", "above", "fixed", "top"].map((name) => [name, "Completed"]),
      ),
    );
    const file = join(elsewhere.folder, "ca.nix");
    await writeFile(file, expression("one"));
    for (const name of ["lib", "tool", "deferred", "above", "top"]) {
      const path = await nixOutput(["nix-build", "--no-out-link", file, "-A", name], elsewhere.env);
      expect(await outputOf(gradient, first, name), name).toBe(path);
    }
  }, 60_000);

  test("an evaluation that finds them again builds nothing", async () => {
    expect(await built("one")).toMatchObject({ ran: [] });
  }, 60_000);

  test("where another derivation made the same, what rests on it is not built again", async () => {
    const { id, ran } = await built("two");
    expect(ran).toEqual(["lib"]);
    for (const name of ["lib", "tool", "deferred", "top"]) {
      expect(await outputOf(gradient, id, name), name).toBe(await outputOf(gradient, first, name));
    }
  }, 60_000);

  test("stock Nix takes them from the cache by what the cache knows of them, and builds nothing", async () => {
    const file = join(elsewhere.folder, "ca.nix");
    await writeFile(file, expression("two"));
    const client = new CacheClient(gradient, "by-expression");
    const trusted = ["--option", "trusted-public-keys", await publicKey(gradient.api)];
    const from = [
      "--option",
      "substituters",
      `${gradient.url}/cache/${CACHE}`,
      "--option",
      "max-jobs",
      "0",
      ...trusted,
    ];
    const store = ["--store", client.store];
    const env = { ...gradient.daemon.env, NIX_REMOTE: "" };
    for (const name of ["top", "lib", "tool"]) {
      const path = await nixOutput(["nix-build", "--no-out-link", file, "-A", name, ...store, ...from], env);
      expect(path, name).toBe(await outputOf(gradient, first, name));
    }
    await nixOutput(["nix", "store", "verify", ...store, "--all", ...trusted], env);
    // Nothing but what they refer to: their inputs would come first where the cache did not know them as they are.
    const paths = await readdir(join(client.store, "nix", "store"));
    expect(paths.filter((path) => path.endsWith("-seed"))).toEqual([]);
  }, 60_000);

  test("what somebody copies to the cache with stock Nix is known to evaluations, and not built", async () => {
    const file = join(elsewhere.folder, "ca.nix");
    await writeFile(file, expression("three"));
    const netrc = join(elsewhere.folder, "netrc");
    await writeFile(netrc, `machine 127.0.0.1 login ada password ${gradient.api.token}\n`);
    await nixOutput(["nix-build", "--no-out-link", file, "-A", "top", "-A", "lib.doc"], elsewhere.env);
    const to = ["--to", `${gradient.url}/cache/${CACHE}`, "--option", "netrc-file", netrc];
    const names = ["seed", "lib", "lib.doc", "tool", "deferred", "above", "top"];
    await nixOutput(["nix", "copy", ...to, "--file", file, ...names], elsewhere.env);
    const { id, ran } = await built("three");
    expect(ran).toEqual([]);
    const news = ["lib", "tool", "deferred", "above", "top"];
    const found = (await gradient.api.builds(id)).filter((build) => news.includes(shortName(build)));
    expect(found.map(({ status }) => status)).toEqual(news.map(() => "Substituted"));
  }, 60_000);

  test("what the cache says of them is signed with its key, for every version of Nix", async () => {
    const file = join(elsewhere.folder, "ca.nix");
    await writeFile(file, expression("one"));
    const key = parsePublicKey(await publicKey(gradient.api));
    for (const name of ["top", "lib", "deferred"]) {
      const asked = ["nix", "realisation", "info", "--json", "--file", file, name] as const;
      const [{ id, outPath }] = JSON.parse(await nixOutput(asked, elsewhere.env)) as [{ id: string; outPath: string }];
      const answer = await fetch(`${gradient.url}/cache/${CACHE}/realisations/${encodeURIComponent(id)}.doi`);
      expect(answer.status, `${name}: ${id}`).toBe(200);
      const realisation = parseRealisation(await answer.text()) as Realisation;
      expect(storePathBaseName(realisation.outPath)).toBe(outPath);
      const checks = realisationFingerprints(realisation).flatMap((text) =>
        realisation.signatures.map((signature) => key && verify(key, text, signature)),
      );
      const good = (await Promise.all(checks)).filter((isGood) => isGood);
      expect(good).toHaveLength(realisation.dependents.length > 0 ? 2 : 1);
      expect(realisation.dependents.length > 0, name).toBe(name !== "lib");
    }
    const other = `sha256:${"0".repeat(64)}!out`;
    expect((await fetch(`${gradient.url}/cache/${CACHE}/realisations/${other}.doi`)).status).toBe(404);
  }, 60_000);
});
