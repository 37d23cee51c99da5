import { expect, test } from "vitest";
import { isOwnPage, mayOpenSocket } from "./page-origin.ts";

const ORIGINS = { serveUrl: "https://ci.example.com/", pageOrigins: ["http://127.0.0.1:8000"] };

test("only pages of the server and those that are listed are ours, to the scheme and the port", () => {
  for (const origin of ["https://ci.example.com", "http://127.0.0.1:8000"]) {
    expect(isOwnPage(origin, ORIGINS)).toBe(true);
  }
  const others = ["http://ci.example.com", "https://ci.example.com:8443", "https://ci.example.com.evil.example"];
  for (const origin of [...others, "https://evil.example", "http://127.0.0.1:8001", "null", "", "x"]) {
    expect([origin, isOwnPage(origin, ORIGINS)]).toEqual([origin, false]);
  }
});

test("a socket is opened by our pages and by programs, never by a page of others", () => {
  expect(mayOpenSocket(null, ORIGINS)).toBe(true);
  expect(mayOpenSocket(undefined, ORIGINS)).toBe(true);
  expect(mayOpenSocket("https://ci.example.com", ORIGINS)).toBe(true);
  expect(mayOpenSocket("https://evil.example", ORIGINS)).toBe(false);
  expect(mayOpenSocket("null", ORIGINS)).toBe(false);
});
