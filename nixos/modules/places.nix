# Which addresses and folders the units can do something with, and what is wrong with others.
{ lib }:
let
  octet = "(25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])";
  ipv4 = "${octet}(\\.${octet}){3}";
  ipv6 = "([0-9A-Fa-f]{0,4}:){2,7}([0-9A-Fa-f]{0,4}|${ipv4})";
  ipv4Length = "([12]?[0-9]|3[0-2])";
  ipv6Length = "([1-9]?[0-9]|1[01][0-9]|12[0-8])";
  is = pattern: text: builtins.match pattern text != null;
  isAddress = is "(${ipv4}|${ipv6})";
  isNetwork = is "[[:space:]]*(${ipv4}(/${ipv4Length})?|${ipv6}(/${ipv6Length})?)?[[:space:]]*";

  # ProtectHome and PrivateTmp of hardening.nix.
  hidden = seesHomes: lib.optionals (!seesHomes) [ "/home" "/root" "/run/user" ] ++ [ "/tmp" "/var/tmp" ];
in
{
  # Whether what listens on the first takes connections to the second.
  listensOn =
    listenAddr: address:
    listenAddr == address
    || listenAddr == "::"
    || listenAddr == "0.0.0.0" && !lib.hasInfix ":" address;

  address = name: value: {
    assertion = isAddress value;
    message = "${name} must be an IP address such as 127.0.0.1 or ::, and not ${value}.";
  };

  # With commas between them, or a list.
  networks =
    name: value:
    let
      given = if builtins.isList value then value else lib.splitString "," value;
      wrong = lib.filter (one: !isNetwork one) given;
    in
    {
      assertion = wrong == [ ];
      message = "${name} holds what is no network such as 10.0.0.0/8 or ::1/128: ${lib.concatStringsSep ", " wrong}.";
    };

  # Of folders that a unit works in.
  folder =
    { seesHomes }:
    name: path:
    let
      around = lib.filter (place: path == place || lib.hasPrefix "${place}/" path) (hidden seesHomes);
    in
    [
      {
        assertion = is "/[A-Za-z0-9._+@/-]*" path;
        message =
          "${name} may hold letters, digits and . _ + @ - / alone: "
          + "systemd and nginx read other characters in ways of their own.";
      }
      {
        assertion = around == [ ];
        message =
          "${name} lies below ${lib.concatStringsSep " and " around}, of which the unit sees nothing: "
          + "choose another folder, such as one below /var/lib or /srv.";
      }
    ];
}
