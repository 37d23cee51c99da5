import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { git, withGitServer } from "../support/git.ts";
import { nixAvailable } from "../support/nix.ts";
import type { BuildItem, EvaluationView } from "./api.ts";
import { commitFlake } from "./flake.ts";
import { addProject, type Gradient, ORGANIZATION, withGradient } from "./gradient.ts";

const nix = nixAvailable();
const reason = nix.ok ? "" : ` (skipped: ${nix.reason})`;
const MIB = 1024 * 1024;

interface Outcome {
  readonly id: string;
  readonly view: EvaluationView & { readonly error: string | null };
  /** Errors of the whole evaluation under the empty text, others under their attribute. */
  readonly errors: Readonly<Record<string, string>>;
  readonly builds: readonly BuildItem[];
}

describe.skipIf(!nix.ok)(`bad input gets a clear error and loses nothing${reason}`, () => {
  let gradient: Gradient;
  let projects = 0;

  beforeAll(async () => {
    gradient = await withGradient();
  }, 60_000);

  afterAll(async () => {
    await gradient?.[Symbol.asyncDispose]();
  });

  async function project(repository: string, wildcard = "packages.*"): Promise<string> {
    return await addProject(gradient.api, `project-${++projects}`, repository, wildcard);
  }

  /** Evaluates a repository with this flake to its end. */
  async function evaluate(flake: string, { wildcard = "packages.*" } = {}): Promise<Outcome> {
    const folder = join(gradient.folder, `repository-${projects + 1}`);
    const url = await commitFlake(folder, { "flake.nix": flake }, "A commit");
    return await outcomeOf(await gradient.api.evaluate(await project(url, wildcard)));
  }

  async function outcomeOf(id: string): Promise<Outcome> {
    const view = (await gradient.api.waitForEnd(id)) as Outcome["view"];
    const messages = await gradient.api.messages(id);
    const errors = messages.flatMap(({ level, message, entry_points }) =>
      level === "Error" ? [[entry_points.join(","), message] as const] : [],
    );
    return { id, view, errors: Object.fromEntries(errors), builds: await gradient.api.builds(id) };
  }

  function named(builds: readonly BuildItem[], name: string): BuildItem {
    const found = builds.find((build) => build.name.endsWith(`-${name}.drv`));
    if (!found) throw new Error(`no build ${name} among ${builds.map((build) => build.name).join(", ")}`);
    return found;
  }

  test.each([
    [
      "that is not there",
      "file:///nowhere",
      "fatal: '/nowhere' does not appear to be a git repository. Check its address, and that this server may read it",
    ],
    [
      "on a server that does not answer",
      "http://127.0.0.1:1/site",
      "fatal: unable to access 'http://127.0.0.1:1/site/': Failed to connect to 127.0.0.1 port 1",
    ],
    ["on a host that does not exist", "https://site.invalid/site", "Could not resolve host: site.invalid"],
  ])("a repository %s is refused where it is asked for, in git's words", async (_, repository, words) => {
    const name = await project(repository);

    for (const path of ["evaluate", "check-repository"]) {
      const asked = gradient.api.request("POST", `/projects/${name}/${path}`, {});
      await expect(asked).rejects.toThrow("400 repository_unreachable: the repository cannot be read: ");
      await expect(asked).rejects.toThrow(words);
    }
    expect(await gradient.api.request("GET", `/projects/${name}/evaluations`)).toEqual([]);
  });

  test("a repository without a commit is told from one that is not there", async () => {
    const folder = join(gradient.folder, "empty");
    await mkdir(folder);
    await git(folder, "init", "-q");

    await expect(gradient.api.evaluate(await project(`file://${folder}`))).rejects.toThrow(
      "400 repository_unreachable: the repository cannot be read: the repository has no commit yet: push one first",
    );
  });

  test.each([
    ["git://example.org/site", "git:// proves nothing about who answers: use https:// or ssh://"],
    ["nixpkgs", "it is neither a URL such as https://host/path nor of the form git@host:path"],
    ["https://example.org/site#packages", "it holds a #: name the attributes in the project's patterns"],
    ["--upload-pack=x", "it starts with a dash"],
  ])("the address %s is refused before a project is made", async (repository, words) => {
    await expect(project(repository)).rejects.toThrow(
      `400 validation: repository: the repository's address cannot be used: ${words}`,
    );
  });

  test.each([
    ["", "no pattern is given: write * to evaluate everything"],
    ["packages..x", "pattern 1 (packages..x) has an empty name at character 10: remove the extra dot"],
    ["!packages", "every pattern excludes: add one that says what to evaluate, such as *"],
  ])("the pattern «%s» is refused before a project is made", async (wildcard, words) => {
    await expect(project("https://example.org/site", wildcard)).rejects.toThrow(`400 validation: wildcard: ${words}`);
  });

  test("a flake that does not parse fails with the place in its file", async () => {
    const { view, errors, builds } = await evaluate("{ outputs = { self }: { packages = ; }; }");

    expect(view).toMatchObject({ status: "Failed", error: "syntax error, unexpected ';'\nat flake.nix:1:36" });
    expect(errors).toEqual({ "": "syntax error, unexpected ';'\nat flake.nix:1:36" });
    expect(builds).toEqual([]);
  });

  test("a repository without a flake says which commit, and what to do", async () => {
    const url = await commitFlake(join(gradient.folder, "no-flake"), { README: "nothing" }, "No flake");
    const { view } = await outcomeOf(await gradient.api.evaluate(await project(url)));

    expect(view.error).toMatch(
      /^commit [0-9a-f]{40} has no flake\.nix at its top: add one, or correct the project's repository$/,
    );
  });

  test("attributes that throw, recurse or abort fail alone, each in its words, and the others are built", async () => {
    const { view, errors, builds } = await evaluate(
      flakeOf(`{
        good = mk "good" "echo > $out";
        throws = throw "not today";
        aborts = abort "never";
        loops = let x = x; in x;
        recurses = let f = x: 1 + f x; in f 1;
      }`),
    );

    expect(view.status).toBe("Failed");
    expect(builds).toMatchObject([{ status: "Completed" }]);
    expect(named(builds, "good").status).toBe("Completed");
    expect(errors).toEqual({
      "packages.x86_64-linux.throws": "not today",
      "packages.x86_64-linux.aborts": "evaluation aborted with the following error message: 'never'",
      "packages.x86_64-linux.loops": expect.stringMatching(/^infinite recursion encountered\n/),
      "packages.x86_64-linux.recurses": expect.stringMatching(/^stack overflow/),
    });
  });

  test("a pattern that matches nothing says what the flake has", async () => {
    const { view, errors } = await evaluate(flakeOf(`{ good = mk "good" "echo > $out"; }`), { wildcard: "checks.*" });

    expect(view.status).toBe("Failed");
    expect(errors).toEqual({
      "": "no attribute matches checks.*: correct the project's patterns; the flake has: packages",
    });
  });

  test("builders that fail end their log with why, whatever they print, and take dependents alone along", async () => {
    const { view, builds } = await evaluate(
      flakeOf(`rec {
        bad = mk "bad" "echo about to fail; printf 'a\\\\0b\\\\n'; exit 3";
        above = mk "above" "cat \${bad} > $out";
        none = mk "none" "echo nothing to see";
        missing = derivation { name = "missing"; system = "x86_64-linux"; builder = "/bin/no-such-builder"; };
        good = mk "good" "echo > $out";
      }`),
    );

    expect(view.status).toBe("Failed");
    expect(Object.fromEntries(builds.map(({ name, status }) => [name.slice(33, -4), status]))).toEqual({
      bad: "FailedPermanent",
      above: "DependencyFailed",
      none: "FailedPermanent",
      missing: "FailedPermanent",
      good: "Completed",
    });
    expect(await gradient.api.log(named(builds, "bad").id)).toBe(
      "about to fail\na\0b\n=== build failed: builder failed with exit code 3\n",
    );
    expect(await gradient.api.log(named(builds, "none").id)).toBe(
      "nothing to see\n=== build failed: builder failed to produce output path for output 'out'\n",
    );
    expect(await gradient.api.log(named(builds, "missing").id)).toContain("/bin/no-such-builder");
  });

  test("a log of 100 MB is cut with a line that says so, and its build goes on", async () => {
    const { view, builds } = await evaluate(
      flakeOf(`{ loud = mk "loud" "head -c 104857600 /dev/zero | tr '\\\\0' x | fold -w 9999; echo > $out"; }`),
    );

    expect(view.status).toBe("Completed");
    const log = await gradient.api.log(named(builds, "loud").id);
    expect(log.length).toBeGreaterThan(7 * MIB);
    expect(log.length).toBeLessThan(9 * MIB);
    const cut = "more than 8 MiB in a minute or 64 MiB in an hour; the build goes on, and the end will follow]\n";
    expect(log).toContain(`[gradient: log truncated: ${cut}[gradient: `);
    // The last line of the builder, which is shorter than the others, is the last of the log.
    expect(log.trimEnd().split("\n").at(-1)).toBe("x".repeat(104_857_600 % 9_999));
  }, 120_000);

  test("a password in a repository's address is used, and seen by nobody", async () => {
    const password = "s3cret-of-the-forge";
    const flake = flakeOf(`{ good = mk "good-by-http" "echo > $out"; bad = throw "not today"; }`);
    await commitFlake(join(gradient.folder, "served", "site"), { "flake.nix": flake }, "Over http");
    await using server = await withGitServer(join(gradient.folder, "served"), `ada:${password}`);
    const address = (userInfo: string) => `${server.url.replace("://", `://${userInfo}@`)}/site/.git`;

    const wrong = await gradient.api.evaluate(await project(address("ada:wr0ng-one"))).catch(String);
    const { id, view, errors, builds } = await outcomeOf(
      await gradient.api.evaluate(await project(address(`ada:${password}`))),
    );
    expect(named(builds, "good-by-http").status).toBe("Completed");
    // The repository is gone when the worker comes to fetch a commit that it does not have.
    const gone = await goneMeanwhile(server.url, address(`ada:${password}`));

    expect(wrong).toContain("400 repository_unreachable: the repository cannot be read: ");
    expect(gone).toContain("cannot be fetched: check the URL and the worker's access to it");
    const shown = [wrong, gone, JSON.stringify([view, errors, await gradient.api.messages(id)])];
    for (const text of [...shown, gradient.server.output(), gradient.worker.output()]) {
      expect(text).not.toContain(password);
      expect(text).not.toContain("wr0ng-one");
    }
  });

  /** Evaluates a commit that the server sees and the worker, a moment later, cannot fetch. Answers the error. */
  async function goneMeanwhile(url: string, address: string): Promise<string> {
    const name = await project(address.replace("/site/", "/other/"));
    const other = join(gradient.folder, "served", "other");
    await commitFlake(other, { "flake.nix": "{ outputs = { self }: { }; }" }, "Soon gone");
    await gradient.worker.stop();
    const id = await gradient.api.evaluate(name);
    await git(other, "config", "http.uploadpack", "false");
    expect((await fetch(url)).status).toBe(401);
    await gradient.startWorker();
    return (await outcomeOf(id)).view.error ?? "";
  }

  test("after all that the next good commit is evaluated and built", async () => {
    const { view } = await evaluate(flakeOf(`{ good = mk "the-last-good-one" "echo > $out"; }`));

    expect(view.status).toBe("Completed");
    const name = `${ORGANIZATION}/project-${projects}`;
    expect(await gradient.api.request("GET", `/projects/${name}`)).toMatchObject({
      last_evaluation_status: "Completed",
    });
  });
});

/** `packages` is Nix code in which `mk NAME SCRIPT` is known. */
function flakeOf(packages: string): string {
  return `{ outputs = { self }: let
    mk = name: script: derivation {
      inherit name; system = "x86_64-linux"; builder = "/bin/sh"; args = [ "-c" script ]; PATH = "/usr/bin:/bin";
    };
  in { packages.x86_64-linux = ${packages}; }; }
`;
}
