import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, test } from "vitest";
import { withTemporaryFolder } from "#test/support/temporary-folder.ts";
import { type ConfigError, readConfig } from "../config.ts";
import type { StorageSettings } from "./storage.ts";

function storage(environment: Record<string, string>): StorageSettings {
  return readConfig(environment).config.storage;
}

function problems(environment: Record<string, string>): readonly string[] {
  try {
    readConfig(environment);
    return [];
  } catch (error) {
    return (error as ConfigError).problems;
  }
}

test("without a bucket what is stored is on the disk, and we send it", () => {
  const none = { s3: null, movingTo: null, proxyPath: null, proxyLogPath: null };
  expect(storage({})).toEqual({ ...none, sharedPath: null, redirected: false });
});

test("a bucket is Amazon's, with the rights of the machine, unless more is said", () => {
  const settings = storage({ GRADIENT_S3_BUCKET: "nars" });
  expect(settings.s3).toEqual({
    bucket: "nars",
    region: "us-east-1",
    endpoint: null,
    credentials: null,
    prefix: "",
    virtualHosted: true,
  });
  expect(settings.redirected).toBe(true);
  expect(storage({ GRADIENT_S3_BUCKET: "nars.example.com" }).s3?.virtualHosted).toBe(false);
});

test("every option of S3 does what it says", async () => {
  await using folder = await withTemporaryFolder();
  const secretFile = join(folder.path, "secret");
  await writeFile(secretFile, " a secret \n");
  const environment = {
    GRADIENT_S3_BUCKET: "nars",
    GRADIENT_S3_REGION: "eu-central-1",
    GRADIENT_S3_ENDPOINT: "https://s3.example.com/",
    GRADIENT_S3_ACCESS_KEY_ID: "key",
    GRADIENT_S3_SECRET_ACCESS_KEY_FILE: secretFile,
    GRADIENT_S3_PREFIX: "/ci/gradient",
  };
  expect(storage(environment).s3).toEqual({
    bucket: "nars",
    region: "eu-central-1",
    endpoint: "https://s3.example.com",
    credentials: { accessKeyId: "key", secretAccessKey: "a secret" },
    prefix: "ci/gradient/",
    virtualHosted: false,
  });
  expect(storage({ ...environment, GRADIENT_S3_VIRTUAL_HOSTED_STYLE: "true" }).s3?.virtualHosted).toBe(true);
});

test("clients are sent to S3 where they can reach it: not on our loopback, and not against the operator's word", () => {
  const bucket = { GRADIENT_S3_BUCKET: "nars" };
  for (const host of ["127.0.0.1", "localhost", "[::1]", "127.1.2.3"]) {
    expect(storage({ ...bucket, GRADIENT_S3_ENDPOINT: `http://${host}:9000` }).redirected).toBe(false);
  }
  const local = { ...bucket, GRADIENT_S3_ENDPOINT: "http://127.0.0.1:9000" };
  expect(storage({ ...local, GRADIENT_S3_REDIRECT: "true" }).redirected).toBe(true);
  expect(storage({ ...bucket, GRADIENT_S3_REDIRECT: "false" }).redirected).toBe(false);
  expect(storage({ GRADIENT_S3_REDIRECT: "true" }).redirected).toBe(false);
});

test("nginx is named files where there are any: on the disk, and in both places while they move", () => {
  const located = { GRADIENT_NGINX_STORAGE_LOCATION: "/internal-storage/", GRADIENT_NGINX_LOG_PATH: "/run/nginx" };
  const bucket = { ...located, GRADIENT_S3_BUCKET: "nars" };
  expect(storage(located)).toMatchObject({ proxyPath: "/internal-storage/", proxyLogPath: "/run/nginx" });
  expect(storage(bucket)).toMatchObject({ proxyPath: null, proxyLogPath: null });
  for (const to of ["s3", "disk"]) {
    const moving = storage({ ...bucket, GRADIENT_STORAGE_MOVING_TO: to });
    expect(moving).toMatchObject({ proxyPath: "/internal-storage/", proxyLogPath: "/run/nginx" });
  }
});

test("what is half filled in or wrong stops the start, and is said in words", async () => {
  await using folder = await withTemporaryFolder();
  const empty = join(folder.path, "empty");
  await writeFile(empty, "\n");

  expect(
    problems({
      GRADIENT_S3_ENDPOINT: "https://s3.example.com",
      GRADIENT_S3_ACCESS_KEY_ID: "key",
      GRADIENT_S3_PREFIX: "../others",
      GRADIENT_STORAGE_MOVING_TO: "s3",
      GRADIENT_NGINX_STORAGE_LOCATION: "internal",
    }),
  ).toEqual([
    "GRADIENT_S3_PREFIX=../others: must be names between slashes such as gradient",
    "GRADIENT_S3_SECRET_ACCESS_KEY_FILE: is missing beside GRADIENT_S3_ACCESS_KEY_ID",
    "GRADIENT_S3_ENDPOINT: has no effect without GRADIENT_S3_BUCKET: set it, or leave this one out",
    "GRADIENT_S3_ACCESS_KEY_ID: has no effect without GRADIENT_S3_BUCKET: set it, or leave this one out",
    "GRADIENT_STORAGE_MOVING_TO: objects move to or from S3: set GRADIENT_S3_BUCKET too",
    "GRADIENT_NGINX_STORAGE_LOCATION=internal: must be an internal location such as /internal-storage/",
  ]);
  expect(
    problems({
      GRADIENT_S3_BUCKET: "Not/A/Bucket",
      GRADIENT_S3_REGION: "eu central",
      GRADIENT_S3_SECRET_ACCESS_KEY_FILE: empty,
      GRADIENT_S3_ACCESS_KEY_ID: "key",
    }),
  ).toEqual([
    "GRADIENT_S3_BUCKET=Not/A/Bucket: must be a bucket's name such as gradient-nars",
    "GRADIENT_S3_REGION=eu central: must be a region's name such as eu-central-1",
    "GRADIENT_S3_SECRET_ACCESS_KEY_FILE: the file is empty",
  ]);
});

test("where nginx writes down what it has sent is of use where nginx sends anything", () => {
  expect(problems({ GRADIENT_NGINX_LOG_PATH: "/run/nginx" })).toEqual([
    "GRADIENT_NGINX_LOG_PATH: has no effect without GRADIENT_NGINX_STORAGE_LOCATION: set it, or leave this one out",
  ]);
});

test.each(["/x/../y/", "/.hidden/", "/a b/", "//", "/", "/a//b/", "/a;b/", "/a/b"])("%j is no location", (location) => {
  expect(problems({ GRADIENT_NGINX_STORAGE_LOCATION: location })).toHaveLength(1);
});
