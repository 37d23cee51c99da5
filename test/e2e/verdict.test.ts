import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { WebSocket } from "ws";
import type { CompareView } from "#core/api/compare.ts";
import type { VerdictView } from "#core/api/verdicts.ts";
import { nixAvailable } from "../support/nix.ts";
import { commitFlake } from "./flake.ts";
import { addProject, type Gradient, withGradient } from "./gradient.ts";

const nix = nixAvailable();
const reason = nix.ok ? "" : ` (skipped: ${nix.reason})`;

const flake = (version: string, script: string): string => `{
  outputs = { self }: let
    mk = name: script: derivation {
      inherit name; system = "x86_64-linux"; builder = "/bin/sh"; args = [ "-c" script ]; PATH = "/usr/bin:/bin";
    };
    library = mk "library-${version}" ''${script}'';
  in {
    packages.x86_64-linux.app = mk "app-${version}" "cat \${library} > $out";
    packages.x86_64-linux.tool = mk "tool-1.0" "echo tool > $out";
  };
}
`;
const BROKEN = "echo compiling; echo 'main.c:3: error: no such thing'; exit 2";

describe.skipIf(!nix.ok)(`why a run is red${reason}`, () => {
  let gradient: Gradient;
  let project: string;
  let green: string;

  beforeAll(async () => {
    gradient = await withGradient();
    const { api, folder } = gradient;
    const url = await commitFlake(join(folder, "repository"), { "flake.nix": flake("1.0", "echo x > $out") }, "Good");
    project = await addProject(api, "site", url, "packages.*");
    green = await api.evaluate(project);
    await follow(green);
  }, 60_000);

  afterAll(async () => {
    await gradient?.[Symbol.asyncDispose]();
  });

  /** Over a WebSocket, until the evaluation has ended. Answers the kinds of frames that came. */
  async function follow(evaluation: string): Promise<Set<string>> {
    const { url, api } = gradient;
    const address = `${url.replace("http", "ws")}/api/v1/evals/${evaluation}/live`;
    const socket = new WebSocket(address, { headers: { authorization: `Bearer ${api.token}` } });
    const kinds = new Set<string>();
    socket.on("message", (data) => kinds.add((JSON.parse(String(data)) as { type: string }).type));
    await new Promise((resolve, reject) => {
      socket.on("close", resolve);
      socket.on("error", reject);
    });
    return kinds;
  }

  test("what a commit broke is named with the line that tells why, and is new here", async () => {
    const { api, folder } = gradient;
    await commitFlake(join(folder, "repository"), { "flake.nix": flake("1.1", BROKEN) }, "Bad");
    const red = await api.evaluate(project);
    expect(await follow(red)).toContain("build_status_changed");
    const verdict = await api.request<VerdictView>("GET", `/evals/${red}/verdict`);
    expect(verdict).toMatchObject({
      result: "red",
      compared_with: { evaluation: green },
      attributes: { total: 2, green: 1, red: 1, new_here: 1, red_before: 0 },
      failures: [
        {
          name: "library-1.1",
          standing: "new",
          attributes: [{ attribute: "packages.x86_64-linux.app", standing: "new" }],
        },
      ],
    });
    // The last lines of a log may come after the result.
    const linesOf = async () => {
      const { failures } = await api.request<VerdictView>("GET", `/evals/${red}/verdict`);
      return failures[0]?.lines.map(({ text }) => text);
    };
    await expect.poll(linesOf, { timeout: 30_000 }).toContain("main.c:3: error: no such thing");

    const compared = await api.request<CompareView>("GET", `/evals/${red}/compare/${green}`);
    expect(compared).toMatchObject({
      newly_failing: { total: 1 },
      changed: { total: 0 },
      unchanged_total: 1,
      inputs: [],
    });
    expect(compared.before.closure_size).toBeGreaterThan(compared.after.closure_size);
  });

  test("the next commit that leaves it broken finds it red before", async () => {
    const { api, folder } = gradient;
    await commitFlake(join(folder, "repository"), { "flake.nix": flake("1.2", BROKEN) }, "Still bad");
    const red = await api.evaluate(project);
    await follow(red);
    expect((await api.request<VerdictView>("GET", `/evals/${red}/verdict`)).failures).toMatchObject([
      { name: "library-1.2", standing: "red_before" },
    ]);
  });
});
