import { expect, test } from "vitest";
import { describeProblem } from "#core/api/state.ts";
import { checkState } from "#core/services/state-check.ts";
import { secretsOf } from "#core/services/state-secrets.ts";
import { everything, RULES } from "./support.ts";

test("each secret has a credential of its own, by names that systemd takes", () => {
  const { document } = checkState(everything(), RULES);
  expect(secretsOf(document).map(({ credential }) => credential)).toEqual([
    "gradient_user_alice_password",
    "gradient_org_acme_private_key",
    "gradient_integration_acme_inbound_forge_secret",
    "gradient_integration_acme_outbound_forge_token",
    "gradient_action_acme_web_Tell-the-room_token",
    "gradient_cache_main_signing_key",
    "gradient_upstream_main_https---gradient.example.org_main_key",
    "gradient_api_alice_deploy_key",
    "gradient_api_bob_push-key_key",
    "gradient_worker_550e8400-e29b-41d4-a716-446655440001_token",
    "gradient_worker_550e8400-e29b-41d4-a716-446655440002_token",
  ]);
});

test("things of one name in two places do not share a secret", () => {
  const file = everything();
  file.integrations.other = { ...file.integrations.forge, name: "forge", organization: "globex" };
  file.projects["globex-web"].actions = [file.projects.web.actions[0]];
  const { document, problems } = checkState(file, RULES);
  expect(problems).toEqual([]);
  const credentials = secretsOf(document).map(({ credential }) => credential);
  expect(new Set(credentials).size).toBe(credentials.length);
});

test("a secret in the Nix store is warned of: everybody on the machine can read it", () => {
  const file = everything();
  file.users.alice.password_file = "/nix/store/x-password";
  const { warnings, problems } = checkState(file, RULES);
  expect(problems).toEqual([]);
  expect(warnings.map(describeProblem)).toEqual([
    "users.alice.password_file: /nix/store/x-password is in the Nix store, where everybody on the machine can read it",
  ]);
});
