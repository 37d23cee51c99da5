import { expect, test } from "vitest";
import { needsKey } from "./evaluation-assignment.ts";

const evaluation = {
  part: "whole",
  trusted: true,
  repository: "https://example.org/site",
  input_overrides: [],
} as const;

test("the organization's key travels only to who fetches something over ssh", () => {
  expect(needsKey(evaluation)).toBe(false);
  for (const repository of ["ssh://git@example.org/site", "git+ssh://git@example.org/site", "git@example.org:site"]) {
    expect(needsKey({ ...evaluation, repository }), repository).toBe(true);
    expect(needsKey({ ...evaluation, repository, part: "fetch" }), repository).toBe(true);
    expect(needsKey({ ...evaluation, repository, part: "eval" }), repository).toBe(false);
    expect(needsKey({ ...evaluation, repository, trusted: false }), repository).toBe(false);
  }
  for (const repository of ["file:///srv/site", "/srv/site", "http://user@example.org:80/x"]) {
    expect(needsKey({ ...evaluation, repository }), repository).toBe(false);
  }
  const overridden = (url: string | null) => needsKey({ ...evaluation, input_overrides: [{ input: "a", url }] });
  expect(["git+ssh://git@example.org/a", "github:owner/name", null].map(overridden)).toEqual([true, false, false]);
});
