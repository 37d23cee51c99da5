import { afterAll, beforeAll, expect, test } from "vitest";
import { type BuildsApi, withBuildsApi } from "../support/builds-api.ts";
import { COMMIT, insertEvaluationRow, insertOrganization, insertProjectRow } from "../support/rows.ts";

const OTHER = "aaaabbbbccccddddeeeeffff0000111122223333";

let api: BuildsApi;
beforeAll(async () => {
  api = await withBuildsApi();
  const { organizationId } = api;
  const projectId = await insertProjectRow(api.db, { organizationId });
  await insertEvaluationRow(api.db, { organizationId, projectId, commitMessage: "Mend it\n\nAt last" });
  await api.db.updateTable("evaluation").set({ commit_author: "Ada" }).execute();
  // One that has not read it yet.
  await insertEvaluationRow(api.db, { organizationId, projectId });
});
afterAll(() => api[Symbol.asyncDispose]());

test("a commit is found by its id and by its hash, with its words", async () => {
  const expected = {
    id: "1f0c8e3a-5d7b-9f24-68ac-e13579bdf024",
    message: "Mend it\n\nAt last",
    hash: [...Buffer.from(COMMIT, "hex")],
    author: null,
    author_name: "Ada",
  };
  for (const id of [expected.id, expected.id.toUpperCase(), COMMIT]) {
    expect((await api.ask("GET", `/commits/${id}`, api.viewer)).message).toEqual(expected);
  }
});

test("who may see no evaluation of it learns nothing of a commit", async () => {
  for (const user of [api.stranger, null]) {
    for (const id of [COMMIT, OTHER, "aaaabbbb-cccc-dddd-eeee-ffff00001111"]) {
      const answer = await api.ask("GET", `/commits/${id}`, user);
      expect([answer.status, answer.message]).toEqual([404, "Commit not found"]);
    }
  }
  for (const id of ["x", COMMIT.slice(1), `${COMMIT}0`]) {
    const answer = await api.ask("GET", `/commits/${id}`, api.viewer);
    expect([answer.status, answer.code]).toEqual([400, "validation"]);
  }
});

test("one public evaluation is enough for everybody, however many private ones there are", async () => {
  const hash = `${OTHER.slice(0, 32)}00000000`;
  for (let i = 0; i < 101; i++) {
    const organizationId = await insertOrganization(api.db, { name: `private-${i}` });
    const projectId = await insertProjectRow(api.db, { organizationId });
    await insertEvaluationRow(api.db, { organizationId, projectId });
  }
  const organizationId = await insertOrganization(api.db, { name: "shown", public: true });
  const projectId = await insertProjectRow(api.db, { organizationId });
  await insertEvaluationRow(api.db, { organizationId, projectId });
  await api.db
    .updateTable("evaluation")
    .set({ commit_hash: hash })
    .where("organization_id", "!=", api.organizationId)
    .execute();
  expect((await api.ask("GET", `/commits/${hash}`, null)).status).toBe(200);
  // The first half of a hash is not the hash.
  expect((await api.ask("GET", `/commits/${OTHER}`, null)).status).toBe(404);
});
