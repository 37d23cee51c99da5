import { expect, test } from "vitest";
import { nixAvailable, withNixDaemon } from "#test/support/nix.ts";
import { withTemporaryFolder } from "#test/support/temporary-folder.ts";
import { readWorkerConfig } from "./config.ts";
import { buildSlots, groupSize, parseNixSettings, preparedBuilds, readStoreFacts } from "./store-facts.ts";

const nix = nixAvailable();

function configFor(daemon: { readonly env: Readonly<Record<string, string>> }, dataDir: string) {
  return readWorkerConfig({
    PATH: process.env.PATH,
    GRADIENT_WORKER_SERVER_URL: "ws://127.0.0.1:3000/proto",
    GRADIENT_WORKER_DATA_DIR: dataDir,
    ...daemon.env,
  }).config;
}

test.each([
  { buildsMax: 100, daemonConnectionsMax: 32, buildUsers: 10, slots: 10 },
  { buildsMax: 100, daemonConnectionsMax: 32, buildUsers: null, slots: 24 },
  { buildsMax: 4, daemonConnectionsMax: 32, buildUsers: 10, slots: 4 },
  { buildsMax: 100, daemonConnectionsMax: 4, buildUsers: null, slots: 2 },
])("$buildsMax builds, $daemonConnectionsMax connections and $buildUsers users make $slots slots", (limits) => {
  expect(buildSlots(limits)).toBe(limits.slots);
});

test.each([
  { places: 24, connections: 32, prepared: 2 },
  { places: 5, connections: 8, prepared: 1 },
  { places: 2, connections: 4, prepared: 0 },
  { places: 1, connections: 1, prepared: 0 },
])("beside $places places $connections connections leave room to prepare $prepared builds", (limits) => {
  expect(preparedBuilds(limits)).toBe(limits.prepared);
});

test("a group's size is that of /etc/group, and an unknown or empty group limits nothing", () => {
  const groups = "root:x:0:\nnixbld:x:994:nixbld1,nixbld2,nixbld3\nnixbld2:x:995:a\n";

  expect(groupSize(groups, "nixbld")).toBe(3);
  expect(groupSize(groups, "root")).toBeNull();
  expect(groupSize(groups, "nix")).toBeNull();
});

test("what is not the settings of Nix is refused", () => {
  expect(parseNixSettings("")).toBeNull();
  expect(parseNixSettings("[]")).toBeNull();
  expect(parseNixSettings('{"system":{"value":7}}')).toBeNull();
  expect(parseNixSettings('{"system":{"value":"x86_64-linux"}}')).toMatchObject({
    extraPlatforms: [],
    buildUsersGroup: "",
  });
});

test.skipIf(!nix.ok)("a real daemon that trusts us tells what this machine can build", async () => {
  await using daemon = await withNixDaemon({
    settings: { "extra-platforms": "riscv64-linux", "system-features": "kvm" },
  });
  await using folder = await withTemporaryFolder();

  const facts = await readStoreFacts(configFor(daemon, folder.path));

  expect(facts.architectures).toEqual([expect.stringMatching(/^(?:x86_64|aarch64)-linux$/), "riscv64-linux"]);
  expect(facts.systemFeatures).toEqual(["kvm"]);
  expect(facts.maxConcurrentBuilds).toBe(24);
  expect(facts.nixVersion).toBe(nix.ok ? nix.version : "");
});

test.skipIf(!nix.ok)("a daemon that does not trust us is refused with what to change", async () => {
  await using daemon = await withNixDaemon({ settings: { "trusted-users": "somebody-else" } });
  await using folder = await withTemporaryFolder();

  await expect(readStoreFacts(configFor(daemon, folder.path))).rejects.toThrow("trusted-users");
});

test("a daemon that is not there is named by its socket", async () => {
  await using folder = await withTemporaryFolder();
  const env = { NIX_REMOTE: `unix://${folder.path}/none.sock` };

  await expect(readStoreFacts(configFor({ env }, folder.path))).rejects.toThrow(`there is no socket at ${folder.path}`);
});
