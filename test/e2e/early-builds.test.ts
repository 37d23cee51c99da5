import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { nixAvailable } from "../support/nix.ts";
import { flakeOf, makeRepository } from "../worker/evaluation-setup.ts";
import { addProject, type Gradient, withGradient } from "./gradient.ts";

const nix = nixAvailable();

describe.skipIf(!nix.ok)("builds and evaluation at once", () => {
  let gradient: Gradient;
  beforeAll(async () => {
    gradient = await withGradient();
  });
  afterAll(() => gradient?.[Symbol.asyncDispose]());

  test("the first build is done before the last attribute is evaluated", async () => {
    const flake = flakeOf(`{ packages.\${system} = {
      quick = mk "quick" "echo quick > $out" {};
      slow = builtins.seq (builtins.foldl' (sum: n: builtins.seq (builtins.genList (x: x * n) 100000) n) 0
        (builtins.genList (n: n) 2000)) (mk "slow" "echo slow > $out" {});
    }; }`);
    const repository = await makeRepository(gradient.daemon, { "flake.nix": flake });
    const project = await addProject(gradient.api, "early", repository.url, "packages.*.*");
    const id = await gradient.api.evaluate(project);

    const seen: { readonly status: string; readonly builds: readonly string[] }[] = [];
    const deadline = performance.now() + 60_000;
    for (let ended = false; !ended && performance.now() < deadline; await sleep(20)) {
      const { status } = await gradient.api.evaluation(id);
      const builds = (await gradient.api.builds(id)).map((build) => `${build.name.slice(33)} ${build.status}`);
      seen.push({ status, builds });
      ended = status === "Completed" || status === "Failed";
    }
    expect(seen.at(-1)).toEqual({ status: "Completed", builds: ["quick.drv Completed", "slow.drv Completed"] });
    expect(seen).toContainEqual({ status: "EvaluatingDerivation", builds: ["quick.drv Completed"] });
  });
});
