import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { toHex, utf8 } from "#core/lib/bytes.ts";
import { nodeHasher } from "#runtime/node/hasher.ts";
import { ORGANIZATION } from "../e2e/gradient.ts";
import { git } from "../support/git.ts";
import { nixAvailable } from "../support/nix.ts";
import { type Fleet, PROJECT, type Published, withFleet } from "./support/fleet.ts";
import type { Host } from "./support/host.ts";
import { expectSettled, viewOf } from "./support/server-view.ts";
import { SWITCH_SCRIPT } from "./support/switch-script.ts";
import { commitSystems, systemFlake } from "./support/system-flake.ts";

const nix = nixAvailable();
const HOSTS = ["alpha"];

describe.skipIf(!nix.ok)("which build a host takes", () => {
  let fleet: Fleet;
  let host: Host;
  let first: Published;
  /** What the host is to run at this point of the story. */
  let path: string;

  beforeAll(async () => {
    fleet = await withFleet({ label: "one", hosts: [...HOSTS, "broken"], broken: ["broken"] });
    first = await fleet.evaluate();
    const second = await fleet.publish({ label: "two", hosts: HOSTS });
    host = await fleet.hostWith("alpha", first.systems.alpha as string);
    path = second.systems.alpha as string;
    expect(await host.run()).toMatchObject({ end: "deployed" });
  });
  afterAll(() => fleet?.[Symbol.asyncDispose]());

  async function expectStays(): Promise<void> {
    expect((await viewOf(fleet, "alpha")).wanted?.store_path).toBe(path);
    expect(await host.run()).toMatchObject({ end: "up-to-date" });
    await expectSettled(fleet, host, path);
  }

  test("not that of another branch, which a member built by hand", async () => {
    await git(fleet.repository, "checkout", "-q", "-b", "experiment");
    await commitSystems(fleet.repository, { label: "experiment", hosts: HOSTS });
    await git(fleet.repository, "checkout", "-q", "main");
    const other = await fleet.evaluate("experiment");
    expect(other.systems.alpha).toMatch(/^\/nix\/store\//);
    await expectStays();
  });

  test("not that of an old evaluation whose failures ran again", async () => {
    await fleet.restart(first.evaluation);
    await expectStays();
  });

  test("not that of a source that somebody sent", async () => {
    await sendSource({
      "flake.nix": systemFlake({ label: "sent", hosts: HOSTS }),
      "switch-to-configuration": SWITCH_SCRIPT,
    });
    await expectStays();
  });

  test("that of a branch that was pushed by force, which is the newest", async () => {
    await git(fleet.repository, "reset", "-q", "--hard", "HEAD~1");
    const forced = await fleet.publish({ label: "forced", hosts: HOSTS });
    path = forced.systems.alpha as string;
    expect(await host.run()).toMatchObject({ end: "deployed" });
    await expectSettled(fleet, host, path);
  });

  test("an older one only when it is told to", async () => {
    const older = await fleet.evaluate("experiment");
    const newest = await fleet.publish({ label: "newest", hosts: HOSTS });
    expect(await host.run()).toMatchObject({ end: "deployed" });
    path = newest.systems.alpha as string;
    await fleet.gradient.api.request("PATCH", `/projects/${PROJECT}`, { deploy_branch: "experiment" });
    const wanted = older.systems.alpha as string;
    expect((await viewOf(fleet, "alpha")).wanted?.store_path).toBe(wanted);

    expect(await host.run()).toMatchObject({ end: "older", code: 12 });
    await expectSettled(fleet, host, path);
    expect(await host.run("--allow-older")).toMatchObject({ end: "deployed", code: 0 });
    await expectSettled(fleet, host, wanted);
  });

  /** A build request with these files, and its end. */
  async function sendSource(files: Readonly<Record<string, string>>): Promise<void> {
    const { api, url } = fleet.gradient;
    const named = await Promise.all(
      Object.entries(files).map(async ([path, text]) => {
        const hash = await nodeHasher.blake3();
        hash.update(utf8(text));
        return { path, text, hash: toHex(hash.digest()), size: utf8(text).length };
      }),
    );
    const opened = await api.request<{ session: string }>("POST", "/build-requests/manifest", {
      organization: ORGANIZATION,
      files: named.map(({ path, hash, size }) => ({ path, hash, size })),
    });
    const form = new FormData();
    for (const { hash, text } of named) form.append(hash, new Blob([text]));
    const headers = { authorization: `Bearer ${api.token}` };
    await fetch(`${url}/api/v1/build-requests/${opened.session}/blobs`, { method: "POST", headers, body: form });
    const path = `/build-requests/${opened.session}/dispatch`;
    const { evaluation } = await api.request<{ evaluation: string }>("POST", path, {});
    expect(await api.waitForEnd(evaluation)).toMatchObject({ status: "Completed" });
  }
});
