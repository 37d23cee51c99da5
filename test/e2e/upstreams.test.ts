import { join } from "node:path";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { type NixDaemon, nixAvailable, nixOutput, runNix, withNixDaemon } from "../support/nix.ts";
import { buildIn, type UpstreamCache, withUpstreamCache } from "../support/upstream-cache.ts";
import { commitFlake } from "./flake.ts";
import { addProject, CACHE, type Gradient, publicKey, withGradient } from "./gradient.ts";

const nix = nixAvailable();
const MK = `
  mk = name: script: derivation {
    inherit name;
    system = "x86_64-linux";
    builder = "/bin/sh";
    args = [ "-c" script ];
    PATH = "/usr/bin:/bin";
  };`;

/** Three derivations in a chain; the last two refer to what is below them, so each is a closure. */
function others(version: string): string {
  return `rec { ${MK}
    tool = mk "tool-${version}" "echo only needed to build the others > $out";
    base = mk "base-${version}" "cat \${tool}; for i in $(seq 5000); do echo base $i; done > $out";
    library = mk "library-${version}" "mkdir $out; ln -s \${base} $out/base; seq 5000 > $out/numbers";
  }`;
}

function ours(version: string): string {
  return `{
    outputs = { self }: let
      inherit (import ./others.nix) mk library;
    in {
      packages.x86_64-linux = {
        app = mk "app-${version}" "mkdir $out; cat \${library}/base > $out/content; ln -s \${library} $out/library";
      };
    };
  }`;
}

describe.skipIf(!nix.ok)(`what an upstream has${nix.ok ? "" : ` (skipped: ${nix.reason})`}`, () => {
  let elsewhere: NixDaemon;
  let upstream: UpstreamCache;
  let gradient: Gradient;

  beforeAll(async () => {
    elsewhere = await withNixDaemon();
    upstream = await withUpstreamCache(elsewhere.folder);
    gradient = await withGradient({ GRADIENT_OUTBOUND_ALLOW: "127.0.0.1/32" });
    const path = `/caches/${CACHE}/upstreams`;
    // Only what the test serves: the machine may or may not have a network.
    const [first] = await gradient.api.request<{ id: string }[]>("GET", path);
    await gradient.api.request("DELETE", `${path}/${first?.id}`);
    const { url, publicKey: public_key } = upstream;
    await gradient.api.request("PUT", path, { type: "http", display_name: "Elsewhere", url, public_key });
  }, 60_000);
  afterAll(async () => {
    await gradient?.[Symbol.asyncDispose]();
    await upstream?.[Symbol.asyncDispose]();
    await elsewhere?.[Symbol.asyncDispose]();
  });
  beforeEach(() => {
    upstream.fault = () => null;
    upstream.requests.length = 0;
  });

  /** A project whose app rests on a library that was built elsewhere. Answers the library's path. */
  async function prepare(version: string, compression = "xz"): Promise<{ project: string; library: string }> {
    const library = await buildIn(elsewhere, `(${others(version)}).library`);
    await upstream.copy(elsewhere, [library], compression);
    const files = { "flake.nix": ours(version), "others.nix": others(version) };
    const url = await commitFlake(join(gradient.folder, version), files, "Rests on others");
    return { project: await addProject(gradient.api, version, url, "packages.*"), library };
  }

  async function evaluate(project: string): Promise<{ id: string; status: string; builds: Record<string, string> }> {
    const id = await gradient.api.evaluate(project);
    const { status } = await gradient.api.waitForEnd(id);
    const builds = (await gradient.api.builds(id)).map(({ name, status }) => [name.slice(33, -4), status]);
    return { id, status, builds: Object.fromEntries(builds) };
  }

  async function outputOf(evaluation: string, name: string): Promise<string> {
    const build = (await gradient.api.builds(evaluation)).find((one) => one.name.slice(33, -4) === name);
    const view = await gradient.api.request<{ output: { out: string } }>("GET", `/builds/${build?.id}`);
    return `/nix/store/${view.output.out}`;
  }

  test.each(["xz", "zstd"])(
    "is not built, what rests on it is, and stock Nix takes both from our cache alone: %s",
    async (form) => {
      const { project, library } = await prepare(`taken-${form}`, form);
      const { id, status, builds } = await evaluate(project);

      expect(status).toBe("Completed");
      expect(builds).toEqual({ [`app-taken-${form}`]: "Completed", [`library-taken-${form}`]: "Substituted" });

      const app = await outputOf(id, `app-taken-${form}`);
      const [store, ours] = [join(gradient.daemon.folder, form), `${gradient.url}/cache/${CACHE}`];
      const substituters = ["--option", "substituters", ours];
      const trust = ["--option", "trusted-public-keys", await publicKey(gradient.api)];
      const env = { ...gradient.daemon.env, NIX_REMOTE: "" };
      await nixOutput(["nix-store", "--store", store, ...substituters, ...trust, "--realise", app], env);
      const closure = await nixOutput(["nix-store", "--store", store, "-qR", app], env);
      expect(closure.split("\n")).toContain(library);
      const verify = await runNix(["nix", "store", "verify", "--store", store, "-r", app, ...trust], env);
      expect(verify).toMatchObject({ code: 0 });
      // The cache itself holds what was built, and only that.
      const narinfo = (path: string) => fetch(`${ours}/${path.slice(11, 43)}.narinfo`).then((answer) => answer.text());
      expect(await narinfo(app)).toMatch(/^URL: nar\/[0-9a-z]{52}\.nar\.zst$/m);
      expect(await narinfo(library)).toMatch(/^URL: nar\/upstream\//m);
    },
  );

  test("is asked for by a second evaluation no more", async () => {
    const { project } = await prepare("again");
    await evaluate(project);
    upstream.requests.length = 0;
    const { builds } = await evaluate(project);
    expect([builds, upstream.requests]).toEqual([{ "app-again": "Completed" }, []]);
  });

  test("is refused where a byte of it is another one, and the build says so", async () => {
    const { project } = await prepare("flipped");
    upstream.fault = (path) => (path.startsWith("/nar/") ? "flip" : null);
    const { status, builds } = await evaluate(project);
    expect(status).toBe("Failed");
    expect(builds["app-flipped"]).toMatch(/^Failed/);
    expect(gradient.worker.output()).toMatch(/an input is damaged: \S+-(base|library)-flipped/);
    // Once the upstream is sound again the next evaluation has nothing else to do than to build.
    upstream.fault = () => null;
    expect(await evaluate(project)).toMatchObject({ status: "Completed" });
  });

  test("is built in its stead when the upstream turns out to have lost it", async () => {
    const { project } = await prepare("lost");
    upstream.fault = (path) => (path.startsWith("/nar/") ? { status: 404 } : null);
    const { status, builds } = await evaluate(project);
    expect(status).toBe("Completed");
    // What the lost one rests on is built by the recovery evaluation.
    expect(builds).toEqual({ "app-lost": "Completed", "library-lost": "Completed" });
  });

  // The last: the server leaves the upstream alone for a while then.
  test("is built from source while the upstream is down", async () => {
    const { project } = await prepare("down");
    upstream.fault = () => ({ status: 503 });
    const { status, builds } = await evaluate(project);
    expect(status).toBe("Completed");
    const built = ["app", "base", "library", "tool"].map((name) => [`${name}-down`, "Completed"]);
    expect(builds).toEqual(Object.fromEntries(built));
  });
});
