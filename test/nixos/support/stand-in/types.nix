# A type: its name, `check` for one definition, and `merge`, which takes the place and the definitions that hold.
{ modules }:
let
  inherit (builtins)
    all
    concatLists
    attrNames
    concatStringsSep
    elem
    filter
    foldl'
    head
    isAttrs
    isBool
    isInt
    isList
    isString
    length
    mapAttrs
    match
    substring
    ;
  inherit (modules)
    evalModules
    isDefined
    mergeDefinitions
    show
    ;

  type = name: check: merge: { inherit name check merge; };
  isDerivation = value: (value.type or null) == "derivation";
  isStringLike = value: isString value || builtins.isPath value || value ? outPath;

  equal =
    place: values:
    if all (value: value == head values) values then
      head values
    else
      throw "The option `${show place}' has conflicting definition values.";
  simple = name: check: type name check equal;
  text = simple "string" isString;
  number = name: check: simple name (value: isInt value && check value);

  anything =
    place: values:
    if all (value: isAttrs value && !isDerivation value) values then
      mapAttrs (
        name: _:
        mergeDefinitions (place ++ [ name ]) any (
          concatLists (map (value: if value ? ${name} then [ value.${name} ] else [ ]) values)
        )
      ) (foldl' (all': value: all' // value) { } values)
    else if length values == 1 then
      head values
    else
      equal place values;
  any = type "anything" (_: true) anything;
in
{
  anything = any;
  raw = type "raw value" (_: true) (_: head);
  bool = simple "boolean" isBool;
  str = text;
  lines = type "lines" isString (_: concatStringsSep "\n");
  int = number "integer" (_: true);
  port = number "port" (value: value >= 0 && value <= 65535);
  ints = {
    positive = number "positive integer" (value: value > 0);
    unsigned = number "unsigned integer" (value: value >= 0);
    between = least: most: number "integer between" (value: value >= least && value <= most);
  };
  strMatching = pattern: simple "string matching ${pattern}" (value: isString value && match pattern value != null);
  enum = choices: simple "one of" (value: elem value choices);
  package = simple "package" isDerivation;
  path = simple "path" (value: isStringLike value && substring 0 1 (toString value) == "/");
  externalPath = simple "path not in the Nix store" (
    value: isString value && substring 0 1 value == "/" && substring 0 11 value != "/nix/store/"
  );

  nullOr =
    element:
    type "null or ${element.name}" (value: value == null || element.check value) (
      place: values: if all (value: value == null) values then null else element.merge place values
    );

  either =
    left: right:
    type "${left.name} or ${right.name}" (value: left.check value || right.check value) (
      place: values: (if all left.check values then left else right).merge place values
    );

  listOf =
    element:
    type "list of ${element.name}" isList (
      place: values: map (value: mergeDefinitions place element [ value ]) (concatLists values)
    );

  attrsOf =
    element:
    type "attribute set of ${element.name}" isAttrs (
      place: values:
      let
        named = name: concatLists (map (value: if value ? ${name} then [ value.${name} ] else [ ]) values);
        all' = foldl' (all': value: all' // value) { } values;
        # A name whose definitions are all under conditions that do not hold is not there.
        absent = filter (name: !isDefined (named name)) (attrNames all');
      in
      mapAttrs (name: _: mergeDefinitions (place ++ [ name ]) element (named name)) (removeAttrs all' absent)
    );

  submodule =
    module:
    type "submodule" isAttrs (
      place: values:
      (evalModules {
        modules = [ module ] ++ map (value: { config = value; }) values;
        inherit place;
      }).config
    );
}
