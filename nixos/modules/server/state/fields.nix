# The kinds of fields that declared things are made of. An empty (null) field is the server's default.
{ lib }:
let
  inherit (lib) mkOption types;
in
rec {
  inherit types;

  field = type: default: example: description: mkOption {
    inherit type default example description;
  };

  required = type: example: description: mkOption {
    inherit type example description;
  };

  text = field (types.nullOr types.str) null;
  number = type: field (types.nullOr type) null;
  flag = default: description: field types.bool default (!default) description;
  names = field (types.listOf types.str) [ ];
  secret = field (types.nullOr types.externalPath) null;
  kept = what: flag false "Without a path: whether the server keeps the ${what} that it has.";
  creator = required (types.nullOr types.str) "alice" "Who made it: a user of this state, or null.";

  list = options: field (types.listOf (types.submodule { inherit options; })) [ ];

  # Things by their names; the key is the name where an entry says none.
  things = options: example: description: mkOption {
    type = types.attrsOf (types.submodule { inherit options; });
    default = { };
    inherit example description;
  };

  head = {
    name = text "main" "Its name; null is the attribute's key.";
    display_name = text "Main" "The name that people read; null is the name.";
  };

  member = {
    user = required types.str "alice" "A user's name, also of somebody who has no account yet.";
    role = required types.str "Write" "Admin, Write, View or a role of your own.";
  };
}
