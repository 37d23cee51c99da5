let
  inherit (builtins)
    concatStringsSep
    genList
    replaceStrings
    stringLength
    substring
    ;
  characters = text: genList (index: substring index 1 text) (stringLength text);
  lower = characters "abcdefghijklmnopqrstuvwxyz";
  upper = characters "ABCDEFGHIJKLMNOPQRSTUVWXYZ";
  # Of a separator that is one character.
  escaped = character: "[${character}]";
  hasPrefix = prefix: text: substring 0 (stringLength prefix) text == prefix;
in
{
  inherit concatStringsSep hasPrefix replaceStrings;
  stringToCharacters = characters;
  toLower = replaceStrings upper lower;
  toUpper = replaceStrings lower upper;
  hasSuffix =
    suffix: text:
    let
      start = stringLength text - stringLength suffix;
    in
    start >= 0 && substring start (-1) text == suffix;
  hasInfix = infix: text: replaceStrings [ infix ] [ "" ] text != text;
  concatStrings = concatStringsSep "";
  concatMapStrings = function: list: concatStringsSep "" (map function list);
  optionalString = condition: text: if condition then text else "";
  boolToString = value: if value then "true" else "false";
  versionAtLeast = version: least: builtins.compareVersions version least >= 0;
  escapeShellArg = text: "'${replaceStrings [ "'" ] [ "'\\''" ] text}'";
  splitString = separator: text: builtins.filter builtins.isString (builtins.split (escaped separator) text);
  literalExpression = text: {
    _type = "literalExpression";
    inherit text;
  };
  literalMD = text: {
    _type = "literalMD";
    inherit text;
  };
}
