import { expect, test } from "vitest";
import { EnvironmentReader } from "./reader.ts";
import { readStateSettings } from "./state.ts";

test("nothing is declared where no file is named; what leaves a file is deleted unless deleteState is off", () => {
  expect(readStateSettings(new EnvironmentReader({}))).toEqual({
    file: null,
    deleteUnlisted: true,
    credentialsFolder: "/run/credentials/gradient-server",
  });
  const environment = {
    GRADIENT_STATE_FILE: "/etc/gradient/state.json",
    GRADIENT_DELETE_STATE: "false",
    GRADIENT_CREDENTIALS_DIR: "/run/credentials/other",
  };
  expect(readStateSettings(new EnvironmentReader(environment))).toEqual({
    file: "/etc/gradient/state.json",
    deleteUnlisted: false,
    credentialsFolder: "/run/credentials/other",
  });
});
