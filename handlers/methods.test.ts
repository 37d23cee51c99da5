import { expect, test } from "vitest";
import { allowedMethods } from "./methods.ts";

const ROUTES = [
  { method: "ALL", path: "/api/v1/*" },
  { method: "GET", path: "/api/v1/orgs/:org" },
  { method: "PATCH", path: "/api/v1/orgs/:org" },
  { method: "POST", path: "/api/v1/orgs/:org/workers" },
  { method: "GET", path: "/api/v1/builds/:id/download/:file{.+}" },
  { method: "GET", path: "/api/v1/commits/:id{[0-9a-f]{4,8}}" },
  { method: "GET", path: "/api/v1/files/a.b" },
];

test("the methods of a path are those of the routes that match it, and middleware is none", () => {
  const cases: [string, string[]][] = [
    ["/api/v1/orgs/acme", ["GET", "HEAD", "PATCH"]],
    ["/api/v1/orgs/acme/workers", ["POST"]],
    ["/api/v1/orgs/acme/workers/", []],
    ["/api/v1/builds/1/download/a/b/c.txt", ["GET", "HEAD"]],
    ["/api/v1/commits/12ab", ["GET", "HEAD"]],
    ["/api/v1/commits/zz", []],
    ["/api/v1/files/a.b", ["GET", "HEAD"]],
    ["/api/v1/files/axb", []],
    ["/api/v1/nothing", []],
  ];
  for (const [path, methods] of cases) expect([path, allowedMethods(ROUTES, path)]).toEqual([path, methods]);
});
