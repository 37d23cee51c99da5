# The secrets that the state names, by the names of systemd credentials under which the server looks for them:
# core/services/state-secrets.ts has the same list, and a test compares the two.
{ lib }:
state:
let
  byte = offset: json: builtins.substring offset 1 (builtins.fromJSON json);
  continuation = {
    first = byte 1 ''"\u0080"'';
    last = byte 1 ''"\u00bf"'';
  };
  leadOfFour = byte 0 ''"\ud800\udc00"'';

  # What may not be in the name of a file is a dash: one for each UTF-16 unit, as the server counts. Nix sees bytes.
  clean = name: lib.concatMapStrings cleanByte (lib.stringToCharacters name);
  cleanByte =
    character:
    if builtins.match "[A-Za-z0-9._@+-]" character != null then
      character
    else if character >= continuation.first && character <= continuation.last then
      ""
    else if character >= leadOfFour then
      "--"
    else
      "-";
  credential =
    kind: names: what: file:
    lib.optional (file != null) {
      name = lib.concatStringsSep "_" ([ "gradient" kind ] ++ map clean names ++ [ what ]);
      value = file;
    };
  nameOf = key: entry: if entry.name == null then key else entry.name;
  of = part: function: lib.concatLists (lib.mapAttrsToList function state.${part});

  ofUser =
    key: entry:
    credential "user" [ (if entry.username == null then key else entry.username) ] "password" entry.password_file;
  ofOrganization = key: entry: credential "org" [ (nameOf key entry) ] "private_key" entry.private_key_file;
  ofIntegration =
    key: entry:
    let
      names = [
        entry.organization
        entry.kind
        (nameOf key entry)
      ];
    in
    credential "integration" names "secret" entry.secret_file
    ++ credential "integration" names "token" entry.access_token_file;
  ofProject =
    key: entry:
    lib.concatMap (
      action:
      lib.optionals (action.type == "send_web_request") (
        credential "action" [
          entry.organization
          (nameOf key entry)
          action.name
        ] "token" (action.config.token_file or null)
      )
    ) entry.actions;
  ofCache =
    key: entry:
    let
      name = nameOf key entry;
      ofUpstream =
        upstream:
        lib.optionals (upstream.type == "gradient_proto") (
          credential "upstream" [
            name
            (toString upstream.url)
            (toString upstream.remote_cache)
          ] "key" upstream.api_key_file
        );
    in
    credential "cache" [ name ] "signing_key" entry.signing_key_file
    ++ lib.concatMap ofUpstream (if entry.upstreams == null then [ ] else entry.upstreams);
  ofKey =
    key: entry:
    credential "api" [
      entry.owned_by
      (nameOf key entry)
    ] "key" entry.key_file;
  ofWorker = _: entry: credential "worker" [ (lib.toLower entry.worker_id) ] "token" entry.token_file;
in
builtins.listToAttrs (
  of "users" ofUser
  ++ of "organizations" ofOrganization
  ++ of "integrations" ofIntegration
  ++ of "projects" ofProject
  ++ of "caches" ofCache
  ++ of "api_keys" ofKey
  ++ of "workers" ofWorker
)
