# Who is there: users, organizations, roles, API keys, and what connects from outside.
fields: with fields; {
  users = things {
    username = text "alice" "The name to sign in with; null is the attribute's key.";
    name = text "Alice Example" "The name that people read; null is the user name.";
    email = required types.str "alice@example.com" "Address for mails.";
    password_file = secret "/run/secrets/alice" "File with the password's Argon2 hash (PHC). Null: no password.";
    has_password_file = kept "password";
    email_verified = flag true "Whether the address is known to be theirs.";
    superuser = flag false "Whether they may manage the whole instance.";
  } { alice.email = "alice@example.com"; } "People with an account.";

  organizations = things {
    inherit (head) name display_name;
    description = field types.str "" "Makes everything" "What people read about it.";
    id = text "0193b1a0-0000-7000-8000-0000000000aa" "A UUID. With it, another name is another name of the same.";
    private_key_file =
      secret "/run/secrets/acme-ssh" "OpenSSH key without a passphrase, for repositories. Null: the server makes one.";
    public = flag false "Whether everybody may see it.";
    hide_build_requests = flag false "Whether build requests are left out of what is shown.";
    created_by = creator;
    members = list member [
      {
        user = "alice";
        role = "Admin";
      }
    ] "With any, nobody else is a member.";
  } { acme.created_by = "alice"; } "Organizations, which everything else belongs to.";

  roles = things {
    name = text "deployer" "Its name; null is the attribute's key. Not Admin, Write or View.";
    organization = required types.str "acme" "Where the role is.";
    permissions = required (types.listOf types.str) [ "viewOrg" ] "What it grants.";
    oidc_group = names [ "ops" ] "Groups of the OpenID provider whose members have the role.";
    scim_group = names [ "ops" ] "Groups of SCIM whose members have the role.";
  } {
    deployer = {
      organization = "acme";
      permissions = [ "viewOrg" ];
    };
  } "Roles beside Admin, Write and View.";

  api_keys = things {
    name = text "ci" "Its name; null is the attribute's key.";
    owned_by = required types.str "alice" "Whose key it is.";
    key_file =
      required (types.nullOr types.externalPath) "/run/secrets/key" ''
        File with the 64 hex digits of the key's SHA-256, without GRAD. Null: the server has it.
      '';
    permissions = required (types.listOf types.str) [ "viewOrg" ] "What it may do: of organizations, or of `cache`.";
    organization = text "acme" "The organization that it is for; null is all of its owner's.";
    cache = text "main" "The cache that it is for.";
    allowed_ips = names [ "10.0.0.0/8" ] "Where it may be used from; none is from everywhere.";
    expires_at = text "2030-01-31T00:00:00Z" "When it ends.";
  } {
    ci = {
      owned_by = "alice";
      key_file = "/run/secrets/key";
      permissions = [ "viewOrg" ];
    };
  } "API keys.";

  integrations = things {
    inherit (head) name display_name;
    organization = required types.str "acme" "Where it is.";
    created_by = creator;
    kind = required (types.enum [
      "inbound"
      "outbound"
    ]) "inbound" "Whether the forge calls the server, or the server the forge.";
    forge_type = required (types.enum [
      "gitea"
      "forgejo"
      "gitlab"
      "github"
    ]) "forgejo" "What kind of forge it is.";
    secret_file = secret "/run/secrets/forge-hook" "File with the webhook's secret.";
    has_secret_file = kept "secret";
    access_token_file = secret "/run/secrets/forge-token" "File with the access token.";
    has_access_token_file = kept "token";
    endpoint_url = text "https://forge.example.com" "The forge's address.";
    account_login = text "acme" "The account at the forge.";
    installation_id = number types.ints.positive 42 "Of the GitHub App; required for github.";
  } {
    forge = {
      organization = "acme";
      kind = "inbound";
      forge_type = "forgejo";
      created_by = "alice";
    };
  } "Forges that organizations work with.";

  workers = things {
    worker_id = required types.str "550e8400-e29b-41d4-a716-446655440001" "The worker's UUID (version 4).";
    display_name = text "Builder 1" "The name that people read; null is the attribute's key.";
    url = text "wss://builder.example.com/proto" "Where the server dials the worker.";
    organizations = names [ "acme" ] "Whom it works for; of a base worker, those that begin with it.";
    token_file = required (types.nullOr types.externalPath) "/run/secrets/builder" ''
      File with its token, base64 of 48 bytes. Null: the server has it.
    '';
    created_by = creator;
    base_worker = flag false "Whether every organization may use it.";
    authorize_against =
      text "0193b1a0-0000-7000-8000-0000000000bb" "One peer that stands for all organizations of a base worker.";
    enabled = flag true "Whether it gets jobs.";
    enable_fetch = flag true "Whether it fetches.";
    enable_eval = flag true "Whether it evaluates.";
    enable_build = flag true "Whether it builds.";
  } {
    builder = {
      worker_id = "550e8400-e29b-41d4-a716-446655440001";
      organizations = [ "acme" ];
      token_file = "/run/secrets/builder";
      created_by = "alice";
    };
  } "Workers that are registered.";
}
