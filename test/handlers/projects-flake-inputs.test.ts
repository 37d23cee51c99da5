import { afterAll, beforeAll, expect, test } from "vitest";
import { createEvaluation } from "#core/services/evaluations-create.ts";
import { type BuildsApi, withBuildsApi } from "../support/builds-api.ts";
import { insertProjectRow } from "../support/rows.ts";

let api: BuildsApi;
let projectId: string;
const PATH = "/projects/acme/site/flake-inputs";

beforeAll(async () => {
  api = await withBuildsApi();
  projectId = await insertProjectRow(api.db, { organizationId: api.organizationId });
});
afterAll(() => api[Symbol.asyncDispose]());

interface Input {
  readonly id: string;
  readonly input_name: string;
  readonly url: string | null;
}

test("an input is overridden, changed, tracked and left alone again", async () => {
  const url = "github:NixOS/nixpkgs/nixos-unstable";
  const made = await api.ask("POST", PATH, api.writer, { input_name: "nixpkgs", url });
  const input = made.message as Input;
  expect(made.status).toBe(200);
  expect(input).toMatchObject({ id: expect.any(String), project: projectId, input_name: "nixpkgs", url });

  const changed = await api.ask("PATCH", `${PATH}/${input.id}`, api.writer, { url: null });
  expect(changed.message).toMatchObject({ input_name: "nixpkgs", url: null });
  expect((await api.ask("GET", `${PATH}/${input.id}`, api.viewer)).message).toMatchObject({ url: null });
  expect((await api.ask("GET", PATH, api.viewer)).message).toMatchObject([{ id: input.id }]);

  expect((await api.ask("DELETE", `${PATH}/${input.id}`, api.writer)).message).toEqual({ deleted: true });
  expect((await api.ask("DELETE", `${PATH}/${input.id}`, api.writer)).status).toBe(404);
  expect((await api.ask("GET", PATH, api.viewer)).message).toEqual([]);
});

test("names, patterns and addresses that cannot be meant are refused with a reason", async () => {
  const refused: [unknown, string][] = [
    [{ input_name: "1nix" }, "input_name: a name begins with a letter or _"],
    [{ input_name: "a b" }, "input_name: it may hold letters"],
    [{ input_name: "[" }, "input_name: its brackets"],
    [{ input_name: "a", url: "nixpkgs" }, "url: write a whole reference"],
    [{ input_name: "a", url: "path:/etc" }, "url: places on the machine"],
  ];
  for (const [body, reason] of refused) {
    const answer = await api.ask("POST", PATH, api.writer, body);
    expect([answer.status, answer.message]).toEqual([400, expect.stringContaining(reason)]);
  }
  await api.ask("POST", PATH, api.writer, { input_name: "twice" });
  const again = await api.ask("POST", PATH, api.writer, { input_name: "twice" });
  expect([again.status, again.message]).toEqual([400, expect.stringContaining("already")]);
  const [row] = (await api.ask("GET", PATH, api.writer)).message as Input[];
  await api.ask("DELETE", `${PATH}/${row?.id}`, api.writer);
});

test("who may not edit changes nothing and sees no password; who is no member sees nothing", async () => {
  const url = "git+https://user:word@example.org/repo";
  const { id } = (await api.ask("POST", PATH, api.writer, { input_name: "secret", url })).message as Input;

  for (const [method, path, body] of [
    ["POST", PATH, { input_name: "x" }],
    ["PATCH", `${PATH}/${id}`, { url: null }],
    ["DELETE", `${PATH}/${id}`, undefined],
  ] as const) {
    expect((await api.ask(method, path, api.viewer, body)).status).toBe(403);
    expect((await api.ask(method, path, api.stranger, body)).status).toBe(404);
  }
  expect((await api.ask("GET", PATH, api.stranger)).status).toBe(404);
  expect((await api.ask("GET", PATH, api.writer)).message).toMatchObject([{ url }]);
  const [seen] = (await api.ask("GET", PATH, api.viewer)).message as Input[];
  expect(seen?.url).toBe("git+https://***@example.org/repo");
  await api.ask("DELETE", `${PATH}/${id}`, api.writer);
});

test("an override of another project is not there", async () => {
  await insertProjectRow(api.db, { organizationId: api.organizationId, name: "other" });
  const { id } = (await api.ask("POST", PATH, api.writer, { input_name: "mine" })).message as Input;

  expect((await api.ask("GET", `/projects/acme/other/flake-inputs/${id}`, api.writer)).status).toBe(404);
  expect((await api.ask("DELETE", `/projects/acme/other/flake-inputs/${id}`, api.writer)).status).toBe(404);
  await api.ask("DELETE", `${PATH}/${id}`, api.writer);
});

test("an evaluation keeps the overrides that there were when it began", async () => {
  const url = "github:NixOS/nixpkgs";
  await api.ask("POST", PATH, api.writer, { input_name: "nixpkgs", url });
  const { id } = (await api.ask("POST", PATH, api.writer, { input_name: "flake-*" })).message as Input;
  const order = {
    projectId,
    organizationId: api.organizationId,
    repository: "https://example.com/site.git",
    commit: "0".repeat(40),
    startedBy: null,
  };
  const created = await createEvaluation(api.deps, order);
  await api.ask("DELETE", `${PATH}/${id}`, api.writer);

  const row = await api.db
    .selectFrom("evaluation")
    .select("input_overrides")
    .where("id", "=", created.id)
    .executeTakeFirstOrThrow();
  expect(row.input_overrides).toEqual([
    { input: "flake-*", url: null },
    { input: "nixpkgs", url },
  ]);
});
