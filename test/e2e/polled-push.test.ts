import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { TriggerView } from "#core/api/triggers.ts";
import { nixAvailable } from "../support/nix.ts";
import { commitFiles, flakeOf, makeRepository } from "../worker/evaluation-setup.ts";
import { outputOf } from "./builds.ts";
import { addProject, type Gradient, withGradient } from "./gradient.ts";

const nix = nixAvailable();
const reason = nix.ok ? "" : ` (skipped: ${nix.reason})`;

const flake = (text: string) => ({
  "flake.nix": flakeOf(`{ packages.\${system}.app = mk "app" "echo ${text} > $out" {}; }`),
});

interface Summary {
  readonly id: string;
  readonly commit: string;
  readonly trigger: { readonly id: string; readonly type: string } | null;
}

describe.skipIf(!nix.ok)(`a commit that is pushed${reason}`, () => {
  let gradient: Gradient;
  beforeAll(async () => {
    gradient = await withGradient();
  });
  afterAll(() => gradient?.[Symbol.asyncDispose]());

  test("is built without anybody asking for it, and the badge says so", { timeout: 60_000 }, async () => {
    const { api } = gradient;
    const repository = await makeRepository(gradient.daemon, flake("first"));
    const project = await addProject(api, "polled", repository.url, "packages.*.*");
    const commit = await commitFiles(repository.folder, flake("second"), "second");
    const [trigger] = await api.request<TriggerView[]>("GET", `/projects/${project}/triggers`);
    // Whoever switches it on wants to see it at once.
    const seen = await api.request<TriggerView>("PATCH", `/projects/${project}/triggers/${trigger?.id}`, {
      active: true,
    });

    let newest: Summary | undefined;
    while (!newest) {
      [newest] = await api.request<Summary[]>("GET", `/projects/${project}/evaluations`);
      await sleep(50);
    }
    expect(newest).toMatchObject({ commit, trigger: { id: seen.id, type: "polling" } });
    expect(await api.waitForEnd(newest.id)).toMatchObject({ status: "Completed" });
    expect(await outputOf(gradient, newest.id, "app")).toMatch(/-app$/);
    const badge = await (await api.fetch("GET", `/projects/${project}/badge`)).text();
    expect(badge).toContain("<title>gradient: passing</title>");
  });
});
