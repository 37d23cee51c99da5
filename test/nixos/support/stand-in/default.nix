# A small stand-in for nixpkgs' `lib`: the functions, types and rules of the module system that our modules use, so that
# they can be evaluated where there is no nixpkgs. Where there is one, the same tests run against the real `lib`.
let
  strings = import ./strings.nix;
  types = import ./types.nix { inherit modules; };
  modules = import ./modules.nix { inherit lib; };
  inherit (builtins)
    attrNames
    concatMap
    filter
    listToAttrs
    mapAttrs
    ;
  lib =
    strings
    // modules
    // {
      inherit types;
      inherit (builtins)
        all
        any
        attrValues
        concatLists
        concatMap
        elem
        elemAt
        filter
        head
        length
        mapAttrs
        ;

      optional = condition: value: if condition then [ value ] else [ ];
      optionals = condition: values: if condition then values else [ ];
      optionalAttrs = condition: set: if condition then set else { };

      nameValuePair = name: value: { inherit name value; };
      mapAttrs' = function: set: listToAttrs (map (name: function name set.${name}) (attrNames set));
      mapAttrsToList = function: set: map (name: function name set.${name}) (attrNames set);
      filterAttrs =
        wanted: set: removeAttrs set (filter (name: !wanted name set.${name}) (attrNames set));
      genAttrs =
        names: function:
        listToAttrs (
          map (name: {
            inherit name;
            value = function name;
          }) names
        );
      isDerivation = value: (value.type or null) == "derivation";
    };
in
lib
