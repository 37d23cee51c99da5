import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type NixRun, nixAvailable, nixOutput, runNix } from "../support/nix.ts";
import { outputOf } from "./builds.ts";
import { CacheClient } from "./cache-client.ts";
import { commitFlake } from "./flake.ts";
import { addProject, CACHE, type Gradient, ORGANIZATION, withGradient } from "./gradient.ts";

const nix = nixAvailable();
const reason = nix.ok ? "" : ` (skipped: ${nix.reason})`;

const FLAKE = `{
  outputs = { self }: let
    mk = name: script: derivation {
      inherit name; system = "x86_64-linux"; builder = "/bin/sh"; args = [ "-c" script ]; PATH = "/usr/bin:/bin";
    };
    text = mk "text" "echo building text; echo text > $out";
  in {
    packages.x86_64-linux.app = mk "app" ''
      echo building app; echo a line that is no ASCII: ü
      mkdir -p $out/bin "$out/share/with space" $out/empty
      echo '#!/bin/sh' > $out/bin/app; chmod +x $out/bin/app
      ln -s ../bin/app "$out/share/link"; ln -s \${text} $out/text
      echo quoted > "$out/share/with space/a \\"quoted\\" ü.txt"
      : > $out/zero
      head -c 300000 /dev/zero > $out/zeros
    '';
  };
}
`;

/** What stock Nix reads of a cache that a real server process serves and real builds have filled. */
describe.skipIf(!nix.ok)(`Nix asks a cache${reason}`, () => {
  let gradient: Gradient;
  let app: string;
  let store: string;

  beforeAll(async () => {
    gradient = await withGradient();
    const { api, folder, url } = gradient;
    const repository = await commitFlake(join(folder, "repository"), { "flake.nix": FLAKE }, "A commit");
    const evaluation = await api.evaluate(await addProject(api, "app", repository, "packages.*"));
    expect((await api.waitForEnd(evaluation)).status).toBe("Completed");
    app = await outputOf(gradient, evaluation, "app");
    store = `${url}/cache/${CACHE}`;
  }, 60_000);

  afterAll(async () => {
    await gradient?.[Symbol.asyncDispose]();
  });

  function run(...args: [string, ...string[]]): Promise<NixRun> {
    return runNix(args, { ...gradient.daemon.env, NIX_REMOTE: "" });
  }

  function ask(...args: readonly string[]): Promise<string> {
    return nixOutput(["nix", ...args, "--store", store], { ...gradient.daemon.env, NIX_REMOTE: "" });
  }

  const hash = () => app.slice("/nix/store/".length).slice(0, 32);

  test("what is in a path, and what is in a file of it", async () => {
    const listed = await ask("store", "ls", "-lR", app);
    expect(listed).toMatch(/^-r-xr-xr-x +10 \.\/bin\/app$/m);
    expect(listed).toMatch(/^lrwxrwxrwx +0 \.\/share\/link -> \.\.\/bin\/app$/m);
    expect(await ask("store", "cat", `${app}/bin/app`)).toBe("#!/bin/sh");
    const { root } = JSON.parse(await ask("store", "ls", "--json", "-R", app).then((text) => `{"root":${text}}`));
    const own = (await (await fetch(`${store}/${hash()}.ls`)).json()) as { root: unknown };
    expect(own.root).toEqual(root);
  });

  test("the listing is what Nix itself writes for the path", async () => {
    const cache = join(gradient.folder, "nix-cache");
    const copied = await run(
      "nix",
      "copy",
      "--from",
      store,
      "--to",
      `file://${cache}?write-nar-listing=1`,
      "--no-check-sigs",
      app,
    );
    expect(copied.stderr).not.toContain("error");
    const theirs = await readFile(join(cache, `${hash()}.ls`), "utf8");
    const ours = await (await fetch(`${store}/${hash()}.ls`)).text();
    // Nix 2.8 writes an object's keys in the order in which it thinks of them, newer ones sorted.
    if (theirs.startsWith('{"version":1')) expect(ours).toBe(theirs);
    expect(JSON.parse(ours)).toEqual(JSON.parse(theirs));
  });

  test("what is known of a path, and its closure", async () => {
    const infos = JSON.parse(await ask("path-info", "--json", "-r", app)) as object;
    // Nix 2.8 prints a list, newer ones an object by path.
    const paths = Array.isArray(infos) ? infos.map(({ path }) => path as string) : Object.keys(infos);
    expect(paths.map((path) => path.replace(/^.*?-/, "")).toSorted()).toEqual(["app", "text"]);
    const narInfo = (await (await fetch(`${store}/${hash()}.narinfo?json`)).json()) as { StorePath: string };
    expect(narInfo.StorePath).toBe(app);
    const client = new CacheClient(gradient, "client");
    await client.copyAndVerify(app);
  });

  test("the log of what was built is for members, until the organization is public", async () => {
    const refused = await run("nix", "log", "--store", store, app);
    expect(refused.code).not.toBe(0);
    await gradient.api.request("POST", `/orgs/${ORGANIZATION}/public`);
    const log = await run("nix", "log", "--store", store, app);
    expect(log.stdout).toBe("building app\na line that is no ASCII: ü\n");
    const absent = await run("nix", "log", "--store", store, app.replace(/[a-z0-9]{5}-/, "00000-"));
    expect(absent.code).not.toBe(0);
  });

  test("a file by its address, through links too", async () => {
    const at = (path: string) => fetch(`${store}/serve/${hash()}/${path}`);
    expect(await (await at("bin/app")).text()).toBe("#!/bin/sh\n");
    expect(await (await at("share/link")).text()).toBe("#!/bin/sh\n");
    expect(await (await at("text")).text()).toBe("text\n");
    expect(await (await at("share/with%20space/a%20%22quoted%22%20%C3%BC.txt")).text()).toBe("quoted\n");
    expect((await (await at("zeros")).bytes()).length).toBe(300_000);
    expect((await at("../../etc/passwd")).status).toBe(404);
  });
});
