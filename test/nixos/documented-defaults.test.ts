import { describe, expect, test } from "vitest";
import { canEvaluate, evaluateSystems } from "./support/evaluate.ts";
import { MINIMAL, REMOTE_WORKER, sound, withModules } from "./support/systems.ts";

/** The documentation's table of the server's options, with its defaults. */
const SERVER = {
  baseDir: "/var/lib/gradient",
  listenAddr: "127.0.0.1",
  port: 3000,
  metricsTokenFile: null,
  databaseUrlFile: null,
  databaseMaxConnections: 32,
  databaseMinConnections: 2,
  databaseWebMaxConnections: 16,
  databaseWebMinConnections: 1,
  reportErrors: false,
  "settings.sentryDsn": null,
  discoverable: true,
  "settings.maxProtoConnections": 256,
  "settings.keepEvaluations": 5,
  "settings.maxRequestSize": 2_097_152,
  "settings.logLevel.default": "info",
  "settings.logLevel.cache": null,
  "settings.logLevel.web": null,
  "settings.logLevel.proto": null,
  "settings.enableRegistration": true,
  "settings.deleteState": true,
  "settings.cacheTtlHours": 336,
  "settings.narStorageOpenTimeoutSecs": 60,
  "settings.narSendChunkTimeoutSecs": 30,
  "settings.maxConcurrentNarServes": 8,
  "settings.maxNarBufferBytes": 10_737_418_240,
  "settings.trustedProxies": "127.0.0.1/32,::1/128",
  "settings.localIps": "10.0.0.0/8",
  "reverseProxy.nginx.enable": false,
  "reverseProxy.caddy.enable": false,
  "reverseProxy.caddy.useACMEHost": null,
  "reverseProxy.caddy.extraConfig": "",
};

/** The documentation's table of the worker's options, with its defaults. */
const WORKER = {
  serverUrl: null,
  workerId: null,
  peersFile: null,
  useTls: true,
  discoverable: false,
  listenAddr: "127.0.0.1",
  port: 3100,
  "capabilities.fetch": false,
  "capabilities.eval": false,
  "capabilities.build": false,
  "capabilities.sign": false,
  "capabilities.federate": false,
  "settings.maxConcurrentBuilds": 100,
  "settings.evalWorkers": 1,
  "settings.maxConcurrentEvaluations": 1,
  "settings.maxEvaluationsPerWorker": 20,
  "settings.maxNixdaemonConnections": 32,
  "settings.maxProtoConnections": 16,
  "settings.gcrootsDir": "/nix/var/nix/gcroots/gradient",
  "settings.logLevel.default": "info",
  "settings.logLevel.eval": null,
  "settings.logLevel.build": null,
  "settings.logLevel.proto": null,
};

describe.skipIf(!canEvaluate())("the documentation's tables", () => {
  const evaluated = evaluateSystems({ both: withModules(["default", "gradient-worker"], [MINIMAL, REMOTE_WORKER]) });

  test.each(Object.entries(SERVER))("services.gradient.%s is %s where nobody sets it", (name, value) => {
    expect(sound(evaluated.both).defaults).toHaveProperty([name], value);
  });

  test.each(Object.entries(WORKER))("services.gradient.worker.%s is %s where nobody sets it", (name, value) => {
    expect(sound(evaluated.both).defaults).toHaveProperty([`worker.${name}`], value);
  });

  test.each(["domain", "jwtSecretFile", "cryptSecretFile"])("services.gradient.%s has to be set", (name) => {
    expect(sound(evaluated.both).defaults).toHaveProperty([name], null);
  });
});
