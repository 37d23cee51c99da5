import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { toHex, utf8 } from "#core/lib/bytes.ts";
import { nodeHasher } from "#runtime/node/hasher.ts";
import { nixAvailable } from "../support/nix.ts";
import { flakeOf } from "../worker/evaluation-setup.ts";
import { CACHE, type Gradient, ORGANIZATION, withGradient } from "./gradient.ts";

const nix = nixAvailable();

describe.skipIf(!nix.ok)("a source that somebody sends", () => {
  let gradient: Gradient;
  beforeAll(async () => {
    gradient = await withGradient();
  });
  afterAll(() => gradient?.[Symbol.asyncDispose]());

  test("is evaluated and built without a repository, and again with one file changed", async () => {
    const flake = flakeOf(`{ packages.\${system}.hello =
      mk "hello" "read line < \${./text.txt}; echo $line > $out" {}; }`);
    const first = await build({ "flake.nix": flake, "text.txt": "as it was\n" });
    expect(first.missing).toBe(2);
    expect(first.view).toMatchObject({ cache: CACHE, commit: "0".repeat(40) });
    expect(await outcome(first.view.evaluation)).toEqual({ status: "Completed", errors: [], builds: ["hello"] });

    const second = await build({ "flake.nix": flake, "text.txt": "changed\n" });
    expect(second.missing).toBe(1);
    expect(await outcome(second.view.evaluation)).toEqual({ status: "Completed", errors: [], builds: ["hello"] });
  });

  test("that is no flake, or reads what is not its own, fails with words", async () => {
    const noFlake = await build({ "readme.md": "nothing to build here" });
    expect(await outcome(noFlake.view.evaluation)).toMatchObject({
      status: "Failed",
      errors: [expect.stringContaining("no flake.nix")],
    });
  });

  interface Sent {
    readonly missing: number;
    readonly view: { readonly evaluation: string; readonly cache: string | null };
  }

  async function build(files: Readonly<Record<string, string>>): Promise<Sent> {
    const { api } = gradient;
    const contents = new Map<string, string>();
    const entries: object[] = [];
    for (const [path, text] of Object.entries(files)) {
      const hash = await nodeHasher.blake3();
      hash.update(utf8(text));
      const name = toHex(hash.digest());
      contents.set(name, text);
      entries.push({ path, hash: name, size: utf8(text).length });
    }
    const manifest = { organization: ORGANIZATION, files: entries };
    const opened = await api.request<{ session: string; missing: string[] }>(
      "POST",
      "/build-requests/manifest",
      manifest,
    );
    const form = new FormData();
    for (const hash of opened.missing) form.append(hash, new Blob([contents.get(hash) as string]));
    const sent = await fetch(`${gradient.url}/api/v1/build-requests/${opened.session}/blobs`, {
      method: "POST",
      headers: { authorization: `Bearer ${api.token}` },
      body: form,
    });
    expect(await sent.json()).toMatchObject({ message: { remaining: 0 } });
    const view = await api.request<Sent["view"]>("POST", `/build-requests/${opened.session}/dispatch`, {});
    return { missing: opened.missing.length, view };
  }

  async function outcome(evaluation: string) {
    const { status } = await gradient.api.waitForEnd(evaluation);
    const messages = await gradient.api.messages(evaluation);
    const builds = (await gradient.api.builds(evaluation)).map(({ name }) => name.slice(33, -4));
    return { status, errors: messages.filter(({ level }) => level === "Error").map(({ message }) => message), builds };
  }
});
