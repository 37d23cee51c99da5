import { join } from "node:path";
import { zstdDecompressSync } from "node:zlib";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { nixAvailable } from "../support/nix.ts";
import { findBuild } from "./builds.ts";
import { commitFlake } from "./flake.ts";
import { addProject, type Gradient, withGradient } from "./gradient.ts";

const nix = nixAvailable();
const reason = nix.ok ? "" : ` (skipped: ${nix.reason})`;

const FLAKE = `{
  outputs = { self }: let
    mk = name: script: derivation {
      inherit name; system = "x86_64-linux"; builder = "/bin/sh"; args = [ "-c" script ]; PATH = "/usr/bin:/bin";
    };
    text = mk "text" "echo from text; echo text > $out";
  in {
    packages.x86_64-linux.site = mk "site" ''
      echo from site; cat \${text}
      mkdir -p $out/nix-support $out/doc
      head -c 3000000 /dev/zero | tr '\\0' x > $out/disk.img
      echo '<h1>manual</h1>' > $out/doc/index.html
      ln -s index.html $out/doc/start.html
      echo "file img $out/disk.img" > $out/nix-support/hydra-build-products
      echo "doc manual $out/doc" >> $out/nix-support/hydra-build-products
    '';
  };
}
`;

describe.skipIf(!nix.ok)(`what builds offer and print${reason}`, () => {
  let gradient: Gradient;
  let evaluation: string;
  let build: string;

  beforeAll(async () => {
    gradient = await withGradient();
    const { api, folder } = gradient;
    const url = await commitFlake(join(folder, "repository"), { "flake.nix": FLAKE }, "A commit");
    evaluation = await api.evaluate(await addProject(api, "site", url, "packages.*"));
  }, 60_000);

  afterAll(async () => {
    await gradient?.[Symbol.asyncDispose]();
  });

  test("the logs of all builds come in one answer while they run, and it ends with the evaluation", async () => {
    const response = await gradient.api.fetch("POST", `/evals/${evaluation}/builds`);
    const lines = (await response.text()).trimEnd().split("\n");
    const text = lines.map((line) => JSON.parse(line) as string).join("");
    expect(text.split("\n").toSorted()).toEqual(["", "site> from site", "site> text", "text> from text"]);
    expect(await gradient.api.evaluation(evaluation)).toMatchObject({ status: "Completed" });
  });

  test("a file is fetched as the builder made it, a folder as a tar file", async () => {
    const { api } = gradient;
    build = (await findBuild(gradient, evaluation, "site")).id;
    const listed = await api.request<{ name: string; size: number | null }[]>("GET", `/builds/${build}/downloads`);
    expect(listed).toMatchObject([
      { name: "disk.img", file_type: "file", subtype: "img", size: 3_000_000 },
      { name: "doc", file_type: "doc", subtype: "manual", size: null },
    ]);
    const image = await api.fetch("GET", `/builds/${build}/download/disk.img`);
    expect(image.headers.get("content-length")).toBe("3000000");
    expect((await image.text()).replaceAll("x", "")).toBe("");
    const folder = await api.fetch("GET", `/builds/${build}/download/doc`);
    const tar = zstdDecompressSync(await folder.bytes()).toString("latin1");
    for (const part of ["doc/\0", "doc/index.html\0", "<h1>manual</h1>\n", "doc/start.html\0"])
      expect(tar).toContain(part);
    expect((await fetch(`${gradient.url}/api/v1/builds/${build}/download/disk.img`)).status).toBe(404);
  });

  test("a browser fetches with a token in the address, and a build shows what it took", async () => {
    const token = await gradient.api.request<string>("GET", `/builds/${build}/download-token`);
    const answer = await fetch(`${gradient.url}/api/v1/builds/${build}/download/disk.img?token=${token}`);
    expect([answer.status, (await answer.bytes()).length]).toEqual([200, 3_000_000]);
    const { metrics } = await gradient.api.request<{ metrics: { build_ms: number } }>("GET", `/builds/${build}`);
    expect(metrics.build_ms).toBeGreaterThan(0);
  });
});
