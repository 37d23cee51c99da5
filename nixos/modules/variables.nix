# Options that are one variable of the environment each: an entry of such a table is what `mkOption` takes, and the
# variable's name without its prefix. Options and environment come from the same line and cannot drift apart.
{ lib }:
let
  inherit (lib) types;
  level = types.enum [
    "trace"
    "debug"
    "info"
    "warn"
    "error"
  ];

  text =
    value:
    if builtins.isBool value then
      lib.boolToString value
    else if builtins.isList value then
      lib.concatStringsSep "," value
    else
      toString value;

  # systemd expands percent signs in `Environment=`.
  escape = lib.replaceStrings [ "%" ] [ "%%" ];
in
rec {
  inherit level;

  # Variables that have their names already, for `systemd.services.<name>.environment`.
  escaped = lib.mapAttrs (_: value: escape (text value));

  # The kinds of entries.
  number = variable: default: min: max: description: {
    inherit variable default description;
    type = types.ints.between min max;
    example = if default * 2 > max then default else default * 2 + min;
  };
  seconds = variable: default: min: number variable default min 2592000;
  flag = variable: default: description: {
    inherit variable default description;
    type = types.bool;
    example = !default;
  };
  area = variable: what: {
    inherit variable;
    type = types.nullOr level;
    default = null;
    example = "debug";
    description = "Log level of ${what}; null is the default one.";
  };
  allAreas = {
    variable = "LOG_LEVEL";
    type = level;
    default = "info";
    example = "debug";
    description = "Log level of everything that has none of its own.";
  };

  # The options of a table.
  options = lib.mapAttrs (_: entry: lib.mkOption (builtins.removeAttrs entry [ "variable" ]));

  # `GRADIENT_*` for `systemd.services.<name>.environment`. Null is not set, and the program's own default holds.
  environment =
    values:
    lib.mapAttrs' (name: value: lib.nameValuePair "GRADIENT_${name}" (escape (text value))) (
      lib.filterAttrs (_: value: value != null) values
    );

  # What the options of a table are set to.
  environmentOf =
    table: values: environment (lib.mapAttrs' (name: entry: lib.nameValuePair entry.variable values.${name}) table);
}
