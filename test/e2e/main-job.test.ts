import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { nixAvailable } from "../support/nix.ts";
import { endedBuilds, findBuild, outputOf, shortName } from "./builds.ts";
import { CacheClient, fetchNarInfo } from "./cache-client.ts";
import { commitFlake, FLAKE } from "./flake.ts";
import { addProject, type Gradient, publicKey, withGradient } from "./gradient.ts";
import { disturb } from "./main-job-disturbance.ts";
import { expectedOutcome, type Outcome, readOutcome } from "./main-job-outcome.ts";
import { damageObject, unfinishedObjects } from "./storage.ts";

const nix = nixAvailable();
const reason = nix.ok ? "" : ` (skipped: ${nix.reason})`;

/** The end of an evaluation may be known before the worker's last lines have come through its pipe. */
const LOGGED = { timeout: 5_000 };

interface Run {
  readonly title: string;
  /** What happens while the first evaluation runs. Answers the names of the builds that were interrupted. */
  readonly meanwhile: (gradient: Gradient, evaluation: string) => Promise<ReadonlySet<string>>;
}

const UNDISTURBED: Run = { title: "undisturbed", meanwhile: async () => new Set() };
const DISTURBED: Run = {
  title: "with the worker killed in mid-build and the server in mid-upload",
  meanwhile: disturb,
};

describe.skipIf(!nix.ok)(`from a commit to a signed cache${reason}`, () => {
  const ends = new Map<Run, { readonly outcome: Outcome; readonly interrupted: ReadonlySet<string> }>();

  describe.each([UNDISTURBED, DISTURBED])("$title", (run) => {
    let gradient: Gradient;
    let project: string;
    let repository: string;
    let first: string;
    let interrupted: ReadonlySet<string>;

    beforeAll(async () => {
      gradient = await withGradient();
      repository = join(gradient.folder, "repository");
      const url = await commitFlake(repository, { "flake.nix": FLAKE, "text.txt": "one\n" }, "The first commit");
      project = await addProject(gradient.api, "demo", url, "packages.*");
      first = await gradient.api.evaluate(project);
      interrupted = await run.meanwhile(gradient, first);
      await gradient.api.waitForEnd(first, 120_000);
      ends.set(run, { outcome: await readOutcome(gradient, project, first), interrupted });
    }, 300_000);

    afterAll(async () => {
      await gradient?.[Symbol.asyncDispose]();
    });

    test("everything is built but what fails, and what rests on it", async () => {
      const builds = await gradient.api.builds(first);
      const named = (status: string) => builds.filter((build) => build.status === status).map(shortName);

      expect(named("FailedPermanent")).toEqual(["broken"]);
      expect(named("DependencyFailed")).toEqual(["above", "above-too"]);
      // An interrupted build may have left its outputs in the worker's store.
      const found = named("Substituted");
      expect([...interrupted]).toEqual(expect.arrayContaining(found));
      expect(named("Completed")).toHaveLength(builds.length - 3 - found.length);
      expect(builds).toHaveLength(41);
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
      expect(dotted).toMatchObject({ eval: 'packages.x86_64-linux."a name.with dots"' });
      expect(points).toHaveLength(10);
    });

    test("the log of a failed build says what its builder said", async () => {
      const broken = await findBuild(gradient, first, "broken");

      expect(await gradient.api.log(broken.id)).toContain("about to fail");
    });

    test("the server keeps nothing that it has not received whole", async () => {
      expect(await unfinishedObjects(gradient)).toEqual([]);
    });

    test("stock Nix substitutes the results into an empty store and verifies them", async () => {
      const client = new CacheClient(gradient, "substituted");
      const [all, last] = [await outputOf(gradient, first, "all"), await outputOf(gradient, first, "last")];

      await client.copyAndVerify(all);
      await client.copyAndVerify(last);

      expect(await readFile(join(client.store, all), "utf8")).toContain("leaf 0");
      expect(await readFile(join(client.store, last), "utf8")).toMatch(/^slow\n60000005\n/);
    });

    test("without the cache's key nothing is accepted", async () => {
      const run = await new CacheClient(gradient, "untrusting").copy(await outputOf(gradient, first, "all"));

      expect(run.code).not.toBe(0);
      expect(run.stderr).toMatch(/signature/);
    });

    test("a second evaluation of the same commit builds nothing", async () => {
      const before = endedBuilds(gradient.worker);
      const second = await gradient.api.evaluate(project);
      await gradient.api.waitForEnd(second);

      const statuses = (await gradient.api.builds(second)).map(({ status }) => status);
      const settled = ["Completed", "FailedPermanent", "Substituted", "DependencyFailed"];
      expect(settled).toEqual(expect.arrayContaining(statuses));
      await sleep(200);
      expect(endedBuilds(gradient.worker)).toEqual(before);
    });

    test("a change of one line rebuilds only what depends on it", async () => {
      const before = endedBuilds(gradient.worker);
      await commitFlake(repository, { "text.txt": "two\n" }, "Another text");
      const third = await gradient.api.evaluate(project);
      await gradient.api.waitForEnd(third);

      const built = () => endedBuilds(gradient.worker).slice(before.length).sort();
      await expect.poll(built, LOGGED).toEqual(["text", "uses-text"]);
    });

    test("a changed byte in a stored object is never accepted, and its builder brings it back", async () => {
      const out = await outputOf(gradient, first, "several-1");
      await damageObject(gradient, await (await fetchNarInfo(gradient, out)).text());

      const copy = await new CacheClient(gradient, "damaged").copy(out, await publicKey(gradient.api));

      expect(copy.code).not.toBe(0);
      await gradient.worker.waitFor("a NAR that the server had lost was sent back");
      await expect.poll(async () => (await fetchNarInfo(gradient, out)).status, LOGGED).toBe(200);
      await new CacheClient(gradient, "mended").copyAndVerify(out);
    });

    test("what was lost once is there for the next evaluation", async () => {
      await writeFile(join(repository, "text.txt"), "three\n");
      await commitFlake(repository, {}, "A third text");
      const next = await gradient.api.evaluate(project);
      await gradient.api.waitForEnd(next);

      const out = await outputOf(gradient, next, "several-1");
      expect((await fetchNarInfo(gradient, out)).status).toBe(200);
    });
  });

  test("the disturbed run leaves behind exactly what the undisturbed one does", () => {
    const [undisturbed, disturbed] = [ends.get(UNDISTURBED), ends.get(DISTURBED)];
    if (!undisturbed || !disturbed) throw new Error("one of the runs did not end, see above");

    expect(disturbed.interrupted).toContain("slow");
    const expected = expectedOutcome(undisturbed.outcome, disturbed.outcome, disturbed.interrupted);
    expect(disturbed.outcome).toEqual(expected);
  });
});
