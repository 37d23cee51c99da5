import { describe, expect, test } from "vitest";
import { everything, type Json, problemsOf } from "./support.ts";

/** What is said of the file with everything in it, after something in it was made wrong. */
function saidOf(mistake: (file: Json) => void): string[] {
  const file = everything();
  mistake(file);
  return problemsOf(file);
}

/** As the operator sees them. */
function list(problems: readonly string[]): string {
  return `${problems.join("\n")}\n`;
}

test("a file with everything in it is good, and so is an empty one", () => {
  expect(problemsOf(everything())).toEqual([]);
  expect(problemsOf({})).toEqual([]);
  expect(problemsOf({ users: null, workers: {} })).toEqual([]);
});

test("all mistakes are told at once, each with its path", async () => {
  const problems = saidOf((file) => {
    delete file.users.alice.email;
    file.users.alice.superuser = "yes";
    file.projects.web.triggers[0].config.interval_secs = 5;
    file.caches.main.members[0].role = "pushers";
    file.workers.builder.worker_id = "builder";
  });
  await expect(list(problems)).toMatchFileSnapshot("./mistakes/all-at-once.txt");
});

test("what an entry means is looked at also when something else in it has a wrong shape", () => {
  const problems = saidOf((file) => {
    file.users.alice.email = "no address";
    file.users.alice.username = "a b";
    file.projects.web.triggers = [];
    file.projects.web.repository = "/etc";
    file.projects.web.wildcard = "a b";
    file.projects.web.created_by = "nobody";
  });
  const paths = problems.map((line) => line.slice(0, line.indexOf(":")));
  const ofWeb = ["triggers", "repository", "wildcard", "created_by"].map((field) => `projects.web.${field}`);
  expect(paths).toEqual(expect.arrayContaining(["users.alice.email", "users.alice.username", ...ofWeb]));
  expect(new Set(paths).size, "none twice").toBe(paths.length);
});

describe("shapes", () => {
  test("what is no attribute set, list, text, number or truth is named", async () => {
    expect(problemsOf([])).toEqual(["the file must be an attribute set"]);
    expect(problemsOf("text")).toEqual(["the file must be an attribute set"]);
    expect(problemsOf({ users: [] })).toEqual(["users: must be an attribute set"]);
    const problems = saidOf((file) => {
      file.users.alice = [];
      file.users.bob = "bob";
      file.organizations.acme.members = {};
      file.organizations.globex.members = ["bob"];
      file.organizations.globex.description = 5;
      file.roles.deployer.permissions = "viewOrg";
      file.projects.web.triggers = {};
      file.projects.web.flake_input_overrides = [];
      file.projects.web.actions = [1];
      file.projects["globex-web"].triggers = [[], { type: "sometimes" }];
      file.caches.main.upstreams = [{ type: "http" }, 7];
      file.caches.base.priority = 1.5;
      file.caches.base.local_priority = -1;
      delete file.api_keys["push key"].key_file;
      delete file.workers.shared.token_file;
      file.api_keys.deploy.allowed_ips = "10.0.0.0/8";
      file.workers.builder.organizations = "acme";
    });
    await expect(list(problems)).toMatchFileSnapshot("./mistakes/shapes.txt");
  });

  test("what is not known is an error that says what was likely meant", async () => {
    const problems = saidOf((file) => {
      file.organisations = {};
      file.users.alice.pasword_file = "/x";
      file.projects.web.trigers = [];
      file.projects.web.triggers[0].config.interval = 5;
      file.projects.web.actions[0].config.tokenFile = "/x";
      file.projects.web.flake_input_overrides.nixpkgs.uri = "github:NixOS/nixpkgs";
      file.caches.main.upstreams[1].public_keys = "x";
      file.caches.main.organizations[1].modus = "x";
      file.workers.builder.zzzzzzzzzzz = 1;
    });
    await expect(list(problems)).toMatchFileSnapshot("./mistakes/unknown-words.txt");
  });

  test("texts and lists have limits", async () => {
    const problems = saidOf((file) => {
      file.users.alice.email = `${"a".repeat(250)}@example.com`;
      file.users.bob.name = "";
      file.organizations.acme.display_name = "é".repeat(51);
      file.organizations.acme.description = "x".repeat(10_001);
      file.organizations.globex.display_name = "a\u0007b";
      file.projects.web.repository = "";
      file.projects.web.keep_evaluations = 0;
      file.projects.web.triggers = Array(65).fill({ type: "polling" });
      file.caches.base.upstreams = Array(17).fill({ type: "internal", cache_name: "main" });
      file.roles.deployer.permissions = [];
      file.users.alice.password_file = "secrets/alice";
      file.api_keys.deploy.expires_at = "next year";
    });
    await expect(list(problems)).toMatchFileSnapshot("./mistakes/limits.txt");
  });
});

describe("names and references", () => {
  test("names follow the rules of their kind", async () => {
    const problems = saidOf((file) => {
      file.users["al ice"] = { email: "x@example.com" };
      file.users.carol = { username: "c__c", email: "c@example.com" };
      file.organizations.Initech = { created_by: null };
      file.organizations.available = { created_by: null };
      file.roles.Admin = { organization: "acme", permissions: ["viewOrg"] };
      file.roles.view = { name: "View", organization: "acme", permissions: ["viewOrg"] };
      file.roles.read_only = { organization: "acme", permissions: ["viewOrg"] };
      file.projects["build-request"] = { organization: "acme", repository: "https://x.example/y", created_by: null };
      file.caches["-x"] = { created_by: null };
      file.caches.main.roles.push({ name: "Write", permissions: ["viewCache"] });
      file.integrations["a b"] = { organization: "acme", kind: "inbound", forge_type: "gitea", created_by: null };
      file.api_keys["*"] = { owned_by: "alice", permissions: ["viewOrg"], key_file: null };
    });
    await expect(list(problems)).toMatchFileSnapshot("./mistakes/names.txt");
  });

  test("a role is called as its attribute where it says no name", () => {
    const file = everything();
    file.roles.releaser = { organization: "acme", permissions: ["viewOrg"] };
    file.organizations.acme.members.push({ user: "dave", role: "releaser" });
    expect(problemsOf(file)).toEqual([]);
  });

  test("an operator may call a user by a word that nobody may register with", () => {
    expect(problemsOf({ users: { admin: { email: "admin@example.com" } } })).toEqual([]);
  });

  test("what is referred to is declared in the file", async () => {
    const problems = saidOf((file) => {
      file.organizations.acme.created_by = "alcie";
      file.organizations.acme.members[0].role = "Administrator";
      file.organizations.globex.members = [{ user: "bob", role: "admin" }];
      file.roles.deployer.organization = "acmee";
      file.integrations.forge.organization = "nobody";
      file.projects.web.created_by = "nobody";
      file.projects["globex-web"].organization = "globe";
      file.projects["globex-web"].triggers = [{ type: "reporter_push", integration: "forge" }];
      file.caches.main.organizations[0] = "acm";
      file.caches.main.upstreams[0].cache_name = "bass";
      file.caches.base.created_by = "bobb";
      file.api_keys.deploy.owned_by = "carol";
      file.api_keys.deploy.organization = "x";
      file.api_keys["push key"].cache = "mani";
      file.workers.builder.organizations = ["acme", "globx"];
      file.workers.shared.created_by = "x";
    });
    await expect(list(problems)).toMatchFileSnapshot("./mistakes/references.txt");
  });

  test("integrations that the GitHub App makes need no entry", () => {
    const problems = saidOf((file) => {
      file.projects.web.triggers[1].integration = "github";
      file.projects.web.triggers[2].integration = "github-acme";
    });
    expect(problems).toEqual([]);
  });

  test("a mistake in one entry is not told again where the entry is referred to", async () => {
    const problems = saidOf((file) => {
      file.users.alice.email = "nowhere";
      file.organizations.acme.public = "yes";
    });
    await expect(list(problems)).toMatchFileSnapshot("./mistakes/told-once.txt");
  });

  test("nothing is declared twice", async () => {
    const problems = saidOf((file) => {
      file.users.second = { username: "ALICE", email: "second@example.com" };
      file.users.third = { email: "Bob@example.com" };
      file.organizations.second = { name: "acme", created_by: null };
      file.organizations.third = { id: file.organizations.acme.id.toUpperCase(), created_by: null };
      file.roles.second = { ...file.roles.deployer, name: "deployer" };
      file.integrations.second = { ...file.integrations.forge, name: "forge", secret_file: null };
      file.projects.second = { ...file.projects.web, name: "web", actions: [] };
      file.caches.second = { name: "main", created_by: null };
      file.caches.main.roles.push(file.caches.main.roles[0]);
      file.caches.main.upstreams.push(file.caches.main.upstreams[1]);
      file.caches.main.organizations.push("acme");
      file.caches.main.members.push({ user: "Bob", role: "Admin" });
      file.api_keys.second = { ...file.api_keys.deploy, name: "deploy", key_file: null };
      file.workers.second = { ...file.workers.builder, organizations: ["globex"], token_file: null };
      file.workers.third = { ...file.workers.shared, token_file: null };
      file.workers.builder.organizations.push("acme");
      file.organizations.acme.members.push({ user: "alice", role: "View" });
      file.projects.web.triggers.push({ type: "polling", config: { branch: "main", interval_secs: 60 } });
      file.projects.web.actions.push(file.projects.web.actions[1]);
    });
    await expect(list(problems)).toMatchFileSnapshot("./mistakes/twice.txt");
  });
});

describe("meanings", () => {
  test("permissions, addresses, patterns and schedules are what they should be", async () => {
    const problems = saidOf((file) => {
      file.roles.deployer.permissions = ["viewOrg", "triggerEvaluations"];
      file.caches.main.roles[0].permissions = ["viewOrg"];
      file.api_keys.deploy.permissions = ["viewCache"];
      file.api_keys.deploy.allowed_ips = ["10.0.0.0/33"];
      file.api_keys["push key"].permissions = ["viewOrg"];
      file.api_keys["push key"].organization = "acme";
      file.projects.web.repository = "file:///srv/web.git";
      file.projects.web.wildcard = "packages..*";
      file.projects.web.triggers[0].config.branch = "a..b";
      file.projects.web.triggers[3].config.cron = "30 4 * * *";
      file.projects.web.flake_input_overrides = {
        "9x": { url: "github:a/b" },
        both: { url: "github:a/b", keep_url: true },
        neither: {},
        local: { url: "path:/etc" },
      };
      file.projects.web.actions[0].config.url = "ftp://chat.example.com";
      file.projects.web.actions[0].events = ["evaluation.fail"];
      file.projects.web.actions[1].config.recipients = ["ops"];
      file.integrations["forge-out"].endpoint_url = "https://me:secret@forge.example.com";
      file.integrations.forge.forge_type = "github";
      file.workers.builder.url = "ftp://builder";
      file.workers.builder.authorize_against = "550e8400-e29b-41d4-a716-446655440009";
      file.caches.main.upstreams[1].url = "cache.nixos.org";
      file.caches.main.upstreams[1].public_key = "cache.nixos.org-1";
      file.caches.main.upstreams[2].url = "http://gradient.example.org";
      file.caches.main.upstreams[2].remote_cache = "..";
    });
    await expect(list(problems)).toMatchFileSnapshot("./mistakes/meanings.txt");
  });

  test("a project without any trigger does not name an empty list of them", async () => {
    const problems = saidOf((file) => {
      file.projects.web.triggers = [];
    });
    await expect(list(problems)).toMatchFileSnapshot("./mistakes/no-triggers.txt");
  });

  test("a worker works for somebody", async () => {
    const problems = saidOf((file) => {
      file.workers.builder.organizations = [];
      file.workers.shared.organizations = [];
    });
    await expect(list(problems)).toMatchFileSnapshot("./mistakes/nobodys-worker.txt");
  });

  test("a private cache is not laid open through a public one, and none rests on itself", async () => {
    const problems = saidOf((file) => {
      file.caches.main.public = true;
      file.caches.base.public = false;
      file.caches.base.upstreams = [{ type: "internal", cache_name: "base" }];
    });
    await expect(list(problems)).toMatchFileSnapshot("./mistakes/caches.txt");
  });

  test("a trigger that no forge fires has no integration, and one that a forge fires has one", async () => {
    const problems = saidOf((file) => {
      file.projects.web.triggers[0].integration = "forge";
      delete file.projects.web.triggers[1].integration;
      file.projects.web.triggers[3].config = null;
    });
    await expect(list(problems)).toMatchFileSnapshot("./mistakes/trigger-integrations.txt");
  });

  test("what the server cannot do yet is refused by its name", async () => {
    const problems = saidOf((file) => {
      file.projects.web.actions.push(
        { name: "status", type: "forge_status_report", config: { integration: "forge" } },
        { name: "update", type: "open_pr", config: { integration: "forge" } },
      );
    });
    await expect(list(problems)).toMatchFileSnapshot("./mistakes/not-yet.txt");
  });

  test("mail is refused where the server sends none, and let through where that is not known", async () => {
    await expect(list(problemsOf(everything(), { mailEnabled: false }))).toMatchFileSnapshot("./mistakes/mail.txt");
    expect(problemsOf(everything(), { mailEnabled: true })).toEqual([]);
  });

  test("places on the machine itself are for servers that allow them", () => {
    const file = everything();
    file.projects.web.repository = "file:///srv/web.git";
    file.projects.web.flake_input_overrides.nixpkgs.url = "path:/srv/nixpkgs";
    expect(problemsOf(file, { allowLocalSources: true })).toEqual([]);
  });

  test("two secrets are never read from one credential", async () => {
    const problems = saidOf((file) => {
      file.api_keys["push:key"] = { ...file.api_keys["push key"], name: "push:key" };
    });
    await expect(list(problems)).toMatchFileSnapshot("./mistakes/one-credential.txt");
  });
});
