import { expect, test } from "vitest";
import { isKeyName } from "../nix/signature.ts";
import { serverName } from "./server-name.ts";

test("the server's name is its host, and can stand in the name of a key whatever the host is", () => {
  expect(serverName("https://ci.example.com/base")).toBe("ci.example.com");
  expect(serverName("http://127.0.0.1:3000")).toBe("127.0.0.1");
  expect(serverName("http://[2001:db8::1]:3000")).toBe("2001-db8--1");
  for (const url of ["http://[::1]:8000", "https://bücher.example"]) expect(isKeyName(serverName(url))).toBe(true);
});
