# The rules by which modules become one configuration: imports, options, definitions with conditions and priorities.
{ lib }:
let
  inherit (builtins)
    attrNames
    concatMap
    concatStringsSep
    elem
    filter
    foldl'
    functionArgs
    head
    intersectAttrs
    isAttrs
    isFunction
    mapAttrs
    tail
    ;

  priorities = {
    force = 50;
    plain = 100;
    default = 1000;
    option = 1500;
  };
  override = priority: content: {
    _type = "override";
    inherit priority content;
  };
  kindOf = value: if isAttrs value then value._type or null else null;
  isOption = value: kindOf value == "option";
  atPath = path: value: if path == [ ] then value else { ${head path} = atPath (tail path) value; };
  fromPath = path: set: if path == [ ] then set else fromPath (tail path) set.${head path};

  show = concatStringsSep ".";

  # Conditions move to each attribute, so that which attributes there are depends on none of them.
  setsOf =
    value:
    let
      inside = wrap: map (mapAttrs (_: wrap)) (setsOf value.content);
    in
    if kindOf value == "merge" then
      concatMap setsOf value.contents
    else if kindOf value == "if" then
      inside (mkIf value.condition)
    else if kindOf value == "override" then
      inside (override value.priority)
    else
      [ value ];

  # What holds of a definition, with its priority.
  held =
    priority: value:
    if kindOf value == "merge" then
      concatMap (held priority) value.contents
    else if kindOf value == "if" then
      (if value.condition then held priority value.content else [ ])
    else if kindOf value == "override" then
      held value.priority value.content
    else
      [ { inherit priority value; } ];

  strongest =
    definitions:
    let
      least = foldl' (a: { priority, ... }: if priority < a then priority else a) 9999 definitions;
    in
    map ({ value, ... }: value) (filter ({ priority, ... }: priority == least) definitions);

  mergeHeld =
    place: type: definitions:
    let
      values = strongest definitions;
      wrong = filter (value: !type.check value) values;
    in
    if definitions == [ ] then
      throw "The option `${show place}' was accessed but has no value defined."
    else if wrong != [ ] then
      throw "A definition for option `${show place}' is not of type `${type.name}'."
    else
      type.merge place values;
  mergeDefinitions = place: type: definitions: mergeHeld place type (concatMap (held priorities.plain) definitions);

  isDefined = definitions: concatMap (held priorities.plain) definitions != [ ];

  # A module with its imports, in the order of the imports; a file counts once.
  collect =
    arguments: seen: modules:
    foldl' (
      state: module:
      let
        isFile = builtins.isPath module || builtins.isString module;
        key = toString module;
        loaded = if isFile then import module else module;
        formals = functionArgs loaded;
        called =
          if !isFunction loaded then
            loaded
          else
            loaded (if formals == { } then arguments else intersectAttrs formals arguments);
        isLong = called ? config || called ? options;
        one = {
          options = called.options or { };
          config = if isLong then called.config or { } else removeAttrs called [ "imports" ];
        };
        below = collect arguments (state.seen ++ lib.optional isFile key) (called.imports or [ ]);
      in
      if isFile && elem key state.seen then
        state
      else
        {
          inherit (below) seen;
          found = state.found ++ below.found ++ [ one ];
        }
    ) {
      inherit seen;
      found = [ ];
    } modules;

  mergeOptions =
    place: trees:
    if builtins.length trees == 1 && isOption (head trees) then
      head trees
    else if builtins.any isOption trees then
      throw "The option `${show place}' is declared twice."
    else
      mapAttrs (
        name: _: mergeOptions (place ++ [ name ]) (concatMap (tree: lib.optional (tree ? ${name}) tree.${name}) trees)
      ) (foldl' (all: tree: all // tree) { } trees);

  # Every option with its definitions and value.
  evaluate =
    place: tree: definitions:
    if isOption tree then
      let
        given = concatMap (held priorities.plain) definitions;
        default = lib.optional (tree ? default) {
          priority = priorities.option;
          value = tree.default;
        };
        isSet = given != [ ];
      in
      tree
      // {
        isDefined = isSet;
        definitions = strongest given;
        value =
          if (tree.readOnly or false) && isSet then
            throw "The option `${show place}' is read-only, but it is set."
          else
            mergeHeld place (tree.type or lib.types.anything) (default ++ given);
      }
    else
      mapAttrs (name: subtree: evaluate (place ++ [ name ]) subtree (below name definitions)) tree;

  below = name: definitions: concatMap (set: lib.optional (set ? ${name}) set.${name}) (concatMap setsOf definitions);

  # The values alone. That nothing is defined beyond the options is seen here: modules may ask which options there are
  # before they define anything.
  valuesOf =
    place: tree: definitions:
    if isOption tree then
      tree.value
    else
      let
        unknown = filter (name: !(tree ? ${name})) (concatMap attrNames (concatMap setsOf definitions));
      in
      if unknown != [ ] then
        throw "The option `${show (place ++ [ (head unknown) ])}' does not exist."
      else
        mapAttrs (name: subtree: valuesOf (place ++ [ name ]) subtree (below name definitions)) tree;

  mkIf = condition: content: {
    _type = "if";
    inherit condition content;
  };
in
{
  inherit
    isDefined
    mergeDefinitions
    mkIf
    show
    ;

  evalModules =
    {
      modules,
      specialArgs ? { },
      place ? [ ],
    }:
    let
      inherit (collect (specialArgs // { inherit config lib options; }) [ ] modules) found;
      definitions = map (one: one.config) found;
      options = evaluate place (mergeOptions place (map (one: one.options) found)) definitions;
      config = valuesOf place options definitions;
    in
    {
      inherit config options;
    };

  mkOption = option: option // { _type = "option"; };
  mkEnableOption =
    what:
    lib.mkOption {
      type = lib.types.bool;
      default = false;
      example = true;
      description = "Whether to enable ${what}.";
    };
  mkMerge = contents: {
    _type = "merge";
    inherit contents;
  };
  mkDefault = override priorities.default;
  mkForce = override priorities.force;

  mkRenamedOptionModule =
    from: to:
    { options, ... }:
    let
      old = fromPath from options;
    in
    {
      options = atPath from (lib.mkOption { description = "Another name of `${show to}`."; });
      config = lib.mkMerge [
        (atPath to (mkIf old.isDefined (lib.mkMerge old.definitions)))
        { warnings = lib.optional old.isDefined "The option `${show from}' has been renamed to `${show to}'."; }
      ];
    };
}
