# What serves what was built.
fields: with fields;
let
  modes = types.enum [
    "ReadWrite"
    "ReadOnly"
    "WriteOnly"
  ];
  mode = field (types.nullOr modes) null "ReadOnly" "What is done with it.";
  subscription = {
    name = required types.str "acme" "The organization.";
    inherit mode;
  };
  upstream = {
    type = required (types.enum [
      "internal"
      "external"
      "gradient_proto"
    ]) "external" "A cache of this server, a binary cache, or a cache of another Gradient.";
    inherit (head) display_name;
    cache_name = text "base" "The cache of this server.";
    url = text "https://cache.nixos.org" "Where it is.";
    public_key =
      text "cache.nixos.org-1:6NCHdD59X431o0gWypbMrAURkbJ16ZPMQFGspcDShjY=" "What its signatures are checked with.";
    remote_cache = text "main" "The cache's name at the other Gradient.";
    api_key_file = secret "/run/secrets/upstream" "File with an API key of the other Gradient.";
    has_api_key_file = kept "key";
    inherit mode;
  };
  role = {
    name = required types.str "uploader" "Its name.";
    permissions = required (types.listOf types.str) [ "readStore" ] "What it grants.";
  };
in
{
  caches = things {
    inherit (head) name display_name;
    description = field types.str "" "Everything of ours" "What people read about it.";
    active = flag true "Whether it serves.";
    public = flag false "Whether everybody may read it.";
    pull_through = flag false "Whether what upstreams have is kept here.";
    priority = field types.ints.unsigned 10 30 "Lower is asked first.";
    local_priority = number types.ints.unsigned 5 "The priority that clients in `settings.localIps` see.";
    max_storage_gb = field types.ints.unsigned 0 500 "Most of the disk, in GB; 0 is no limit.";
    signing_key_file =
      secret "/run/secrets/cache-key" "File with the secret key, as Nix writes it. Null: the server makes one.";
    organizations = field (types.listOf (types.either types.str (types.submodule { options = subscription; }))) [ ] [
      "acme"
    ] "Whose builds it serves: names, or names with a mode.";
    upstreams = field (types.nullOr (types.listOf (types.submodule { options = upstream; }))) null [
      {
        type = "internal";
        cache_name = "base";
      }
    ] "What it rests on; null is cache.nixos.org.";
    roles = list role [
      {
        name = "uploader";
        permissions = [ "readStore" ];
      }
    ] "Roles of this cache.";
    members = list member [
      {
        user = "alice";
        role = "Admin";
      }
    ] "Who may do something with it.";
    created_by = creator;
  } { main.created_by = "alice"; } "Binary caches.";
}
